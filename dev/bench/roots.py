"""Base roots: a Debian system with one datastore installed, made once by debootstrap and kept between runs.

    python -m bench.roots ensure NAME...    makes what is missing
    python -m bench.roots export DIR        links every root of this recipe into DIR under its plain name
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from .apt_sources import apt_proxy, debian_mirror
from .command import run
from .locking import locked

CACHE = Path(os.environ.get("TROVE_DEV_CACHE", "/var/cache/trove-guestagent-dev"))
# What a guest image of Trove has besides the datastore: an init, a network, tools for volumes.
COMMON = ("systemd", "systemd-sysv", "dbus", "iproute2", "rsync", "e2fsprogs", "xfsprogs")
DEBOOTSTRAP_SECONDS = 1200.0


@dataclass(frozen=True)
class Recipe:
    """What a root is made of. Its hash is part of the root's name, so that a changed recipe makes a new root."""

    name: str
    suite: str
    packages: tuple[str, ...]

    def key(self) -> str:
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def path(self) -> Path:
        return CACHE / f"root-{self.name}-{self.key()}"


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("mariadb-10.11", "bookworm", (*COMMON, "libssl3", "mariadb-server", "mariadb-backup")),
        Recipe("mariadb-11.8", "trixie", (*COMMON, "libssl3t64", "mariadb-server", "mariadb-backup")),
        Recipe("mysql-9.7", "sid", (*COMMON, "libssl3t64", "mysql-server")),
        Recipe("postgresql-15", "bookworm", (*COMMON, "libssl3", "postgresql-15")),
        Recipe("postgresql-17", "trixie", (*COMMON, "libssl3t64", "postgresql-17")),
        Recipe("redis-7", "bookworm", (*COMMON, "libssl3", "redis-server")),
        # Entered with chroot, never booted.
        Recipe("rabbitmq-4", "sid", ("rabbitmq-server",)),
    )
}


def base_root(name: str) -> Path:
    """The root called `name`: of `TROVE_TEST_ROOTS` when set, else of the cache; made when it is missing. An absolute path is a root already."""
    if os.path.isabs(name):
        return Path(name)
    exported = os.environ.get("TROVE_TEST_ROOTS")
    if exported and (Path(exported) / name).is_dir():
        return (Path(exported) / name).resolve()
    return ensure(RECIPES[name])


def ensure(recipe: Recipe) -> Path:
    """Makes the root unless it is there. Safe beside other runs: one makes it, the others wait."""
    path = recipe.path()
    with locked(CACHE / f"{recipe.name}.lock"):
        if not path.is_dir():
            partial = path.with_name(f"{path.name}.partial")
            run(["rm", "-rf", "--one-file-system", str(partial)])
            _debootstrap(recipe, partial)
            partial.rename(path)
    return path


def export(directory: Path) -> None:
    """Links every root under its plain name, as the tests look for it in `TROVE_TEST_ROOTS`."""
    directory.mkdir(parents=True, exist_ok=True)
    for recipe in RECIPES.values():
        link = directory / recipe.name
        link.unlink(missing_ok=True)
        link.symlink_to(ensure(recipe))


def _debootstrap(recipe: Recipe, target: Path) -> None:
    mirror = debian_mirror()
    argv = ["debootstrap", "--variant=minbase", f"--include={','.join(recipe.packages)}", recipe.suite, str(target)]
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive", LC_ALL="C.UTF-8")
    proxy = apt_proxy()
    if proxy:
        environment.setdefault("http_proxy", proxy)
    log = CACHE / f"{recipe.name}.log"
    print(f"making root {recipe.name} ({recipe.suite}); log in {log}", flush=True)
    with log.open("w") as output:
        done = subprocess.run(
            argv + ([mirror] if mirror else []),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            timeout=DEBOOTSTRAP_SECONDS,
            check=False,
        )
    if done.returncode != 0:
        raise SystemExit(f"debootstrap of {recipe.name} ended with {done.returncode}:\n{_tail(log)}\n{_tail(target / 'debootstrap/debootstrap.log')}")
    # Each guest gets an identity of its own, and downloaded packages are only ballast.
    (target / "etc/machine-id").write_text("")
    run(["chroot", str(target), "apt-get", "clean"])


def _tail(path: Path, lines: int = 20) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""


def main(arguments: list[str]) -> None:
    match arguments:
        case ["ensure", *names]:
            for name in names or list(RECIPES):
                print(ensure(RECIPES[name]))
        case ["export", directory]:
            export(Path(directory))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
