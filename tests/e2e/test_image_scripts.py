"""Every element at work, by diskimage-builder's own tools: which elements, packages and units each distribution gets, and all scripts of every datastore in a tree of Debian.

The tree is the image that `test_image.py` boots. Servers come from a package source of its own, which `DIB_TROVE_PACKAGE_SOURCE` names: stand-ins of the packages' names with the
units of the real ones, since what the elements do does not depend on more, and Debian has neither MySQL, Percona Server nor MongoDB. For what is not of Debian's family, names are all
that can be looked at: there are no packages of it on the test machines.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from bench import image
from bench.command import CommandFailed, run
from bench.disk import Overlay
from bench.session import Session
from builder import Builder, Chroot
from built_packages import Packages

# Whose image the tree is of does not matter; there is one for `test_image.py`.
DATASTORE = os.environ.get("TROVE_TEST_IMAGE", "mariadb")
# Of diskimage-builder, what makes a system of each distribution.
BASES = {
    "debian": "debian-minimal",
    "ubuntu": "ubuntu-minimal",
    "fedora": "fedora-container",
    "centos": "centos-minimal",
    "rocky": "rocky-container",
    "almalinux": "almalinux-container",
}
DEBIANS = {"debian", "ubuntu"}
# Packages and unit of each datastore in Debian's family, and in Red Hat's.
SERVERS = {
    "mariadb": (({"mariadb-server", "mariadb-backup"}, "mariadb"), ({"mariadb-server", "mariadb-backup"}, "mariadb")),
    "mysql": (({"mysql-server"}, "mysql"), ({"mysql-server"}, "mysqld")),
    "percona": (({"percona-server-server"}, "mysql"), ({"percona-server-server"}, "mysqld")),
    "postgresql": (({"postgresql"}, "postgresql"), ({"postgresql-server", "postgresql-contrib"}, "postgresql")),
    "redis": (({"redis-server"}, "redis-server"), ({"redis"}, "redis")),
    "mongodb": (({"mongodb-org"}, "mongod"), ({"mongodb-org"}, "mongod")),
}
# In one tree, but for those whose servers have the same unit.
TREES = (("mariadb", "mysql", "postgresql", "redis", "mongodb"), ("percona",))
AGENT = {"ca-certificates", "cloud-init", "dbus", "e2fsprogs", "rsync", "util-linux", "xfsprogs"}
UNIT = "trove-guestagent.service"
# What the packages of a server do in an image.
CONTROL = """Package: {name}
Version: 1
Architecture: all
Maintainer: tests
Description: stand-in
"""
SERVICE = """[Service]
ExecStart=/bin/true

[Install]
WantedBy=multi-user.target
"""
SOURCES = "/opt/packages"


def names(distribution: str, datastore: str) -> tuple[set[str], str]:
    """Packages and unit."""
    packages, unit = SERVERS[datastore][distribution not in DEBIANS]
    return ({"community-mysql-server"} if (distribution, datastore) == ("fedora", "mysql") else packages), unit


@pytest.mark.parametrize("distribution", BASES)
def test_a_distribution_gets_packages_and_units_by_its_own_names(distribution: str, session: Session) -> None:
    directory = session.subdirectory(f"names-{distribution}")
    elements = [f"trove-{datastore}" for datastore in SERVERS]
    builder = Builder(distribution, BASES[distribution], "vm", *elements)
    assert set(builder.own) == {"trove-guestagent", "trove-package-source", *elements}
    packages, services = builder.packages(directory / "packages.json"), builder.services(directory)
    assert packages.pop("trove-package-source") | packages.pop("trove-guestagent") == AGENT | {"iproute2" if distribution in DEBIANS else "iproute"}
    assert services.pop("trove-guestagent") == "trove-guestagent"
    found = {element: (packages[element], services[element]) for element in elements}
    assert found == {f"trove-{datastore}": names(distribution, datastore) for datastore in SERVERS}


@pytest.fixture(scope="module")
def built(session: Session) -> Path:
    """The image's file system, without the agent."""
    mounts = contextlib.ExitStack()
    # Until the trees that stand on it are gone, which is the session's end.
    session.defer(mounts.close)
    return mounts.enter_context(image.mounted(image.without_agent(DATASTORE), "ro"))


def tree(session: Session, built: Path) -> Path:
    """The image as it is while it is being built, with a package source of its own and no other."""
    disk = Overlay(session, built, session.unique("el"))
    for path in disk.inside("/etc/apt").glob("sources.list*/*"):
        path.unlink()
    disk.write("/etc/apt/sources.list", "")
    disk.unlink("/etc/resolv.conf")
    disk.write("/etc/resolv.conf", "")
    # The server whose image it is may have units of the same names.
    disk.write("/etc/dpkg/dpkg.cfg.d/stand-ins", "force-overwrite\n")
    repository = disk.inside(SOURCES)
    repository.mkdir(parents=True)
    for datastore, (debian, _) in SERVERS.items():
        for name in debian[0]:
            stand_in(session, repository, name, None if name == "mariadb-backup" else debian[1])
    index(repository)
    return disk.root


def index(repository: Path) -> None:
    """What apt reads of it."""
    (repository / "Packages").write_text(run(["dpkg-scanpackages", "--multiversion", str(repository)]).replace(f"{repository}/", "./"))


def stand_in(session: Session, repository: Path, name: str, unit: str | None) -> None:
    """A package that, like the real one, has its unit enabled when it is installed."""
    files = session.subdirectory(session.unique("package"))
    (files / "DEBIAN").mkdir()
    (files / "DEBIAN/control").write_text(CONTROL.format(name=name))
    if unit:
        service = files / f"lib/systemd/system/{unit}.service"
        service.parent.mkdir(parents=True)
        service.write_text(SERVICE)
        (files / "DEBIAN/postinst").write_text(f"#!/bin/sh\nset -e\nsystemctl enable {unit}.service\n")
        (files / "DEBIAN/postinst").chmod(0o755)
    run(["dpkg-deb", "--root-owner-group", "--build", str(files), str(repository / f"{name}.deb")])


def source(session: Session) -> dict[str, str]:
    """Of the operator: a package source and its key, by file."""
    listed, key = session.directory / "local.sources", session.directory / "local.gpg"
    listed.write_text(f"Types: deb\nURIs: file:{SOURCES}\nSuites: ./\nTrusted: yes\n")
    key.write_text("a key\n")
    return {"DIB_TROVE_PACKAGE_SOURCE": str(listed), "DIB_TROVE_PACKAGE_KEY": str(key)}


@pytest.mark.parametrize("datastores", TREES, ids="-".join)
def test_all_scripts_of_a_datastore_leave_its_server_off_and_the_agent_on(
    datastores: tuple[str, ...], session: Session, built: Path, packages: Packages
) -> None:
    builder = Builder("debian", "debian-minimal", *(f"trove-{datastore}" for datastore in datastores))
    chroot = Chroot(tree(session, built), builder)
    chroot.build({"DIB_TROVE_GUESTAGENT_PACKAGE": str(packages.deb), **source(session)})
    installed = {name for datastore in datastores for name in SERVERS[datastore][0][0]} | {"trove-guestagent"}
    shown = chroot.run(["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *installed])
    assert set(shown.splitlines()) == {f"{name} installed" for name in installed}
    units = [f"{SERVERS[datastore][0][1]}.service" for datastore in datastores]
    if "mongodb" in datastores:
        units.append("mongos.service")
    # The presets of the first boot do not change it.
    for _ in range(2):
        assert chroot.run(["systemctl", "is-enabled", *units], check=False).split() == ["disabled"] * len(units)
        assert chroot.run(["systemctl", "is-enabled", UNIT]).strip() == "enabled"
        chroot.run(["systemctl", "preset", *units, UNIT])
    assert (chroot.root / "etc/apt/sources.list.d/local.sources").is_file()
    assert (chroot.root / "usr/share/keyrings/local.gpg").read_text() == "a key\n"


@pytest.mark.parametrize("datastore", ["percona", "mongodb"])
def test_a_datastore_that_no_distribution_has_wants_a_source_first(datastore: str, session: Session, built: Path) -> None:
    chroot = Chroot(tree(session, built), Builder("debian", "debian-minimal", f"trove-{datastore}"))
    with pytest.raises(CommandFailed, match="no distribution has these packages; set DIB_TROVE_PACKAGE_SOURCE"):
        chroot.build({"DIB_TROVE_GUESTAGENT_PACKAGE": "later"})


def test_the_agent_in_python_of_the_same_name_is_not_taken_for_this_one(session: Session, built: Path) -> None:
    root = tree(session, built)
    repository = root / SOURCES.lstrip("/")
    stand_in(session, repository, "trove-guestagent", "trove-guestagent")
    index(repository)
    chroot = Chroot(root, Builder("debian", "debian-minimal", "trove-redis"))
    with pytest.raises(CommandFailed, match="is of another agent: name this one's file with DIB_TROVE_GUESTAGENT_PACKAGE"):
        chroot.build(source(session))


def test_what_the_operator_s_variables_may_be_is_said_at_once(session: Session, built: Path, packages: Packages) -> None:
    chroot = Chroot(tree(session, built), Builder("debian", "debian-minimal", "trove-redis"))
    with pytest.raises(CommandFailed, match="DIB_TROVE_GUESTAGENT_PACKAGE is '/nowhere': a .deb or .rpm, 'distribution' or 'later' is needed"):
        chroot.build({"DIB_TROVE_GUESTAGENT_PACKAGE": "/nowhere"})
    with pytest.raises(CommandFailed, match="a .list, .sources or .repo file is needed"):
        chroot.build({"DIB_TROVE_GUESTAGENT_PACKAGE": "later", "DIB_TROVE_PACKAGE_SOURCE": os.fspath(packages.deb)})
