"""A guest with PostgreSQL under systemd, in Debian's layout, in the hands of the controller of today."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from backups import back_up, restored
from bench.deployment import POSTGRESQL, POSTGRESQL_17, Deployment, Server
from bench.swift import Swift
from helpers import create_database, create_user, delete_user, schema, user, user_names
from secret_search import leaked, search_and_end

# The password comes by standard input: a command line shows it.
PSQL = 'IFS= read -r PGPASSWORD; export PGPASSWORD; exec psql --no-psqlrc -XAtqc "$0" "$1" 2>&1'


@pytest.fixture(scope="module", params=[POSTGRESQL, POSTGRESQL_17], ids=["15", "17"])
def postgresql(request: pytest.FixtureRequest, deployment: Deployment, swift: Swift) -> Iterator[Server]:
    token, _ = swift.login()
    key = f"Key-{swift.key}"
    server = deployment.launch(request.param, secure=True, guest_options={"backup_aes_cbc_key": key})
    server.secrets += [token, key]
    server.owner_password = server.secret()
    users = [{"name": "owner", "password": server.owner_password, "host": "%", "databases": [{"name": "first"}]}]
    server.prepare([{"name": "first"}], users)
    yield server
    search_and_end(server)


def psql(server: Server, sql: str, password: str, name: str = "owner", database: str = "first") -> str:
    """As a user would, over TCP."""
    where = f"host={server.guest.address} user={name} dbname={database} connect_timeout=10"
    return server.guest.run(["sh", "-c", PSQL, sql, where], stdin=f"{password}\n", check=False).strip()


def owner(server: Server, sql: str) -> str:
    return psql(server, sql, server.owner_password)


def administrator(server: Server, sql: str) -> str:
    """As the account `postgres` of the guest, which the server takes at its word."""
    return server.guest.run(["runuser", "-u", "postgres", "--", "psql", "--no-psqlrc", "-XAtqc", sql]).strip()


def test_it_serves_on_its_volume_by_debians_own_unit(postgresql: Server) -> None:
    assert owner(postgresql, "CREATE TABLE t (i INT); INSERT INTO t VALUES (7); SELECT i FROM t") == "7"
    assert any(mount["target"] == "/var/lib/postgresql" for mount in postgresql.guest.mounts())
    assert administrator(postgresql, "SHOW data_directory") == "/var/lib/postgresql/data/pgdata"
    assert postgresql.guest.run(["systemctl", "is-enabled", postgresql.kind.unit]).strip() in ("enabled", "enabled-runtime")
    assert "running" in postgresql.guest.run(["systemctl", "show", "--property=SubState", postgresql.kind.unit])
    assert "online" in postgresql.guest.run(["pg_lsclusters", "--no-header"])
    assert "authentication failed" in psql(postgresql, "SELECT 1", "wrong")


def test_users_databases_and_root(postgresql: Server) -> None:
    instance, password = postgresql.instance, postgresql.secret()
    create_database(postgresql, schema("it's"))
    create_user(postgresql, user("second", password, databases=("it's",)))
    assert psql(postgresql, "SELECT current_database()", password, "second", "it\\'s") == "it's"
    assert user_names(postgresql) == ["owner", "second"]
    root = instance.call("enable_root")
    postgresql.secrets.append(root["_password"])
    assert psql(postgresql, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user", root["_password"], root["_name"], "postgres") == "t"
    instance.call("disable_root")
    assert not instance.call("is_root_enabled")
    delete_user(postgresql, "second")
    assert "authentication failed" in psql(postgresql, "SELECT 1", password, "second", "postgres")


def test_a_group_is_read_again_or_waits_for_a_restart(postgresql: Server) -> None:
    instance = postgresql.instance
    group = {"work_mem": "8MB", "max_connections": 77}
    instance.call("update_overrides", overrides=group)
    instance.call("apply_overrides", overrides=group)
    assert administrator(postgresql, "SHOW work_mem") == "8MB" and administrator(postgresql, "SHOW max_connections") == "100"
    instance.wait_status("restart required", 60, postgresql.guest.agent_log)
    instance.restart()
    postgresql.wait_active()
    assert administrator(postgresql, "SHOW max_connections") == "77"
    postgresql.guest.reboot()
    postgresql.wait_active()
    assert administrator(postgresql, "SHOW max_connections") == "77" and owner(postgresql, "SELECT i FROM t") == "7"


def test_a_backup_goes_to_swift_and_comes_back(deployment: Deployment, swift: Swift, postgresql: Server) -> None:
    backup = back_up(deployment, swift, postgresql)
    other = restored(deployment, swift, postgresql.kind, backup, postgresql.secrets)
    try:
        assert psql(other, "SELECT i FROM t", postgresql.owner_password) == "7"
    finally:
        other.guest.container.stop()


def test_no_log_of_the_guest_holds_a_secret(postgresql: Server) -> None:
    log = postgresql.guest.everything_logged()
    assert postgresql.instance.id in log and len(postgresql.secrets) >= 6
    assert leaked(postgresql, log) == []
