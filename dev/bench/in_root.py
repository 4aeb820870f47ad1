"""Runs a program where another server is installed than on this machine: in a base root, with that server's packages.

    python -m bench.in_root NAME PROGRAM [ARGUMENT...]

It is what cargo's `runner` has to be, so that the tests of a datastore run with another server of it (`dev/test`). The root is made for the run,
and gone with it; network and processes are this machine's. PROGRAM, and what is beside it, is read from where it is.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from . import enter_root, packages
from .command import run
from .disk import Overlay
from .roots import base_root
from .session import Session

INSTALL_SECONDS = 300.0
LIBRARIES = Path("usr/lib") / f"{os.uname().machine}-linux-gnu"


@dataclass(frozen=True)
class Server:
    """Packages of a server, and the version of PostgreSQL whose programs are beside, as in an image that upgrades data from it."""

    source: packages.Source
    older: str | None = None


SERVERS = {
    "valkey": Server(packages.VALKEY),
    "postgresql-17": Server(packages.POSTGRESQL_17, older="15"),
    "postgresql-18": Server(packages.POSTGRESQL_18, older="15"),
}


def install(session: Session, server: Server) -> Path:
    """The root with the server in it."""
    directory = packages.ensure(session, server.source)
    disk = Overlay(session, base_root(server.source.root), session.unique("root"))
    # No server starts, and no cluster is made, with the packages.
    disk.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", 0o755)
    disk.write("/etc/postgresql-common/createcluster.conf", "create_main_cluster = false\n")
    disk.write("/etc/dpkg/dpkg.cfg.d/fast", "force-unsafe-io\n")
    files = [f"{enter_root.INSIDE}/{file.name}" for file in sorted(directory.glob("*.deb"))]
    environment = ["env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8"]
    run(enter_root.command_line(str(disk.root), str(directory), *environment, "dpkg", "--install", *files), timeout=INSTALL_SECONDS)
    if server.older:
        put_beside(disk.root, server.older)
    return disk.root


def put_beside(root: Path, version: str) -> None:
    """The programs of an older PostgreSQL, of its base root, and the libraries that they alone need."""
    old = base_root(f"postgresql-{version}")
    for directory in ("usr/lib/postgresql", "usr/share/postgresql"):
        # Compiling of queries is off without its library, which needs a compiler's.
        leave_out = shutil.ignore_patterns("llvmjit*", "bitcode")
        shutil.copytree(old / directory / version, root / directory / version, symlinks=True, ignore=leave_out)
    programs = [f"/usr/lib/postgresql/{version}/bin/{path.name}" for path in (old / f"usr/lib/postgresql/{version}/bin").iterdir()]
    # Each brings others that it needs.
    while missing := set(re.findall(r"(\S+) => not found", run(["chroot", str(root), "ldd", *programs], check=False))):
        for name in missing:
            shutil.copy(old / LIBRARIES / name, root / LIBRARIES / name)


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
