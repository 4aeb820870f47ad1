"""A child process with its log in a file, ended by its own process group."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from .waiting import Overdue, wait_until


class Child:
    """Started in a session of its own, so that ending the group ends its descendants and nothing else."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        pass_fds: Sequence[int] = (),
        before_exec: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [*die_with_parent(), *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env) if env is not None else None,
                cwd=cwd,
                pass_fds=tuple(pass_fds),
                start_new_session=True,
                preexec_fn=before_exec,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def alive(self) -> bool:
        return self.process.poll() is None

    def check_alive(self) -> None:
        """Raises with the end of the log when the process has ended on its own."""
        if not self.alive():
            raise AssertionError(f"{self.name} ended with {self.process.returncode}:\n{self.tail()}")

    def tail(self, lines: int = 30) -> str:
        if not self.log.exists():
            return "(no log)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self, grace: float = 20.0) -> None:
        """SIGTERM, then SIGKILL for whatever of the group is left after `grace` seconds."""
        if self.alive():
            self._signal(signal.SIGTERM)
            try:
                self.process.wait(grace)
            except subprocess.TimeoutExpired:
                pass
        self.kill()

    def kill(self) -> None:
        """SIGKILL to the whole group, and reap."""
        self._signal(signal.SIGKILL)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired as error:
            raise Overdue(f"{self.name} (pid {self.pid}) survives SIGKILL") from error

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass


def die_with_parent() -> list[str]:
    """A prefix that makes the kernel end the child should the bench itself be killed."""
    return ["setpriv", "--pdeathsig", "TERM", "--"]


def as_user(name: str) -> list[str]:
    """A prefix that runs a command as `name` (changing the user forgets the parent-death signal, hence both here)."""
    return ["setpriv", f"--reuid={name}", f"--regid={name}", "--init-groups", "--pdeathsig", "TERM", "--"]


def children_of(pid: int) -> list[int]:
    """Direct children, read from /proc (the `children` file is not in every kernel)."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
        except OSError:
            continue
        if int(stat.rpartition(")")[2].split()[1]) == pid:
            found.append(int(entry.name))
    return sorted(found)


def kill_pid(pid: int, timeout: float = 10.0) -> None:
    """SIGKILL to one process that need not be a direct child, and waits until it is gone."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    wait_until(f"pid {pid} to end", lambda: not _running(pid), timeout)


def _running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
