"""diskimage-builder's own tools, at work on the elements of this tree."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from functools import cached_property
from pathlib import Path

import yaml
from bench import image
from bench.command import run, run_full

PHASES = ("pre-install.d", "install.d", "post-install.d")
HOOKS = "/tmp/in_target.d"
SCRIPT_SECONDS = 180.0


class Builder:
    """Of an image of one distribution with `elements`, and with what these depend on."""

    def __init__(self, distribution: str, base: str, *elements: str) -> None:
        self.distribution = distribution
        self._asked = (base, *elements)
        self.venv = image.builder()
        self._own = image.ELEMENTS
        (self.theirs,) = self.venv.glob("lib/python3*/site-packages/diskimage_builder/elements")

    @cached_property
    def elements(self) -> dict[str, str]:
        """Every element of the image, and its directory; that there is one, and one only, of each, is judged by the builder."""
        # As disk-image-create does: `vm` alone means the boot sector of old.
        wanted = [*self._asked, "block-device-mbr"] if "vm" in self._asked else list(self._asked)
        script = "import json, sys; from diskimage_builder import element_dependencies as e; print(json.dumps(dict(e.get_elements(sys.argv[1:]))))"
        argv = ["env", f"ELEMENTS_PATH={self._path}", str(self.venv / "bin/python"), "-c", script, *wanted]
        return json.loads(run(argv))

    @property
    def _path(self) -> str:
        return f"{self._own}:{self.theirs}"

    @property
    def own(self) -> list[str]:
        """Those of this tree."""
        return sorted(name for name in self.elements if (self._own / name).is_dir())

    def squashed(self, output: Path) -> dict[str, dict[str, list[list[str]]]]:
        """What package-installs makes of the lists of this tree's elements: by phase, what is installed and for whom. Also written to `output`."""
        tool = self.theirs / "package-installs/bin/package-installs-squash"
        run([str(self.venv / "bin/python"), str(tool), "--elements", " ".join(self.own), "--path", self._path, str(output)])
        return json.loads(output.read_text())

    def packages(self, output: Path) -> dict[str, set[str]]:
        """The distribution's names, by pkg-map, of the packages that each element of this tree installs."""
        asked: dict[str, list[str]] = {}
        for phase in self.squashed(output).values():
            for package, element in phase["install"]:
                asked.setdefault(element, []).append(package)
        return {element: self._mapped(element, packages) for element, packages in asked.items()}

    def _mapped(self, element: str, packages: list[str]) -> set[str]:
        mapping = self._own / element / "pkg-map"
        if not mapping.exists():
            return set(packages)
        tool = self.theirs / "pkg-map/bin/pkg-map"
        # Like package-installs-v2, which lets names that are the same everywhere through.
        argv = [str(tool), "--pkg-map", str(mapping), "--distro", self.distribution, "--missing-ok", *packages]
        return set(run([str(self.venv / "bin/python"), *argv]).split())

    def services(self, root: Path) -> dict[str, str]:
        """The distribution's names of services, which svc-map merges into `root`."""
        (root / "tmp").mkdir(exist_ok=True)
        elements = {name: str(self._own / name) for name in self.own}
        environment = {**os.environ, "IMAGE_ELEMENT_YAML": yaml.safe_dump(elements), "DISTRO_NAME": self.distribution, "TMP_MOUNT_PATH": str(root)}
        tool = self.theirs / "svc-map/extra-data.d/10-merge-svc-map-files"
        subprocess.run([str(self.venv / "bin/python"), str(tool)], env=environment, timeout=60, check=True)
        return yaml.safe_load((root / "tmp/svc-map-services").read_text())


class Chroot:
    """A tree in which the scripts of the elements run in the builder's order, by its own tools: as in the image, but for the elements of the builder itself,
    which were run when the tree was built; package-installs' are run."""

    def __init__(self, root: Path, builder: Builder) -> None:
        self.root, self._builder = root, builder
        hooks = self._inside(HOOKS)
        hooks.mkdir(parents=True)
        programs = self._inside("/usr/local/bin")
        for element in ("dpkg", "package-installs", "pkg-map", "svc-map"):
            for program in (builder.theirs / element / "bin").iterdir():
                shutil.copy(program, programs)
        maps = self._inside("/usr/share/pkg-map")
        maps.mkdir(parents=True, exist_ok=True)
        for element in builder.own:
            if (image.ELEMENTS / element / "pkg-map").exists():
                shutil.copy(image.ELEMENTS / element / "pkg-map", maps / element)
        builder.squashed(self._inside("/tmp/package-installs.json"))
        builder.services(root)
        services = self._inside("/usr/share/svc-map")
        services.mkdir(parents=True, exist_ok=True)
        shutil.copy(self._inside("/tmp/svc-map-services"), services / "services")

    def _inside(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def build(self, variables: dict[str, str]) -> None:
        """All phases. The first script that fails raises, with what it said."""
        exported = self._environment(variables)
        for script in self._scripts("extra-data.d"):
            run(["env", *exported, f"TMP_HOOKS_PATH={self._inside(HOOKS)}", str(script)])
        for phase in PHASES:
            for script in self._scripts(phase, self._builder.theirs / "package-installs"):
                shutil.copy(script, self._inside("/tmp/script"))
                self.run(["/tmp/script"], exported)

    def _scripts(self, phase: str, *more: Path) -> list[Path]:
        """Of all elements, by name, like dib-run-parts."""
        elements = [*(image.ELEMENTS / name for name in self._builder.own), *more]
        return sorted((path for element in elements for path in element.glob(f"{phase}/*")), key=lambda path: path.name)

    def _environment(self, variables: dict[str, str]) -> list[str]:
        """What `environment.d` makes of the operator's variables."""
        given = [f"{name}={value}" for name, value in {"DISTRO_NAME": self._builder.distribution, **variables}.items()]
        sources = [str(path) for path in self._scripts("environment.d")]
        script = 'for file; do . "$file"; done; export -p'
        lines = run(["env", "-i", *given, "bash", "-euc", script, "environment", *sources]).splitlines()
        pairs = (line.removeprefix("declare -x ").partition("=") for line in lines)
        kept = ((name, value) for name, _, value in pairs if name.startswith("DIB_") or name == "DISTRO_NAME")
        return [f"{name}={value[1:-1]}" for name, value in kept]

    def run(self, argv: list[str], exported: list[str] | None = None, check: bool = True) -> str:
        paths = "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        command = ["chroot", str(self.root), "env", "-i", paths, "HOME=/root", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", *(exported or []), *argv]
        done = run_full(command, SCRIPT_SECONDS, check=check)
        return done.stdout + done.stderr
