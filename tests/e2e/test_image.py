"""A built image boots and serves: Debian with MariaDB, as diskimage-builder makes it from `elements/`, and the .deb of this tree, as `dev/image mariadb` adds it.

Its file system is booted by systemd-nspawn, under the image's own init. Network and injected files arrive by cloud-init (NoCloud); nothing else is written into it, but for the
mounting of /etc/fstab, which systemd leaves to others in a container, and iSCSI, which a container does not have. `dev/image --boot mariadb` boots the disk itself, with its own kernel.

TROVE_TEST_IMAGE=postgresql, or redis, does it with an image of that.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import tour
from bench import image
from bench.deployment import Deployment, Server
from bench.guest import UNIT
from bench.image_boot import KINDS
from bench.image_guest import ImageGuest
from bench.session import Session
from bench.waiting import wait_until
from built_packages import Packages
from helpers import CAST_SECONDS, database_names, user_names
from secret_search import search_and_end

DATASTORE = os.environ.get("TROVE_TEST_IMAGE", "mariadb")
KIND = KINDS[DATASTORE]
# Trove's Redis has neither users nor databases.
FIRST = [] if DATASTORE == "redis" else ["first"]
# It wants the disk that the image is on.
NOT_IN_A_CONTAINER = {"systemd-remount-fs.service"}


@pytest.fixture(scope="module")
def built(session: Session) -> Path:
    """The image's file system, without the agent."""
    mounts = contextlib.ExitStack()
    # Until the guests that stand on it are gone, which is the session's end.
    session.defer(mounts.close)
    return mounts.enter_context(image.mounted(image.without_agent(DATASTORE), "ro"))


@pytest.fixture(scope="module")
def server(deployment: Deployment, built: Path, packages: Packages) -> Iterator[Server]:
    kind = replace(KIND, root=str(built), packages="")
    server = deployment.place(kind, package=packages.deb, guest_type=ImageGuest)
    server.guest.boot()
    deployment.wait_consumed(server)
    yield server
    search_and_end(server)


def test_the_image_has_the_package_of_this_tree_and_nothing_to_compile_it_with(server: Server, packages: Packages) -> None:
    system = server.guest
    wanted = packages.deb.name.removesuffix(".deb").split("_")
    shown = system.run(["dpkg-query", "--show", "--showformat=${Package} ${Version} ${Architecture} ${db:Status-Status}", "trove-guestagent"])
    assert shown == f"{wanted[0]} 2:{wanted[1]} {wanted[2]} installed"
    assert system.run(["dpkg", "--verify", "trove-guestagent"]) == ""
    assert system.run(["systemctl", "is-enabled", UNIT]).strip() == "enabled"
    for absent in ("cc", "cargo", "rustc", "trove-guest"):
        assert system.run(["which", absent], check=False) == "", absent
    # What the build brought in, and took out again.
    for absent in ("tmp/in_target.d", "etc/resolv.conf.ORIG", "opt/guest-agent-venv"):
        assert not system.disk.inside(absent).is_symlink() and not system.disk.inside(absent).exists(), absent


def test_cloud_init_brings_network_and_files_and_the_agent_comes_after_it(server: Server) -> None:
    system = server.guest
    assert "status: done" in system.run(["cloud-init", "status", "--wait", "--long"])
    assert system.run(["cloud-id"]).strip() == "nocloud"
    for path in server.instance.files:
        assert system.run(["stat", "--format=%a %U", path]).strip() == "600 root", path
    assert system.address in system.run(["networkctl", "--no-pager", "status", "host0"])
    assert system.run(["readlink", "/etc/resolv.conf"]).strip() == "../run/systemd/resolve/stub-resolv.conf"
    assert system.run(["hostname"]).strip() == system.name
    failed = {line.split()[0] for line in system.run(["systemctl", "list-units", "--failed", "--plain", "--no-legend"]).splitlines()}
    assert failed <= NOT_IN_A_CONTAINER
    # The agent, not the image's first boot, starts the database.
    assert system.run(["systemctl", "is-active", KIND.unit], check=False).strip() == "inactive"


def test_the_guest_goes_active_under_the_controller(server: Server) -> None:
    server.owner_password = server.secret()
    databases = [{"name": name} for name in FIRST]
    server.prepare(databases, [{"name": "owner", "password": server.owner_password, "host": "%", "databases": databases}] if FIRST else [])
    if FIRST:
        assert (user_names(server), database_names(server)) == (["owner"], FIRST)
    if DATASTORE == "mariadb":
        server.query("owner", server.owner_password, "CREATE TABLE t (i INT)", database="first")
    assert server.guest.run(["systemctl", "is-active", KIND.unit]).strip() == "active"


@pytest.mark.skipif(DATASTORE != "mariadb", reason="the demo, in which the tour begins, is of MariaDB")
def test_the_tour_of_the_readme_shows_what_it_says(server: Server) -> None:
    database = server.guest.run(["pidof", "mariadbd"])
    expected = (
        ("trove-guestctl status", 0, " (mariadb) in service; nothing is under way\n  role: alone\n  last heartbeat: 'healthy' at "),
        ("trove-guestctl doctor", 0, "\nok       database       mariadb answers\n"),
        ("guest=$(", 0, ""),
        ("trove-guestctl call $guest list_databases", 0, '"_name": "first"'),
        ("trove-guestctl call $guest create_database", 0, "null"),
        ("trove-guestctl call $guest update_overrides", 1, "BadRequest: the value of the option 'max_connections' must be a number"),
        ("trove-guestctl call --cast $guest restart; kill -9 ", 0, ""),
        ("trove-guestctl status --watch", 0, "in service"),
        # Whether it was accepted before the agent died, or only sent: the next one has it.
        ("journalctl -u trove-guestagent", 0, "Main process exited, code=killed, status=9/KILL"),
        ("trove-guestagent --config-dir", 0, f"guest_id = {server.instance.id}  (/etc/trove/conf.d/guest_info.conf:"),
    )
    for step, (beginning, status, words) in zip(tour.walk(server.guest), expected, strict=True):
        assert step.command.startswith(beginning) and step.status == status and words in step.text, step
    wait_until("another server", lambda: server.guest.run(["pidof", "mariadbd"], check=False) not in ("", database), CAST_SECONDS, server.guest.agent_log)
    assert database_names(server) == ["first", "tour"]


def test_it_comes_back_from_a_reboot(server: Server, deployment: Deployment) -> None:
    mounts = {mount["target"] for mount in server.guest.mounts() if mount["source"].startswith("/dev/vdb")}
    server.guest.reboot()
    deployment.wait_consumed(server)
    server.instance.wait_heartbeat()
    server.wait_active()
    if FIRST:
        assert set(FIRST) <= set(database_names(server))
    if DATASTORE == "mariadb":
        server.query("owner", server.owner_password, "INSERT INTO t VALUES (1)", database="first")
    assert mounts and mounts <= {mount["target"] for mount in server.guest.mounts()}
