"""Keeps of a CycloneDX document what cargo builds, and nothing else: `cargo tree --prefix none --format {p}` is on standard input. cargo-cyclonedx lists crates of features that are
off, too. A crate that the document lacks, or has no licence of, is an error."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(path: str) -> None:
    # Where it was made is nobody's business, and differs.
    document = json.loads(Path(path).read_text().replace(f"path+file://{Path.cwd()}#", ""))
    # `name v1.2.3 (origin) (*)`; the first is the package itself.
    package, *rest = [tuple(line.split()[:2]) for line in sys.stdin if line.strip()]
    built = {(name, version.removeprefix("v")) for name, version in rest if (name, version) != package}
    components = [part for part in document["components"] if (part["name"], part["version"]) in built]
    missing = built - {(part["name"], part["version"]) for part in components}
    if missing:
        raise SystemExit(f"{path} lacks {sorted(missing)}")
    unlicensed = [part["name"] for part in components if not part.get("licenses")]
    if unlicensed:
        raise SystemExit(f"{path} has no licence of {unlicensed}")
    references = {part["bom-ref"] for part in components} | {document["metadata"]["component"]["bom-ref"]}
    edges = [edge for edge in document["dependencies"] if edge["ref"] in references]
    for edge in edges:
        edge["dependsOn"] = [reference for reference in edge.get("dependsOn", []) if reference in references]
    document |= {"components": components, "dependencies": edges}
    Path(path).write_text(json.dumps(document, indent=2) + "\n")
    print(f"{path}: {len(components)} crates")


if __name__ == "__main__":
    main(sys.argv[1])
