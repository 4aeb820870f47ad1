"""One run of the bench: its scratch directory, its unique name, and what is to be undone at the end."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

# The repository: dev/bench/session.py is two levels below it.
REPOSITORY = Path(__file__).resolve().parents[2]


class Session:
    """Undoes everything in reverse order on the way out, after success, failure, Ctrl-C and SIGTERM alike."""

    def __init__(self, keep_files: bool = False) -> None:
        self.name = secrets.token_hex(2)
        self._keep_files = keep_files
        self._stack = contextlib.ExitStack()
        self._counter = 0
        self.directory = Path()

    def __enter__(self) -> Session:
        parent = os.environ.get("TROVE_BENCH_DIR") or "/var/tmp"
        self.directory = Path(tempfile.mkdtemp(prefix=f"trove-bench-{self.name}-", dir=parent))
        self.directory.chmod(0o755)
        if not self._keep_files:
            self._stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _leave)
        return self

    def __exit__(self, *_: object) -> None:
        # A second Ctrl-C must not leave guests and mounts behind.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            self._stack.close()
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def defer(self, undo: Callable[..., Any], *arguments: Any) -> None:
        """Runs `undo` at the end; a failure there is told and does not keep the others from running."""
        self._stack.callback(_attempt, undo, *arguments)

    def unique(self, prefix: str) -> str:
        """A name no other run uses: short enough for a network interface built from it."""
        self._counter += 1
        return f"{prefix}{self.name}{self._counter}"

    def subdirectory(self, name: str) -> Path:
        path = self.directory / name
        path.mkdir(parents=True)
        return path


def _leave(number: int, _frame: FrameType | None) -> None:
    # Like Ctrl-C: pytest ends its run and undoes its fixtures for this, and for nothing else.
    raise KeyboardInterrupt(f"signal {number}")


def _attempt(undo: Callable[..., Any], *arguments: Any) -> None:
    try:
        undo(*arguments)
    except Exception as error:  # noqa: BLE001 - the remaining clean-up must run
        print(f"clean-up: {undo!r}: {error}", file=sys.stderr)
