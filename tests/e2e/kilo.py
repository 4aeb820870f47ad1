"""What a Kilo controller sends (its `trove.guestagent.api.API`), by hand: no package of that release runs any more."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bench.deployment import Server
from bench.era_peer import EraPeer
from conformance import BACKUP, NOT_SUPPORTED, OWNER, SNAPSHOT, keys, last_transaction, refusal

NAME = "kilo"
# Planted: no log may have them.
PASSWORDS = [f"Kilo-{secrets.token_hex(8)}" for _ in range(3)]


@dataclass
class OldServer:
    """A guest with the peer that is its controller of an older release."""

    server: Server
    peer: EraPeer
    password: str

    @property
    def id(self) -> str:
        return self.server.instance.id

    def call(self, method: str, **arguments: Any) -> Any:
        """The result of a call; the reply must not be a failure."""
        replies = self.peer.call(self.id, method, **arguments)
        assert replies.failure is None
        return replies.result


@dataclass(frozen=True)
class Kilo:
    """One method, with arguments in the shapes of the era.

    Where it is answered, `answers` looks at what a call returns, and `effect` at the guest after a cast.
    """

    arguments: dict[str, Any] = field(default_factory=dict)
    answers: Callable[[Any], bool] | None = None
    effect: Callable[[OldServer], bool] | None = None
    # In place of `answers`: it runs, and fails with these words.
    fails: str | None = None
    # A cast that is refused for its arguments: what is in the log then.
    logs: str | None = None
    is_call: bool = True


def empty(result: Any) -> bool:
    return result is None


def kilo_user(name: str, password: str | None = None, databases: tuple[str, ...] = ()) -> dict[str, Any]:
    """A user before `_is_root`; no host means any."""
    schemas = [{"_name": database, "_character_set": None, "_collate": None} for database in databases]
    return {"_name": name, "_password": password, "_host": None, "_databases": schemas}


def page(result: Any) -> bool:
    items, marker = result
    return isinstance(items, list) and marker is None


def lists(what: str, there: bool = True) -> Callable[[OldServer], bool]:
    """Whether the name is (or is not) in a list of users or databases."""
    return lambda old: (NAME in [entry["_name"] for entry in old.call(what, **PAGE)[0]]) == there


def logs_in(password: str) -> Callable[[OldServer], bool]:
    return lambda old: old.server.can_log_in(NAME, password)


def is_written(old: OldServer) -> bool:
    """The user's group is in a file of the server's."""
    return "= 99" in old.server.guest.run(["grep", "--recursive", "--no-filename", "max_connections", "/etc/mysql/"])


def is_set(old: OldServer) -> bool:
    return old.server.query("owner", old.password, "SELECT @@max_connections") == [(99,)]


SCHEMA = {"_name": NAME, "_character_set": "utf8", "_collate": "utf8_general_ci"}
PAGE = {"limit": 20, "marker": None, "include_marker": False}
UPGRADE = {"instance_version": "2", "location": "http://192.0.2.1/agent", "metadata": None}
BACKUP_INFO = BACKUP | {"datastore": "mariadb", "datastore_version": "10.11"}


def shaped(check: Callable[[Any, Any], None]) -> Callable[[Any], bool]:
    """A check of conformance.py, which needs no server."""

    def answers(result: Any) -> bool:
        check(None, result)
        return True

    return answers


NO_ACCOUNT = "names no account to replicate with"


def refuses_to_follow(old: OldServer) -> bool:
    return NO_ACCOUNT in old.server.guest.agent_log()


def begins_a_backup(old: OldServer) -> bool:
    return 'method="create_backup"' in old.server.guest.agent_log()


# In an order in which each finds what it needs. Methods that stop or prepare the database have tests of their own.
METHODS: dict[str, Kilo] = {
    "rpc_ping": Kilo(answers=lambda result: result is True),
    "get_hwinfo": Kilo(answers=shaped(keys("mem_total", "num_cpus"))),
    "get_diagnostics": Kilo(answers=shaped(keys("version", "threads", "fd_size", "vm_size", "vm_peak", "vm_rss", "vm_hwm"))),
    "get_filesystem_stats": Kilo({"fs_path": "/"}, shaped(keys("block_size", "total_blocks", "free_blocks", "total", "free", "used"))),
    "update_guest": Kilo(),
    "upgrade": Kilo(UPGRADE, is_call=False, logs=refusal(NOT_SUPPORTED, "upgrade", "mariadb")[1]),
    "create_database": Kilo({"databases": [SCHEMA]}, effect=lists("list_databases"), is_call=False),
    "list_databases": Kilo(PAGE, page),
    "create_user": Kilo({"users": [kilo_user(NAME, PASSWORDS[0], (NAME,))]}, effect=logs_in(PASSWORDS[0]), is_call=False),
    "list_users": Kilo(PAGE, page),
    "get_user": Kilo(OWNER, lambda result: result["_name"] == "owner"),
    "list_access": Kilo(OWNER, lambda result: "first" in [entry["_name"] for entry in result]),
    "grant_access": Kilo(OWNER | {"databases": [NAME]}, empty),
    "revoke_access": Kilo(OWNER | {"database": NAME}, empty),
    "change_passwords": Kilo({"users": [{"name": NAME, "host": None, "password": PASSWORDS[1]}]}, effect=logs_in(PASSWORDS[1]), is_call=False),
    "update_attributes": Kilo(
        {"username": NAME, "hostname": "%", "user_attrs": {"password": PASSWORDS[2]}}, effect=logs_in(PASSWORDS[2]), is_call=False
    ),
    "delete_user": Kilo({"user": kilo_user(NAME)}, effect=lists("list_users", there=False), is_call=False),
    "delete_database": Kilo({"database": SCHEMA}, effect=lists("list_databases", there=False), is_call=False),
    "is_root_enabled": Kilo(answers=lambda result: isinstance(result, bool)),
    "disable_root": Kilo(answers=empty),
    # A cast with the rendered text, up to Kilo.
    "update_overrides": Kilo({"overrides": "[mysqld]\nmax_connections = 99\n", "remove": False}, effect=is_written, is_call=False),
    "apply_overrides": Kilo({"overrides": {"max_connections": 99}}, effect=is_set, is_call=False),
    # Its storage answers nobody; test_backup.py has one that does.
    "create_backup": Kilo({"backup_info": BACKUP_INFO}, effect=begins_a_backup, is_call=False),
    "enable_as_master": Kilo({"replica_source_config": ""}, empty),
    # Of a later replica of the same call: the backup is there already.
    "get_replication_snapshot": Kilo(
        {"snapshot_info": {**BACKUP_INFO, "replica_number": 2}, "replica_source_config": None},
        shaped(keys("dataset", "replication_strategy", "master", "log_position")),
    ),
    "get_replica_context": Kilo(answers=shaped(keys("master", "log_position"))),
    # There is no account to log in with.
    "attach_replication_slave": Kilo({"snapshot": SNAPSHOT, "slave_config": None}, effect=refuses_to_follow, is_call=False),
    "attach_replica": Kilo({"replica_info": SNAPSHOT, "slave_config": None}, fails=NO_ACCOUNT),
    "detach_replica": Kilo({"for_failover": False}, lambda result: result == {"replication_user": None}),
    "make_read_only": Kilo({"read_only": False}, empty),
    "get_txn_count": Kilo(answers=lambda result: isinstance(result, int)),
    "get_last_txn": Kilo(answers=shaped(last_transaction)),
    "get_latest_txn_id": Kilo(answers=lambda result: isinstance(result, str)),
    "wait_for_txn": Kilo({"txn": ""}, empty),
    "cleanup_source_on_replica_detach": Kilo({"replica_info": {"replication_user": None}}, empty),
    "demote_replication_master": Kilo(answers=empty),
    "add_shard": Kilo({"replica_set_name": "rs1", "replica_set_member": "192.0.2.10"}),
    "add_members": Kilo({"members": ["192.0.2.10"]}),
    "add_config_servers": Kilo({"config_servers": ["192.0.2.10"]}),
    "get_public_keys": Kilo({"user": "dbadmin"}),
    "authorize_public_keys": Kilo({"user": "dbadmin", "public_keys": ["ssh-rsa AAAA"]}),
    "install_cluster": Kilo({"members": ["192.0.2.10"]}),
    "cluster_complete": Kilo(answers=empty),
}
