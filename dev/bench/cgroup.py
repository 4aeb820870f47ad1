"""A control group of its own for each container, so that several of them do not meet in the bench's own group."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from .waiting import wait_until

MOUNT = Path("/sys/fs/cgroup")


class Group:
    """On a machine run by systemd, a delegated scope is asked for; elsewhere directories are made by hand."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._systemd = Path("/run/systemd/system").is_dir()
        self._directories = [] if self._systemd else [parent / name for parent in _hierarchies()]

    def prefix(self) -> list[str]:
        if not self._systemd:
            return []
        return ["systemd-run", "--scope", "--quiet", "--property=Delegate=yes", f"--unit=bench-{self._name}"]

    def create(self) -> None:
        for directory in self._directories:
            directory.mkdir(exist_ok=True)

    def enter(self) -> None:
        """Runs in the child, before it becomes the container's manager."""
        for directory in self._directories:
            (directory / "cgroup.procs").write_text(str(os.getpid()))

    def remove(self) -> None:
        for directory in self._directories:
            if directory.is_dir():
                wait_until(f"{directory} to be empty", lambda top=directory: _remove_tree(top), 10)


def _hierarchies() -> list[Path]:
    """The hierarchies that systemd looks at: the unified one, and with cgroup v1 also the named one."""
    if (MOUNT / "cgroup.controllers").exists():
        return [MOUNT]
    return [path for path in (MOUNT / "unified", MOUNT / "systemd") if (path / "cgroup.procs").exists()]


def _remove_tree(top: Path) -> bool:
    for directory, _, _ in os.walk(top, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(directory)
    return not top.exists()
