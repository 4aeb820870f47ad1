"""Runs a command with servers of its own: `python -m bench.with_services NAME... -- COMMAND...`; the servers end with it.

The names, and what the command finds in its environment:

    broker    TROVE_TEST_BROKER   AMQP address of a RabbitMQ
    swift     TROVE_TEST_SWIFT    a Swift, as JSON (`Swift.description`)
    keystone  TROVE_TEST_SWIFT    the same with a Keystone, whose tokens its second port takes (`keystone` in the JSON)
"""

from __future__ import annotations

import os
import subprocess
import sys

from .keystone import Keystone
from .rabbit import Rabbit
from .session import Session
from .swift import Swift


def broker(session: Session) -> dict[str, str]:
    return {"TROVE_TEST_BROKER": Rabbit(session).start().url(scheme="amqp")}


def swift(session: Session) -> dict[str, str]:
    return {"TROVE_TEST_SWIFT": Swift(session).start().description()}


def keystone(session: Session) -> dict[str, str]:
    return {"TROVE_TEST_SWIFT": Swift(session, keystone=Keystone(session).start()).start().description()}


SERVICES = {"broker": broker, "swift": swift, "keystone": keystone}


def main(arguments: list[str]) -> int:
    names, dashes, command = arguments_of(arguments)
    if not (names and dashes and command) or any(name not in SERVICES for name in names):
        raise SystemExit(__doc__)
    with Session() as session:
        environment = dict(os.environ)
        for name in names:
            environment.update(SERVICES[name](session))
        return subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=False).returncode


def arguments_of(arguments: list[str]) -> tuple[list[str], bool, list[str]]:
    """What comes before and after the dashes, and whether there are any."""
    if "--" not in arguments:
        return arguments, False, []
    dashes = arguments.index("--")
    return arguments[:dashes], True, arguments[dashes + 1 :]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
