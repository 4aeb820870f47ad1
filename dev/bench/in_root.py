"""Runs a program where another server is installed than on this machine: in a base root, with that server's packages.

    python -m bench.in_root NAME PROGRAM [ARGUMENT...]

It is what cargo's `runner` has to be, so that the tests of a datastore run with another server of it (`dev/test`). The root is made for the run,
and gone with it; network and processes are this machine's. PROGRAM, and what is beside it, is read from where it is.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from . import enter_root, packages
from .command import run
from .disk import Overlay
from .roots import base_root
from .session import Session

INSTALL_SECONDS = 300.0
SERVERS = {"valkey": packages.VALKEY}


def install(session: Session, source: packages.Source) -> Path:
    """The root with the server in it."""
    directory = packages.ensure(session, source)
    disk = Overlay(session, base_root(source.root), session.unique("root"))
    # No server starts with the packages.
    disk.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", 0o755)
    disk.write("/etc/dpkg/dpkg.cfg.d/fast", "force-unsafe-io\n")
    files = [f"{enter_root.INSIDE}/{file.name}" for file in sorted(directory.glob("*.deb"))]
    environment = ["env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8"]
    run(enter_root.command_line(str(disk.root), str(directory), *environment, "dpkg", "--install", *files), timeout=INSTALL_SECONDS)
    return disk.root


def main(arguments: list[str]) -> int:
    match arguments:
        case [name, program, *rest] if name in SERVERS:
            path = Path(program).resolve()
            with Session() as session:
                root = install(session, SERVERS[name])
                inside = enter_root.command_line(str(root), str(path.parent), f"{enter_root.INSIDE}/{path.name}", *rest)
                # What changes the root asks for this first.
                environment = dict(os.environ, TROVE_TEST_IN_ROOT=name)
                return subprocess.run(inside, env=environment, stdin=subprocess.DEVNULL, check=False).returncode
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
