"""A guest with MongoDB under systemd: prepared by the controller of today, and then in the hands of Train's own client, which knows this datastore."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pymongo
import pytest
from bench import mongod
from bench.deployment import Deployment, Kind, Server
from bench.swift import Swift
from bench.waiting import wait_until
from bench.worker import GuestCallFailed, Worker
from helpers import CAST_SECONDS, account, user
from pymongo.errors import OperationFailure
from secret_search import leaked, search_and_end

# The root of another datastore, with the server put into it: Debian has no MongoDB.
MONGODB = Kind("redis-7", "mongodb", "6.0", "mongod.service", "mongodb-org")
DATA = "/var/lib/mongodb"
WAIT_MS = 20_000


@pytest.fixture(scope="module")
def mongodb(deployment: Deployment, swift: Swift) -> Iterator[Server]:
    token, _ = swift.login()
    server = deployment.place(MONGODB, secure=True)
    mongod.put_into(server.guest)
    server.guest.boot()
    deployment.wait_consumed(server)
    server.secrets.append(token)
    server.owner_password = server.secret()
    owner = {"name": "first.owner", "password": server.owner_password, "host": "%", "databases": [{"name": "first"}]}
    # A package that is there already.
    server.prepare([{"name": "first"}], [owner], packages=[])
    yield server
    search_and_end(server)


def call(train: Worker, server: Server, method: str, **arguments: Any) -> Any:
    return train.ask("call", instance_id=server.instance.id, method=method, arguments=arguments)


def listed(train: Worker, server: Server, kind: str) -> list[str]:
    return [entry["_name"] for entry in call(train, server, f"list_{kind}")[0]]


def client(server: Server, name: str, password: str) -> pymongo.MongoClient[dict[str, Any]]:
    """As a user would, over TCP. `<database>.<name>`, as Trove has it."""
    database, _, login = name.partition(".")
    return pymongo.MongoClient(
        server.guest.address, username=login, password=password, authSource=database, directConnection=True, serverSelectionTimeoutMS=WAIT_MS
    )


def lets_in(server: Server, name: str, password: str) -> bool:
    with client(server, name, password) as session:
        try:
            session.get_database("admin").command("ping")
        except OperationFailure:
            return False
    return True


def owner(server: Server) -> pymongo.MongoClient[dict[str, Any]]:
    return client(server, "first.owner", server.owner_password)


def test_it_serves_on_its_volume_and_asks_for_passwords(mongodb: Server) -> None:
    with owner(mongodb) as session:
        session["first"]["c"].insert_one({"_id": 7})
        assert session.server_info()["version"].startswith("6.0.")
        with pytest.raises(OperationFailure, match="not authorized"):
            session["second"]["c"].insert_one({})
    with pytest.raises(OperationFailure, match="Authentication failed"):
        client(mongodb, "first.owner", "wrong")["first"].command("ping")
    assert any(mount["target"] == DATA for mount in mongodb.guest.mounts())
    assert mongodb.guest.run(["stat", "--format=%U", DATA]).strip() == "mongodb"
    assert mongodb.guest.run(["systemctl", "is-enabled", MONGODB.unit]).strip() == "enabled"


def test_users_databases_and_root(train: Worker, mongodb: Server) -> None:
    password, other = mongodb.secret(), mongodb.secret()
    call(train, mongodb, "create_database", databases=[{"_name": "second", "_character_set": None, "_collate": None}])
    call(train, mongodb, "create_user", users=[user("second.u.v", password, databases=("second",))])
    # Casts, all that create and delete.
    wait_until("the database", lambda: listed(train, mongodb, "databases") == ["first", "second"], CAST_SECONDS)
    wait_until("the user", lambda: listed(train, mongodb, "users") == ["first.owner", "second.u.v"], CAST_SECONDS)
    users, marker = call(train, mongodb, "list_users", limit=1)
    assert ([entry["_name"] for entry in users], marker) == (["first.owner"], "first.owner@%")
    with client(mongodb, "second.u.v", password) as session:
        session["second"]["c"].insert_one({})
    call(train, mongodb, "grant_access", username="second.u.v", hostname=None, databases=["first"])
    call(train, mongodb, "revoke_access", username="second.u.v", hostname=None, database="second")
    access = call(train, mongodb, "list_access", username="second.u.v", hostname=None)
    assert [database["_name"] for database in access] == ["first"]
    call(train, mongodb, "change_passwords", users=[{"name": "second.u.v", "host": "%", "password": other}])
    wait_until("the new password", lambda: lets_in(mongodb, "second.u.v", other), CAST_SECONDS)
    with client(mongodb, "second.u.v", other) as session:
        assert session["first"]["c"].find_one({"_id": 7})
    root = call(train, mongodb, "enable_root")
    mongodb.secrets.append(root["_password"])
    with client(mongodb, root["_name"], root["_password"]) as session:
        assert "second" in session.list_database_names()
    assert call(train, mongodb, "is_root_enabled")
    call(train, mongodb, "disable_root")
    call(train, mongodb, "delete_user", user=user("second.u.v"))
    call(train, mongodb, "delete_database", database={"_name": "second", "_character_set": None, "_collate": None})
    wait_until("both to go", lambda: (listed(train, mongodb, "databases"), listed(train, mongodb, "users")) == (["first"], ["first.owner"]), CAST_SECONDS)


def test_a_group_waits_for_a_restart_and_survives_the_guest(train: Worker, mongodb: Server) -> None:
    group = {"net.maxIncomingConnections": 321, "systemLog.verbosity": 1}
    call(train, mongodb, "update_overrides", overrides=group)
    call(train, mongodb, "apply_overrides", overrides=group)
    mongodb.instance.wait_status("restart required", 60, mongodb.guest.agent_log)
    mongodb.instance.restart()
    mongodb.wait_active()
    mongodb.guest.reboot()
    mongodb.wait_active()
    assert "maxIncomingConnections: 321" in mongodb.guest.run(["cat", "/etc/mongod.conf"])
    with owner(mongodb) as session:
        assert session["first"]["c"].find_one({"_id": 7})


def test_the_servers_messages_are_a_log(deployment: Deployment, train: Worker, swift: Swift, mongodb: Server) -> None:
    storage = account(swift, deployment)
    mongodb.secrets.append(storage["token"])
    logs = train.ask("call", instance_id=mongodb.instance.id, method="guest_log_list", arguments={}, storage=storage)
    (log,) = [log for log in logs if log["name"] == "mongodb"]
    assert log["type"] == "SYS" and int(log["pending"]) > 0


def test_bad_names_and_what_there_is_not_are_refused_in_troves_words(train: Worker, mongodb: Server) -> None:
    with pytest.raises(GuestCallFailed, match="not in <database>.<username> format"):
        call(train, mongodb, "get_user", username="nodot", hostname=None)
    with pytest.raises(GuestCallFailed, match="operation is not supported for the 'mongodb' datastore"):
        call(train, mongodb, "get_replica_context")


def test_no_log_of_the_guest_holds_a_secret(mongodb: Server) -> None:
    log = mongodb.guest.everything_logged()
    assert mongodb.instance.id in log and len(mongodb.secrets) >= 4
    assert leaked(mongodb, log) == []
