"""The database in another version on the same data: MariaDB 10.11 on Debian 12, then 11.8 of Debian 13, on a new root disk as Nova's rebuild gives it to a guest, or
in place of the packages that run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from bench import packages
from bench.deployment import MARIADB, Deployment, Server
from bench.waiting import wait_until
from conformance import log_count
from helpers import CAST_SECONDS, user_names

OLD, NEW = "mariadb-10.11", "mariadb-11.8"
NEW_VERSION = "11.8"
PACKAGES_UNIT = "trove-guestagent-packages.service"
MOUNT_POINT, DEVICE = "/var/lib/mysql", "/dev/vdb"
ROWS = 2000
# A value of a configuration group, which no template has.
WAIT_TIMEOUT = 4711


def populate(server: Server) -> None:
    connection = server.connect("owner", server.owner_password, "first")
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE t (i INT PRIMARY KEY, s TEXT)")
        cursor.executemany("INSERT INTO t VALUES (%s, %s)", [(i, f"row {i}") for i in range(ROWS)])
    connection.close()
    server.instance.call("update_overrides", overrides={"wait_timeout": WAIT_TIMEOUT}, remove=False)


def enable_root(server: Server) -> str:
    password = server.instance.call("enable_root")["_password"]
    server.secrets.append(password)
    return password


def version(server: Server) -> str:
    return str(server.query("owner", server.owner_password, "SELECT VERSION()")[0][0])


def assert_kept(server: Server, root_password: str) -> None:
    """Rows, users with their passwords, root, the agent's own account, the configuration group."""
    ((count, last),) = server.query("owner", server.owner_password, "SELECT COUNT(*), MAX(s) FROM t WHERE s = CONCAT('row ', i)", database="first")
    assert (count, last) == (ROWS, "row 999")
    assert "owner" in user_names(server)
    assert server.instance.call("is_root_enabled") is True
    assert server.can_log_in("root", root_password)
    ((timeout,),) = server.query("owner", server.owner_password, "SELECT @@global.wait_timeout")
    assert timeout == WAIT_TIMEOUT
    # The system tables are those of this server: its program has nothing left to do.
    check = ["mariadb-upgrade", "--defaults-file=/var/lib/trove-guestagent/os_admin.cnf", "--check-if-upgrade-is-needed"]
    assert f"already upgraded to {NEW_VERSION}." in server.guest.run([*check, "--verbose"], check=False)
    assert [mount["target"] for mount in server.guest.mounts() if mount["target"] == MOUNT_POINT] == [MOUNT_POINT]
    assert MOUNT_POINT in server.guest.read("/etc/fstab")


def prepared(deployment: Deployment, **options: str) -> tuple[Server, str]:
    return populated(deployment.launch(MARIADB, secure=True, guest_options=options), "running" if options else "healthy")


def populated(server: Server, word: str = "healthy") -> tuple[Server, str]:
    server.owner_password = server.secret()
    users = [{"name": "owner", "password": server.owner_password, "host": "%", "databases": [{"name": "first"}]}]
    server.instance.prepare([{"name": "first"}], users)
    wait_word(server, word)
    populate(server)
    return server, enable_root(server)


@pytest.fixture(scope="module")
def rebuilt(deployment: Deployment) -> Iterator[tuple[Server, str]]:
    server, root_password = prepared(deployment)
    yield server, root_password
    server.guest.container.stop()


def nova_rebuild(deployment: Deployment, server: Server, root: str) -> None:
    """The steps of the task manager's RebuildAction up to the cast."""
    server.instance.call("stop_db")
    server.instance.call("unmount_volume", device_path=DEVICE, mount_point=MOUNT_POINT)
    deployment.rebuild(server, root)


def cast_rebuild(deployment: Deployment, server: Server, version: str) -> None:
    contents = deployment.controller.render_template(server.instance)
    server.instance.call("rebuild", ds_version=version, config_contents=contents, config_overrides={"wait_timeout": WAIT_TIMEOUT})


def wait_word(server: Server, word: str) -> None:
    """Unlike `wait_status`, also where the last word was that it failed."""
    wait_until(f"a heartbeat that says {word!r}", lambda: server.instance.status() == word, 120, server.guest.agent_log)


def phase(server: Server) -> str:
    """Empty on a new disk, until the agent has begun."""
    return server.guest.run(["cat", "/var/lib/trove-guestagent/status.json"], check=False)


def test_rebuild_goes_on_with_the_data_and_the_newer_server(deployment: Deployment, rebuilt: tuple[Server, str]) -> None:
    server, root_password = rebuilt
    assert version(server).startswith("10.11.")
    nova_rebuild(deployment, server, NEW)
    cast_rebuild(deployment, server, NEW_VERSION)
    wait_until("the end of the rebuild", lambda: '"active"' in phase(server) or '"failed"' in phase(server), 120, server.guest.agent_log)
    wait_word(server, "healthy")
    assert version(server).startswith(f"{NEW_VERSION}.")
    assert_kept(server, root_password)


def test_a_downgrade_is_refused_and_the_data_are_as_they_were(deployment: Deployment, rebuilt: tuple[Server, str]) -> None:
    server, root_password = rebuilt
    nova_rebuild(deployment, server, OLD)
    cast_rebuild(deployment, server, "10.11")
    wait_word(server, "failed to spawn")
    assert "a downgrade is not possible" in phase(server)
    deployment.rebuild(server, NEW)
    cast_rebuild(deployment, server, NEW_VERSION)
    wait_word(server, "healthy")
    assert_kept(server, root_password)


def test_an_upgrade_in_place_says_what_it_cannot_do(rebuilt: tuple[Server, str]) -> None:
    server, root_password = rebuilt
    for wanted, reason in (("10.6", "a downgrade is not possible"), ("99.1", "no version 99.1")):
        server.instance.call("upgrade", upgrade_info={"datastore_version": wanted})
        wait_word(server, "failed to spawn")
        assert reason in phase(server)
        server.instance.call("restart")
        wait_word(server, "healthy")
    begins = "starting the database server on the instance's data"
    before = log_count(server, begins)
    server.instance.call("upgrade", upgrade_info={"datastore_version": NEW_VERSION})
    wait_until("the begin of the upgrade", lambda: log_count(server, begins) > before, CAST_SECONDS, server.guest.agent_log)
    wait_until("its end", lambda: '"active"' in phase(server), CAST_SECONDS, server.guest.agent_log)
    wait_word(server, "healthy")
    assert_kept(server, root_password)


def test_pre_upgrade_and_post_upgrade_carry_the_instance_to_the_next_root_disk(deployment: Deployment) -> None:
    """As the task manager did it up to Victoria. The RPC is the same in all releases; the guest is told which one it talks to."""
    server, root_password = prepared(deployment, controller_release="train")
    credentials = server.guest.read("/var/lib/trove-guestagent/os_admin.cnf")
    info = server.instance.call("pre_upgrade")
    assert info["mount_point"] == MOUNT_POINT
    assert not any(mount["target"] == MOUNT_POINT for mount in server.guest.mounts())
    wait_word(server, "shutdown")
    deployment.rebuild(server, NEW)
    server.instance.call("post_upgrade", upgrade_info=info | {"device": DEVICE})
    wait_word(server, "running")
    assert version(server).startswith(f"{NEW_VERSION}.")
    assert_kept(server, root_password)
    assert server.guest.read("/var/lib/trove-guestagent/os_admin.cnf") == credentials
    assert server.guest.run(["ls", "-A", MOUNT_POINT]).count(".trove-upgrade") == 0
    server.guest.container.stop()


@pytest.fixture(scope="module")
def in_place(deployment: Deployment) -> Iterator[tuple[Server, str]]:
    """A guest whose package sources have a newer series than it runs."""
    server = deployment.launch(replace(MARIADB, source=packages.NEWER_MARIADB), secure=True)
    yield populated(server)
    server.guest.container.stop()


def test_sources_without_the_version_leave_the_running_server_alone(in_place: tuple[Server, str]) -> None:
    server, _ = in_place
    process = server.guest.run(["pidof", "mariadbd"])
    for wanted in ("11.4", "99.1"):
        server.instance.call("upgrade", upgrade_info={"datastore_version": wanted})
        wait_until(f"the refusal of {wanted}", lambda: f"no version {wanted} of mariadb-server, but MariaDB 11.8." in phase(server), CAST_SECONDS)
    assert server.guest.run(["pidof", "mariadbd"]) == process
    server.instance.call("restart")
    wait_word(server, "healthy")


def dpkg_group(server: Server) -> str:
    """The control group of dpkg, while it runs."""
    dpkg = server.guest.run(["pidof", "-s", "dpkg"], check=False).strip()
    return server.guest.run(["cat", f"/proc/{dpkg}/cgroup"], check=False) if dpkg else ""


def test_packages_of_a_newer_series_replace_the_running_server(in_place: tuple[Server, str]) -> None:
    """The calls of the task manager since Wallaby. The agent is killed while the packages are replaced: its next life finishes them."""
    server, root_password = in_place
    credentials = server.guest.read("/var/lib/trove-guestagent/os_admin.cnf")
    agent = server.guest.agent_pid()
    assert version(server).startswith("10.11.")
    info = server.instance.call("pre_upgrade") or {}
    server.instance.call("upgrade", upgrade_info=info | {"datastore_version": NEW_VERSION})
    # Not in the agent's unit: nothing that dpkg does is cut short.
    wait_until("packages to be replaced", lambda: PACKAGES_UNIT in dpkg_group(server), 60, server.guest.agent_log)
    server.guest.run(["kill", "-KILL", str(agent)])
    wait_until("another agent", lambda: server.guest.agent_pid() not in (0, agent), CAST_SECONDS)
    wait_until("the end of the upgrade", lambda: '"active"' in phase(server) or '"failed"' in phase(server), 240, server.guest.agent_log)
    wait_word(server, "healthy")
    assert server.guest.agent_pid() != agent
    assert version(server).startswith(f"{NEW_VERSION}.")
    assert_kept(server, root_password)
    assert server.guest.read("/var/lib/trove-guestagent/os_admin.cnf") == credentials
    assert server.guest.run(["dpkg", "--audit"]).strip() == ""
    # A backup needs the program of the server's own series.
    assert f":{NEW_VERSION}." in server.guest.run(["dpkg-query", "--show", "mariadb-backup"])
    # It starts by itself, on the same data.
    server.guest.reboot()
    server.wait_active()
    assert_kept(server, root_password)
