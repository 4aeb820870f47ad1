"""Backups to a real Swift and back, told to the real controller's database by its real conductor."""

from __future__ import annotations

import json
from typing import Any

import pytest
from backups import BACKUP_SECONDS, back_up, fill, restored, row, start_backup, stored
from bench.deployment import MARIADB, MYSQL, Deployment, Kind, Server
from bench.swift import Swift
from bench.waiting import wait_until
from conftest import prepared


def source(deployment: Deployment, swift: Swift, kind: Kind) -> Server:
    """A prepared guest with a key for its backups; what is planted is searched for at the end of the run."""
    token, _ = swift.login()
    key = f"Key-{swift.key}"
    server = prepared(deployment, kind, secure=True, guest_options={"backup_aes_cbc_key": key, "backup_segment_max_size": "4194304"})
    server.secrets += [token, key]
    return server


def verify(deployment: Deployment, swift: Swift, server: Server, backup: str) -> dict[str, Any]:
    """`trove-guestctl verify-backup` on the guest itself, and its report."""
    token, url = swift.login(deployment.host)
    # In a file that only root reads: a command line shows tokens.
    server.guest.run(["install", "-m", "600", "/dev/stdin", "/run/token"], stdin=token)
    done = row(deployment, backup)
    argv = ["trove-guestctl", "verify-backup", done["location"], "--checksum", done["checksum"], "--type", done["backup_type"], "--json"]
    report = server.guest.run([*argv, "--token-file", "/run/token", "--swift-url", url], timeout=BACKUP_SECONDS)
    server.guest.run(["rm", "/run/token"])
    return json.loads(report)


def write(server: Server, value: int) -> None:
    server.query("owner", server.owner_password, "INSERT INTO first.rows_of_mine VALUES (%s, REPEAT('x', 1000))", value)


def rows(server: Server, password: str) -> list[tuple[object, ...]]:
    return server.query("owner", password, "SELECT i, LENGTH(t) FROM first.rows_of_mine ORDER BY i")


@pytest.mark.parametrize("kind", [MARIADB, MYSQL], ids=["mariadb", "mysql"])
def test_a_backup_restores_in_another_guest(deployment: Deployment, swift: Swift, kind: Kind) -> None:
    """MariaDB: hot, full and two incremental ones. MySQL: a dump, since its packages have no xtrabackup."""
    server = source(deployment, swift, kind)
    server.query("owner", server.owner_password, "CREATE TABLE first.rows_of_mine (i INT PRIMARY KEY, t TEXT)")
    write(server, 1)
    backup = back_up(deployment, swift, server)
    if kind is MARIADB:
        for value in (2, 3):
            write(server, value)
            backup = back_up(deployment, swift, server, backup)
    report = verify(deployment, swift, server, backup)
    assert (report["backups"], report["databases"], report["tables"], report["problems"]) == (3 if kind is MARIADB else 1, 2, 1, [])
    assert "nothing is under way" in server.guest.run(["trove-guestctl", "status"])
    done = row(deployment, backup)
    assert done["backup_type"] == ("incremental" if kind is MARIADB else "full")
    assert done["location"].split("/")[-2:][0] == "database_backups"
    other = restored(deployment, swift, kind, backup, server.secrets)
    # The user is the one of the backup, and so is the password.
    assert rows(other, server.owner_password) == rows(server, server.owner_password)
    assert [value for value, _ in rows(other, server.owner_password)] == ([1, 2, 3] if kind is MARIADB else [1])
    other.guest.run(["systemctl", "is-enabled", kind.unit])


def test_after_a_kill_a_backup_is_failed_and_its_segments_are_gone(deployment: Deployment, swift: Swift) -> None:
    server = source(deployment, swift, MARIADB)
    fill(server)
    backup = start_backup(deployment, swift, server)
    wait_until("segments", lambda: bool(stored(swift, backup)), BACKUP_SECONDS, server.guest.agent_log)
    server.guest.run(["pkill", "-STOP", "mariadb-backup"])
    assert row(deployment, backup)["state"] == "BUILDING"
    server.guest.run(["kill", "-9", str(server.guest.agent_pid())])
    wait_until("FAILED", lambda: row(deployment, backup)["state"] == "FAILED", BACKUP_SECONDS, server.guest.agent_log)
    wait_until("the segments to go", lambda: not stored(swift, backup), 30)
    assert server.guest.run(["pgrep", "mariadb-backup"], check=False) == ""
    back_up(deployment, swift, server)
