"""A guest goes from nothing to ACTIVE, driven by the real controller."""

from __future__ import annotations

import pymysql
import pytest
from bench.deployment import Deployment, Server
from bench.waiting import wait_until


def test_the_controller_calls_the_instance_healthy(deployment: Deployment, server: Server) -> None:
    status = deployment.controller.ask("instance_status", instance_id=server.instance.id)
    assert (status["description"], status["api_status"]) == ("healthy", "HEALTHY")


def test_the_end_of_prepare_is_notified(deployment: Deployment, server: Server) -> None:
    """The conductor emits the event of the REST request that began it all."""

    def notified() -> bool:
        lines = deployment.controller.conductor_log().splitlines()
        return any("dbaas.instance_create.end" in line and server.instance.id in line for line in lines)

    wait_until("the event dbaas.instance_create.end", notified, 20)


def test_the_data_lives_on_the_volume(server: Server) -> None:
    mount = next(mount for mount in server.guest.mounts() if mount["target"] == "/var/lib/mysql")
    # The volume is a loop device outside, which inside is known by either name.
    assert mount["source"] in ("/dev/vdb", server.guest.volume.device)
    fstab = [line.split() for line in server.guest.read("/etc/fstab").splitlines() if line.strip() and line[0] != "#"]
    assert [entry[1] for entry in fstab] == ["/var/lib/mysql"]
    ((directory,),) = server.query("owner", server.owner_password, "SELECT @@datadir")
    assert str(directory).startswith("/var/lib/mysql/")


def test_the_rendered_template_is_in_force(deployment: Deployment, server: Server) -> None:
    template = deployment.controller.render_template(server.instance)
    wanted = dict(line.split("=", 1) for line in template.replace(" ", "").splitlines() if "=" in line)
    ((connections, server_id, engine),) = server.query(
        "owner", server.owner_password, "SELECT @@max_connections, @@server_id, @@default_storage_engine"
    )
    assert str(connections) == wanted["max_connections"]
    assert str(server_id) == wanted["server_id"]
    assert str(engine).lower() == "innodb"


def test_databases_have_their_character_sets(server: Server) -> None:
    listed = {entry["_name"]: entry for entry in server.instance.call("list_databases")[0]}
    assert listed["first"]["_character_set"].startswith("utf8")
    assert (listed["second"]["_character_set"], listed["second"]["_collate"]) == ("utf8mb4", "utf8mb4_bin")


def test_the_user_reaches_its_database_and_no_other(server: Server) -> None:
    server.query("owner", server.owner_password, "CREATE TABLE IF NOT EXISTS t (i INT)", database="first")
    with pytest.raises(pymysql.err.OperationalError):
        server.query("owner", server.owner_password, "CREATE TABLE t (i INT)", database="second")
    assert not server.can_log_in("owner", "not the password")


def test_nothing_is_left_open(server: Server) -> None:
    """No anonymous account, no account without a password, no root from outside."""
    for name in ("", "root", "os_admin"):
        assert not server.can_log_in(name, ""), name
    assert server.instance.call("is_root_enabled") is False


def test_own_accounts_and_databases_are_not_listed(server: Server) -> None:
    names = {entry["_name"] for entry in server.instance.call("list_users")[0]}
    assert not names & {"os_admin", "root", "mysql.sys", "mysql.session", "mysql.infoschema", "mariadb.sys", "debian-sys-maint"}
    databases = {entry["_name"] for entry in server.instance.call("list_databases")[0]}
    assert not databases & {"mysql", "sys", "information_schema", "performance_schema", "lost+found", "#mysql50#lost+found"}


def test_heartbeats_go_on(server: Server) -> None:
    server.instance.wait_heartbeat()
    server.instance.wait_heartbeat()
    assert server.instance.status() == "healthy"
