"""The packages of this tree, made once a run of the debug build, which the other tests use, too."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from bench.command import run
from bench.session import REPOSITORY

PACKAGE_SECONDS = 900.0


class Packages:
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def make(self, *arguments: str) -> Path:
        """One package, by `dev/package`."""
        command = [str(REPOSITORY / "dev/package"), "--debug", "--output", str(self._directory), *arguments]
        return Path(run(command, PACKAGE_SECONDS).strip())

    @cached_property
    def deb(self) -> Path:
        return self.make("deb")

    @cached_property
    def rpm(self) -> Path:
        return self.make("rpm")

    @cached_property
    def sbom(self) -> Path:
        return self.make("sbom")
