"""One systemd-nspawn container: started, entered and ended by process id."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from . import cgroup
from .child import Child, children_of, kill_pid
from .command import run, run_full
from .network import BRIDGE
from .session import Session
from .waiting import wait_until

# The first process is gone when all others are, a database that writes to a busy disk among them.
END_SECONDS = 60.0


class Container:
    """`command` is empty for a machine with an init of its own, else what runs in its place."""

    def __init__(
        self, session: Session, name: str, root: Path, binds: Sequence[str], command: Sequence[str] = ()
    ) -> None:
        self.name = name
        self._log = session.directory / f"{name}.console"
        # Taken anew at each start: what is bound into it.
        self.binds = list(binds)
        self._root, self._command = root, command
        self.cgroup = cgroup.Group(name)
        self._child: Child | None = None
        session.defer(self.stop)

    def start(self) -> None:
        environment = dict(os.environ, SYSTEMD_NSPAWN_UNIFIED_HIERARCHY="1", SYSTEMD_LOG_LEVEL="warning")
        self.cgroup.create()
        self._child = Child(
            self.name, [*self.cgroup.prefix(), *self._arguments()], self._log, environment, before_exec=self.cgroup.enter
        )
        wait_until(f"{self.name} to have a first process", self.leader, 20, self.console, self._child.check_alive)

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.alive()

    def leader(self) -> int | None:
        """Process id, on the host, of the container's first process; it changes when the guest reboots."""
        if self._child is None:
            return None
        own = os.readlink("/proc/self/ns/pid")
        for pid in children_of(self._child.pid):
            try:
                if os.readlink(f"/proc/{pid}/ns/pid") != own:
                    return pid
            except OSError:
                continue
        return None

    def enter(self, argv: Sequence[str], options: Sequence[str] = ("-m", "-u", "-i", "-n", "-p", "-r", "-w")) -> list[str]:
        """The command line that runs `argv` inside."""
        pid = self.leader()
        if pid is None:
            raise AssertionError(f"{self.name} is not running:\n{self.console()}")
        clean = ["env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"]
        return ["nsenter", "-t", str(pid), *options, "--", *clean, *argv]

    def run(self, argv: Sequence[str], timeout: float = 60.0, stdin: str | None = None, check: bool = True) -> str:
        return run(self.enter(argv), timeout, stdin, check)

    def run_full(self, argv: Sequence[str], timeout: float = 60.0, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return run_full(self.enter(argv), timeout, stdin, check=False)

    def run_in(self, argv: Sequence[str], namespaces: Sequence[str]) -> str:
        """Runs a program of the host in some of the container's namespaces (`-n`: its network)."""
        return run(self.enter(argv, namespaces))

    def console(self) -> str:
        """The last lines of the container's console."""
        return self._child.tail(40) if self._child is not None else "(never started)"

    def console_text(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def stop(self) -> None:
        """A power cut: the kernel takes the whole process namespace down with its first process."""
        if self._child is None:
            return
        pid = self.leader()
        if pid is not None:
            kill_pid(pid, END_SECONDS)
        self._child.stop(grace=20)
        self._child = None
        self.cgroup.remove()

    def shut_down(self, grace: float = 60.0) -> None:
        """An orderly power-off, as Nova does it; then as `stop`."""
        if self._child is not None:
            self._child.process.terminate()
            try:
                self._child.process.wait(grace)
            except subprocess.TimeoutExpired:
                pass
        self.stop()

    def _arguments(self) -> list[str]:
        argv = ["systemd-nspawn", "--register=no", "--keep-unit", "--quiet", f"--directory={self._root}"]
        argv += [f"--machine={self.name}", f"--network-bridge={BRIDGE}", "--resolv-conf=off", "--timezone=off", "--link-journal=no"]
        # A machine lets its programs lock memory, as MongoDB does with passwords.
        argv.append("--system-call-filter=@memlock")
        argv += [f"--bind={bind}" for bind in self.binds]
        return argv + (["--as-pid2", "--console=pipe", *self._command] if self._command else ["--boot"])
