"""A process with a Trove in it, asked over a socket: `guest_api` is the other end."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Sequence
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


class Refusal(Exception):
    """Raised by whoever answers an event, to have the worker see a failure there."""


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
        return self.direct(operation, _nothing_to_do, **arguments)

    def direct(self, operation: str, answer: Callable[[str, dict[str, Any]], Any], **arguments: Any) -> Any:
        """One request, and its answer; what the operation asks for on the way goes to `answer`, by name and arguments.

        It raises `Refusal` for the worker to see; whatever else it raises is a failure of the test, told once the operation has ended.
        """
        failure: Exception | None = None
        with self._lock:
            self._child.check_alive()
            self._send({"operation": operation, "arguments": arguments})
            while "event" in (reply := self._receive()):
                try:
                    self._send({"result": answer(reply["event"], reply["arguments"])})
                except Exception as error:  # noqa: BLE001 - the operation must come to its end first
                    failure = failure if isinstance(error, Refusal) else failure or error
                    self._send({"error": str(error)})
        if failure is not None:
            raise failure
        if "error" in reply:
            raise GuestCallFailed(reply["error"], reply["message"], reply["remote"])
        return reply["result"]

    def _send(self, message: dict[str, Any]) -> None:
        self._stream.write(json.dumps(message) + "\n")
        self._stream.flush()

    def _receive(self) -> dict[str, Any]:
        try:
            line = self._stream.readline()
        except ConnectionResetError:
            line = ""
        if not line:
            self._child.process.wait(10)
            self._child.check_alive()
        return json.loads(line)


def _nothing_to_do(event: str, _arguments: dict[str, Any]) -> Any:
    raise AssertionError(f"nobody answers to {event}")
