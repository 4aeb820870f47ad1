"""Backups as the controller has them made, its rows of them, and what Swift has of them."""

from __future__ import annotations

from typing import Any

from bench.deployment import Deployment, Kind, Server
from bench.swift import Swift
from bench.waiting import wait_until

BACKUP_SECONDS = 120.0
COLUMNS = ("state", "checksum", "location", "backup_type", "size")
CONTAINER = "database_backups"


def row(deployment: Deployment, backup: str) -> dict[str, Any]:
    ((*values,),) = deployment.controller.query(f"SELECT {', '.join(COLUMNS)} FROM backups WHERE id = ?", backup)
    return dict(zip(COLUMNS, values, strict=True))


def start_backup(deployment: Deployment, swift: Swift, server: Server, parent: str | None = None) -> str:
    _, url = swift.login(deployment.host)
    return deployment.controller.ask("create_backup", instance_id=server.instance.id, swift_url=url, parent_id=parent)


def back_up(deployment: Deployment, swift: Swift, server: Server, parent: str | None = None) -> str:
    backup = start_backup(deployment, swift, server, parent)
    wait_until(
        f"the end of backup {backup}", lambda: row(deployment, backup)["state"] in ("COMPLETED", "FAILED"), BACKUP_SECONDS, server.guest.agent_log
    )
    done = row(deployment, backup)
    assert done["state"] == "COMPLETED", server.guest.agent_log()
    assert len(done["checksum"]) == 32 and done["size"] > 0
    return backup


def restored(deployment: Deployment, swift: Swift, kind: Kind, backup: str, secrets: list[str]) -> Server:
    """A new guest, prepared from a backup."""
    _, url = swift.login(deployment.host)
    done = row(deployment, backup)
    server = deployment.launch(kind, secure=True, guest_options={"backup_aes_cbc_key": f"Key-{swift.key}"})
    server.secrets += secrets
    info = {"id": backup, "location": done["location"], "type": done["backup_type"], "checksum": done["checksum"]}
    server.prepare([], [], backup_info={**info, "storage_driver": "swift", "swift_url": url})
    return server


def fill(server: Server) -> None:
    """Rows in the database `first` that cannot be compressed: a backup of them can be caught in the middle."""
    server.query("owner", server.owner_password, "CREATE TABLE first.ballast (b BLOB)")
    server.query("owner", server.owner_password, "INSERT INTO first.ballast SELECT RANDOM_BYTES(1024) FROM seq_1_to_60000", database="first")


def stored(swift: Swift, backup: str) -> list[str]:
    """Names of the objects that Swift has of a backup."""
    client = swift.client()
    # The guest makes it as well, and listing it may be earlier.
    client.put_container(CONTAINER)
    return [entry["name"] for entry in client.get_container(CONTAINER, prefix=backup)[1]]
