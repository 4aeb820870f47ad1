"""Running one command to its end."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence


class CommandFailed(AssertionError):
    """A command of the bench ended with an error; the message has its output."""


def run(argv: Sequence[str], timeout: float = 60.0, stdin: str | None = None, check: bool = True) -> str:
    """Standard output of the command; with `check`, an error status raises with both streams."""
    return run_full(argv, timeout, stdin, check).stdout


def run_full(
    argv: Sequence[str], timeout: float = 60.0, stdin: str | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Like `run`, with the status and both streams."""
    feed = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
    done = subprocess.run(list(argv), capture_output=True, text=True, errors="replace", timeout=timeout, check=False, **feed)
    if check and done.returncode != 0:
        raise CommandFailed(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done
