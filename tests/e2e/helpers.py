"""Shapes and waits that several tests share."""

from __future__ import annotations

from typing import Any

from bench.controller import Fault
from bench.deployment import Deployment, Server
from bench.swift import Swift
from bench.waiting import wait_until

# A cast is carried out within this time on a busy machine.
CAST_SECONDS = 30.0


def user(name: str, password: str | None = None, host: str = "%", databases: tuple[str, ...] = ()) -> dict[str, Any]:
    """A user as Trove puts it on the wire."""
    return {
        "_name": name,
        "_password": password,
        "_host": host,
        "_databases": [schema(database) for database in databases],
        "_is_root": False,
    }


def schema(name: str, character_set: str | None = None, collate: str | None = None) -> dict[str, Any]:
    """A database as Trove puts it on the wire."""
    return {"_name": name, "_character_set": character_set, "_collate": collate}


def user_names(server: Server) -> list[str]:
    return [entry["_name"] for entry in server.instance.call("list_users")[0]]


def database_names(server: Server) -> list[str]:
    return [entry["_name"] for entry in server.instance.call("list_databases")[0]]


def create_user(server: Server, *users: dict[str, Any]) -> None:
    """Casts `create_user` and waits until every one of them is there."""
    server.instance.cast("create_user", "DBaaSUserCreate", users=list(users))
    wanted = {entry["_name"] for entry in users}
    wait_until(f"users {sorted(wanted)}", lambda: wanted <= set(user_names(server)), CAST_SECONDS)


def delete_user(server: Server, name: str, host: str = "%") -> None:
    server.instance.cast("delete_user", "DBaaSUserDelete", user=user(name, host=host))
    wait_until(f"user {name!r} to go", lambda: name not in user_names(server), CAST_SECONDS)


def create_database(server: Server, *databases: dict[str, Any]) -> None:
    server.instance.cast("create_database", "DBaaSDatabaseCreate", databases=list(databases))
    wanted = {entry["_name"] for entry in databases}
    wait_until(f"databases {sorted(wanted)}", lambda: wanted <= set(database_names(server)), CAST_SECONDS)


def delete_database(server: Server, name: str) -> None:
    server.instance.cast("delete_database", "DBaaSDatabaseDelete", database=schema(name))
    wait_until(f"database {name!r} to go", lambda: name not in database_names(server), CAST_SECONDS)


def wait_for_fault(server: Server, before: Fault | None) -> Fault:
    """Waits for another fault shown to the user than `before`."""
    wait_until("a fault", lambda: server.instance.fault() not in (None, before), CAST_SECONDS)
    fault = server.instance.fault()
    assert fault is not None
    return fault


def journalled(server: Server, extension: str) -> int:
    """How many entries of the agent's journal are in this state."""
    names = server.guest.run(["ls", "/var/lib/trove-guestagent/journal"]).split()
    return sum(name.endswith(f".{extension}") for name in names)


def account(swift: Swift, deployment: Deployment) -> dict[str, str]:
    """An account of Swift as requests of a user who has one name it: its address for guests, and a token."""
    token, url = swift.login(deployment.host)
    return {"token": token, "url": url}
