"""Runs a command with a broker of its own: `python -m bench.with_broker -- COMMAND...`.

The command finds the broker's AMQP address in `TROVE_TEST_BROKER`; the broker ends with it.
"""

from __future__ import annotations

import os
import subprocess
import sys

from .rabbit import Rabbit
from .session import Session


def main(arguments: list[str]) -> int:
    if arguments[:1] != ["--"] or len(arguments) < 2:
        raise SystemExit(__doc__)
    with Session() as session:
        broker = Rabbit(session).start()
        environment = dict(os.environ, TROVE_TEST_BROKER=broker.url(scheme="amqp"))
        return subprocess.run(arguments[1:], env=environment, stdin=subprocess.DEVNULL, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
