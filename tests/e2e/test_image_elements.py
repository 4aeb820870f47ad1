"""The elements, as far as they can be judged without a build: `test_image.py` builds one image. For Fedora's family nothing can be built on the test machines."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml
from bench.session import REPOSITORY

ELEMENTS = sorted(path for path in (REPOSITORY / "elements").iterdir() if path.is_dir())
SCRIPTS = sorted(path for element in ELEMENTS for path in element.glob("*.d/*"))
DATASTORES = {"mysql", "mariadb", "percona", "postgresql", "redis", "mongodb"}
# Elements of diskimage-builder itself.
BUILDERS = {"cloud-init-datasources", "package-installs", "pkg-map", "svc-map"}


def test_there_is_one_for_the_agent_and_one_a_datastore() -> None:
    assert {path.name for path in ELEMENTS} == {"trove-guestagent", "trove-package-source"} | {f"trove-{name}" for name in DATASTORES}


@pytest.mark.parametrize("element", ELEMENTS, ids=lambda path: path.name)
def test_an_element_has_what_the_builder_reads(element: Path) -> None:
    depends = set((element / "element-deps").read_text().split())
    assert depends <= BUILDERS | {path.name for path in ELEMENTS}
    packages = yaml.safe_load((element / "package-installs.yaml").read_text())
    assert packages
    assert (element / "README.md").read_text().startswith(f"# {element.name}\n")
    if (element / "pkg-map").exists():
        mapped = json.loads((element / "pkg-map").read_text())
        names = {name for families in (mapped.get("family", {}), mapped.get("distro", {})) for names in families.values() for name in names}
        assert names | set(mapped.get("default", {})) <= set(packages)
    if element.name != "trove-package-source":
        assert element.name in yaml.safe_load((element / "svc-map").read_text())
        assert {"svc-map", "pkg-map"} <= depends
    if element.name.removeprefix("trove-") in DATASTORES:
        assert {"trove-guestagent", "trove-package-source"} <= depends


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(REPOSITORY / "elements")))
def test_a_script_stops_at_its_first_error_and_needs_no_sudo(script: Path) -> None:
    text = script.read_text()
    checked = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "sudo" not in text
    # Variables are sourced; everything else is run.
    if script.parent.name == "environment.d":
        assert script.name.endswith(".bash") and text.count("export ") == text.count(":-")
    else:
        assert os.access(script, os.X_OK)
        assert text.startswith("#!/bin/bash\n") and "\nset -eu\nset -o pipefail\n" in text


def test_nothing_is_compiled_in_an_image() -> None:
    wanted = {name for element in ELEMENTS for name in yaml.safe_load((element / "package-installs.yaml").read_text())}
    assert not {name for name in wanted if name.endswith("-dev") or name in {"build-essential", "gcc", "cargo", "rustc", "git"}}
