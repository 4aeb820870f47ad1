"""Compares a CycloneDX document with the crates that cargo resolves: `cargo tree --prefix none --format {p}` on standard input."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(path: str) -> None:
    document = json.loads(Path(path).read_text())
    # `name v1.2.3 (origin) (*)`; the first is the package itself.
    lines = [line.split() for line in sys.stdin if line.strip()]
    resolved = {(words[0], words[1].removeprefix("v")) for words in lines[1:]} - {(lines[0][0], lines[0][1].removeprefix("v"))}
    listed = {(component["name"], component["version"]) for component in document["components"]}
    if resolved != listed:
        raise SystemExit(f"{path} lacks {sorted(resolved - listed)} and has too much: {sorted(listed - resolved)}")
    unlicensed = [component["name"] for component in document["components"] if not component.get("licenses")]
    if unlicensed:
        raise SystemExit(f"{path} has no licence for {unlicensed}")
    print(f"{path}: {len(listed)} crates")


if __name__ == "__main__":
    main(sys.argv[1])
