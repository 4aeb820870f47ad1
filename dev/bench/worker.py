"""A process with a Trove in it, asked over a socket: `guest_api` is the other end."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .child import Child
from .session import Session

# Longer than the longest call of the guest API (agent_call_high_timeout of Train).
ANSWER_SECONDS = 660.0


class GuestCallFailed(AssertionError):
    """The worker's own exception: `kind` is its class, the message its text, `remote` the class that oslo.messaging raised below it."""

    def __init__(self, kind: str, message: str, remote: str | None) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        self.message = message
        self.remote = remote


class Worker:
    """Started by making it; ends with the session."""

    def __init__(
        self, session: Session, name: str, script: Sequence[str], auth_token: str, configuration: Path, directory: Path
    ) -> None:
        self._lock = threading.Lock()
        here, there = socket.socketpair()
        argv = [script[0], "-W", "ignore", *script[1:], str(there.fileno()), auth_token, f"--config-file={configuration}"]
        self._child = Child(name, argv, directory / f"{name}.out", pass_fds=[there.fileno()])
        there.close()
        here.settimeout(ANSWER_SECONDS)
        self._stream = here.makefile("rw")
        session.defer(here.close)
        session.defer(self._child.stop)

    def ask(self, operation: str, **arguments: Any) -> Any:
        """One request, and its answer."""
        with self._lock:
            self._child.check_alive()
            self._stream.write(json.dumps({"operation": operation, "arguments": arguments}) + "\n")
            self._stream.flush()
            try:
                line = self._stream.readline()
            except ConnectionResetError:
                line = ""
        if not line:
            self._child.process.wait(10)
            self._child.check_alive()
        answer = json.loads(line)
        if "error" in answer:
            raise GuestCallFailed(answer["error"], answer["message"], answer["remote"])
        return answer["result"]
