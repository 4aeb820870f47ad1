"""Runs a command with a broker of its own: `python -m bench.with_broker [--both | --newest] -- COMMAND...`.

The command finds the broker's AMQP address in `TROVE_TEST_BROKER`; the broker ends with it. `--both` adds a RabbitMQ 4 from a base root
(made when it is missing) as `TROVE_TEST_BROKER_4`; with `--newest` that one is both.
"""

from __future__ import annotations

import os
import subprocess
import sys

from .rabbit import Rabbit
from .roots import base_root
from .session import Session


def main(arguments: list[str]) -> int:
    which = arguments.pop(0) if arguments[:1] in (["--both"], ["--newest"]) else ""
    if arguments[:1] != ["--"] or len(arguments) < 2:
        raise SystemExit(__doc__)
    with Session() as session:
        brokers: dict[str, Rabbit] = {}
        if which:
            brokers["TROVE_TEST_BROKER_4"] = Rabbit(session, root=base_root("rabbitmq-4")).start()
        brokers["TROVE_TEST_BROKER"] = brokers["TROVE_TEST_BROKER_4"] if which == "--newest" else Rabbit(session).start()
        environment = dict(os.environ, **{name: broker.url(scheme="amqp") for name, broker in brokers.items()})
        return subprocess.run(arguments[1:], env=environment, stdin=subprocess.DEVNULL, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
