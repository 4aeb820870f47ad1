"""A control group of its own for each container, so that several of them do not meet in the bench's own group, and so that one can be held short."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from .command import run
from .waiting import wait_until

MOUNT = Path("/sys/fs/cgroup")
CPU_PERIOD_US = 100_000


class Group:
    """On a machine run by systemd, a delegated scope is asked for; elsewhere directories are made by hand."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._systemd = Path("/run/systemd/system").is_dir()
        self._directories = [] if self._systemd else [parent / name for parent in _hierarchies()]

    def prefix(self) -> list[str]:
        if not self._systemd:
            return []
        return ["systemd-run", "--scope", "--quiet", "--property=Delegate=yes", f"--unit={self._scope}"]

    @property
    def _scope(self) -> str:
        return f"bench-{self._name}.scope"

    def limit_cpu(self, share: float | None) -> None:
        """At most that much of one CPU for everything inside; `None` for as much as there is."""
        quota = int(share * CPU_PERIOD_US) if share else None
        if self._systemd:
            run(["systemctl", "set-property", "--runtime", self._scope, f"CPUQuota={f'{share:.0%}' if share else ''}"])
        elif _unified():
            self._set(MOUNT, "cpu.max", f"{quota or 'max'} {CPU_PERIOD_US}")
        else:
            self._set(MOUNT / "cpu", "cpu.cfs_quota_us", str(quota or -1))

    def limit_memory(self, size: int | None) -> None:
        """At most that many bytes for everything inside; `None` for as much as there is."""
        if self._systemd:
            run(["systemctl", "set-property", "--runtime", self._scope, f"MemoryMax={size or 'infinity'}"])
        elif _unified():
            self._set(MOUNT, "memory.max", str(size or "max"))
        else:
            self._set(MOUNT / "memory", "memory.limit_in_bytes", str(size or -1))

    def memory_in_use(self) -> int:
        """Bytes that cannot be had back by dropping cached files."""
        directory = self._systemd_directory() if self._systemd else (MOUNT if _unified() else MOUNT / "memory") / self._name
        entries = dict(line.split() for line in (directory / "memory.stat").read_text().splitlines())
        # Of the whole tree in both: the guest's init makes groups of its own.
        return int(entries.get("total_rss") or entries["anon"])

    def _systemd_directory(self) -> Path:
        return MOUNT / run(["systemctl", "show", "--property=ControlGroup", "--value", self._scope]).strip().lstrip("/")

    def _set(self, hierarchy: Path, name: str, value: str) -> None:
        (hierarchy / self._name / name).write_text(value)

    def create(self) -> None:
        for directory in self._directories:
            directory.mkdir(exist_ok=True)
        if self._directories and _unified():
            (MOUNT / "cgroup.subtree_control").write_text("+cpu +memory")

    def enter(self) -> None:
        """Runs in the child, before it becomes the container's manager."""
        for directory in self._directories:
            (directory / "cgroup.procs").write_text(str(os.getpid()))

    def remove(self) -> None:
        for directory in self._directories:
            if directory.is_dir():
                wait_until(f"{directory} to be empty", lambda top=directory: _remove_tree(top), 10)


def _unified() -> bool:
    return (MOUNT / "cgroup.controllers").exists()


def _hierarchies() -> list[Path]:
    """The hierarchies that systemd looks at (the unified one, and with cgroup v1 also the named one), and those that limit something."""
    if _unified():
        return [MOUNT]
    return [MOUNT / name for name in ("unified", "systemd", "cpu", "memory") if (MOUNT / name / "cgroup.procs").exists()]


def _remove_tree(top: Path) -> bool:
    for directory, _, _ in os.walk(top, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(directory)
    return not top.exists()
