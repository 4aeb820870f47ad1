"""Package sources for guests, which reach no archive: what apt would bring to a base root, made once and kept between runs.

    python -m bench.packages ensure     makes what is missing
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from .apt_sources import apt_proxy
from .command import run
from .disk import Overlay
from .locking import locked
from .roots import CACHE, RECIPES, base_root
from .session import Session

# Where the guest has it, and the line of its sources.list. Nobody has signed it: what is in it was verified when it was downloaded.
PATH = "/srv/packages"
LINE = f"deb [trusted=yes] file:{PATH} ./\n"
DOWNLOAD_SECONDS = 600.0


@dataclass(frozen=True)
class Source:
    """What apt would bring to a guest of the base root `root` from `suite`, to have `package` in the newest version."""

    root: str
    suite: str
    package: str

    def path(self) -> Path:
        text = json.dumps([asdict(self), RECIPES[self.root].key()], sort_keys=True)
        return CACHE / f"packages-{self.package}-{self.suite}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


NEWER_MARIADB = Source("mariadb-10.11", "trixie", "mariadb-server")
# No base root has it; this one is of its suite.
VALKEY = Source("mysql-9.7", "sid", "valkey-server")
POSTGRESQL_17 = Source("mariadb-11.8", "trixie", "postgresql-17")
POSTGRESQL_18 = Source("mysql-9.7", "sid", "postgresql-18")


def ensure(session: Session, source: Source) -> Path:
    """The directory with packages and their index, made unless it is there. Safe beside other runs: one makes it, the others wait."""
    path = source.path()
    with locked(CACHE / f"packages-{source.package}.lock"):
        if not path.is_dir():
            partial = path.with_name(f"{path.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            _download(session, source, partial)
            (partial / "Packages").write_text(run(["dpkg-scanpackages", "--multiversion", str(partial), "/dev/null"]).replace(f"{partial}/", "./"))
            partial.rename(path)
    return path


def _download(session: Session, source: Source, target: Path) -> None:
    """apt of the root itself says what it needs, and checks signatures."""
    root = Overlay(session, base_root(source.root), session.unique("packages"))
    # debootstrap has left the archive's address there: `deb ADDRESS SUITE COMPONENTS`.
    mirror = root.inside("/etc/apt/sources.list").read_text().split()[1]
    root.write("/etc/apt/sources.list", f"deb {mirror} {source.suite} main\n")
    for name in ("/etc/resolv.conf", "/etc/hosts"):
        root.unlink(name)
        root.write(name, Path(name).read_text())
    proxy = apt_proxy()
    if proxy:
        root.write("/etc/apt/apt.conf.d/90proxy", f'Acquire::http::Proxy "{proxy}";\n')
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive", LC_ALL="C.UTF-8")
    install = ["apt-get", "install", "-q", "-y", "--no-install-recommends", "--download-only", source.package]
    # A mirror may stand still; debootstrap takes no offence at that either.
    update = ["apt-get", "update", "-q", "-o", "Acquire::Check-Valid-Until=false"]
    for argv in (update, install):
        done = subprocess.run(
            ["chroot", str(root.root), *argv],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, timeout=DOWNLOAD_SECONDS, check=False,
        )
        if done.returncode != 0:
            raise AssertionError(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout.decode(errors='replace')[-4000:]}")
    for package in root.inside("/var/cache/apt/archives").glob("*.deb"):
        shutil.copy(package, target / package.name)


def main(arguments: list[str]) -> None:
    if arguments != ["ensure"]:
        raise SystemExit(__doc__)
    with Session() as session:
        for source in (NEWER_MARIADB, VALKEY, POSTGRESQL_18):
            print(ensure(session, source))


if __name__ == "__main__":
    main(sys.argv[1:])
