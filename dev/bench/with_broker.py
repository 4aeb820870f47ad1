"""Runs a command with brokers of its own: `python -m bench.with_broker -- COMMAND...`.

The command finds the AMQP address of this machine's RabbitMQ in `TROVE_TEST_BROKER`, and that of a RabbitMQ 4 in `TROVE_TEST_BROKER_4`;
both end with it. With `--newest` the first is the RabbitMQ 4, too.
"""

from __future__ import annotations

import os
import subprocess
import sys

from .rabbit import Rabbit
from .roots import base_root
from .session import Session


def main(arguments: list[str]) -> int:
    newest = arguments[:1] == ["--newest"]
    arguments = arguments[newest:]
    if arguments[:1] != ["--"] or len(arguments) < 2:
        raise SystemExit(__doc__)
    with Session() as session:
        new = Rabbit(session, root=base_root("rabbitmq-4")).start()
        usual = new if newest else Rabbit(session).start()
        urls = {"TROVE_TEST_BROKER": usual.url(scheme="amqp"), "TROVE_TEST_BROKER_4": new.url(scheme="amqp")}
        environment = {**os.environ, **urls}
        return subprocess.run(arguments[1:], env=environment, stdin=subprocess.DEVNULL, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
