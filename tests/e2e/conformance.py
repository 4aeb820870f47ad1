"""Every method of Trove's guest API: arguments as the task manager sends them, and what an answer looks like.

`docs/rpc.md`, which is made from the agent's own table, says what a guest of each datastore does with the method.
"""

from __future__ import annotations

import re
import secrets
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.certificates import Authority
from bench.deployment import Server
from bench.waiting import wait_until
from helpers import CAST_SECONDS, create_database, create_user, database_names, delete_database, delete_user, schema, user, user_names

STATUS_SECONDS = 60
PAGE = Path(__file__).resolve().parents[2] / "docs/rpc.md"
ANSWERS, NOT_SUPPORTED, NO_SUCH_METHOD = "answers", "`DatastoreOperationNotSupported`", "`NoSuchMethod`"

DEVICE, MOUNT_POINT = "/dev/vdb", "/var/lib/mysql"
SCHEMA_KEYS = {"_name", "_character_set", "_collate"}
USER_KEYS = {"_name", "_password", "_host", "_databases", "_is_root"}
# Users and databases of these tests alone.
NAME = "conform"

Check = Callable[[Server, Any], None]


def documented() -> dict[str, dict[str, str]]:
    """The table of docs/rpc.md: method -> datastore -> what happens."""
    rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    head, *body = rows
    return {row[0].strip("`"): dict(zip(head[3:], row[3:], strict=True)) for row in body}


def refusal(outcome: str, method: str, manager: str) -> tuple[str, str]:
    """What is under the API's GuestError, and the text the guest sent: as Python's guests word it."""
    if outcome == NOT_SUPPORTED:
        return "DatastoreOperationNotSupported_Remote", f"The '{method}' operation is not supported for the '{manager}' datastore."
    assert outcome == NO_SUCH_METHOD, outcome
    return "NoSuchMethod", f"Endpoint does not support RPC method {method}"


def leave(_server: Server) -> None:
    """Nothing to make ready, nothing to undo."""


@dataclass(frozen=True)
class Case:
    """`arguments` may be of any release: each API takes those it has. Without `answers` the method is one that no datastore has yet."""

    arguments: Callable[[Server], Mapping[str, Any]] | Mapping[str, Any] = field(default_factory=dict)
    answers: Check | None = None
    # In place of `answers`: it runs, and fails with these words.
    fails: str | None = None
    before: Callable[[Server], None] = leave
    after: Callable[[Server], None] = leave
    # The notification that goes along, where the REST API sends one.
    event: str | None = None
    in_train: bool = True
    # Its context has an account of Swift.
    storage: bool = False


def enable_as_source(server: Server) -> None:
    server.instance.call("enable_as_master", replica_source_config="")


def certificates() -> dict[str, str]:
    """The container of `ssl_action`, as trove/common/ssl.py takes it out of a bundle."""
    with tempfile.TemporaryDirectory() as directory:
        authority = Authority(Path(directory))
        certificate, key = authority.issue("database")
        return {"private_key": key.read_text(), "certificate": certificate.read_text(), "ca": authority.file.read_text()}


def controller_knows(server: Server) -> None:
    """MariaDB takes certificates at its start. The conductor has heard of that before anything else happens: later it would hear of nothing else."""
    if server.kind.manager == "mariadb":
        server.instance.wait_status("restart required", STATUS_SECONDS, server.guest.agent_log)


def enable_tls(server: Server) -> None:
    server.instance.call("ssl_action", mode="basic", container=certificates(), enable=True, disable=None)
    controller_knows(server)


def restart(server: Server) -> None:
    server.instance.restart()
    server.wait_active()


def no_certificates(server: Server) -> None:
    controller_knows(server)
    server.instance.call("ssl_rollback")
    restart(server)


def demote(server: Server) -> None:
    server.instance.call("demote_replication_master")


def arrive(server: Server) -> None:
    server.instance.call("post_upgrade", **ARRIVAL)


def upgrade_to_the_same(server: Server) -> dict[str, Any]:
    return {"upgrade_info": {"datastore_version": server.kind.version}, **UPGRADE}


def serves_afterwards(server: Server, result: Any) -> None:
    """A cast; the call behind it is answered when it has ended."""
    assert result is None
    server.instance.call("restart")
    assert "owner" in user_names(server)


def nothing(_server: Server, result: Any) -> None:
    assert result is None


def is_bool(_server: Server, result: Any) -> None:
    assert isinstance(result, bool)


def is_dict(_server: Server, result: Any) -> None:
    assert isinstance(result, dict)


def is_list(_server: Server, result: Any) -> None:
    assert isinstance(result, list)


def is_text(_server: Server, result: Any) -> None:
    assert isinstance(result, str)


def is_number(_server: Server, result: Any) -> None:
    assert isinstance(result, int)


def pings(_server: Server, result: Any) -> None:
    assert result is True


def keys(*names: str) -> Check:
    """A dictionary with at least these keys."""

    def check(_server: Server, result: Any) -> None:
        assert set(names) <= set(result)

    return check


LOG_KEYS = {"name", "type", "status", "published", "pending", "container", "prefix", "metafile"}


def logs(_server: Server, result: Any) -> None:
    assert [log["name"] for log in result] == ["general", "slow_query", "error", "guest"]
    assert all(set(log) == LOG_KEYS for log in result)


def error_log(server: Server, result: Any) -> None:
    assert set(result) == LOG_KEYS
    assert (result["name"], result["type"], result["published"], result["container"]) == ("error", "SYS", 0, "None")
    assert result["metafile"] == f"{server.instance.id}/{server.kind.manager}-error_metafile"


MODULE_KEYS = {"type", "name", "datastore", "datastore_version", "tenant", "id", "md5", "status", "message", "created", "updated", "removed"}
MODULE_FLAGS = {"auto_apply", "visible", "is_admin", "contents"}


def pongs(server: Server, result: Any) -> None:
    assert set(result[0]) == MODULE_KEYS | MODULE_FLAGS
    assert (result[0]["status"], result[0]["message"], result[0]["datastore"]) == ("OK", "pong", "all")
    assert server.instance.call("module_list", include_contents=True)[0]["contents"] == MODULE["contents"]


def no_module(server: Server, result: Any) -> None:
    assert result is None
    assert server.instance.call("module_list", include_contents=False) == []


def page_of(wanted: set[str]) -> Check:
    """A list of two: dictionaries with exactly these keys, and the marker of the next page."""

    def check(_server: Server, result: Any) -> None:
        items, marker = result
        assert len(items) == 1
        assert set(items[0]) == wanted
        assert isinstance(marker, str | None)

    return check


def the_owner(_server: Server, result: Any) -> None:
    assert set(result) == USER_KEYS
    assert (result["_name"], result["_host"], result["_password"], result["_is_root"]) == ("owner", "%", None, False)
    assert all(set(entry) == SCHEMA_KEYS for entry in result["_databases"])


def databases_of_the_owner(_server: Server, result: Any) -> None:
    assert all(set(entry) == SCHEMA_KEYS for entry in result)
    assert "first" in {entry["_name"] for entry in result}


def statistics(_server: Server, result: Any) -> None:
    assert {name: type(value) for name, value in result.items()} == {
        "block_size": int,
        "total_blocks": int,
        "free_blocks": int,
        "avail_blocks": int,
        "total": float,
        "free": int,
        "used": float,
        "mgr_extra_info": dict,
    }


def last_transaction(_server: Server, result: Any) -> None:
    source, number = result
    assert isinstance(source, str | None)
    assert isinstance(number, int)


def root_account(server: Server, result: Any) -> None:
    assert set(result) == USER_KEYS
    server.secrets.append(result["_password"])
    assert (result["_name"], result["_host"], result["_databases"], result["_is_root"]) == ("root", "%", [], True)
    assert server.can_log_in("root", result["_password"])


def root_is_out(server: Server, result: Any) -> None:
    assert result is None
    assert server.instance.call("is_root_enabled") is False


def runs(server: Server, result: Any) -> None:
    assert result is None
    assert server.can_log_in("owner", server.owner_password)


def sees(found: Callable[[Server], bool]) -> Check:
    """A cast: it returns nothing, and then there is something to see."""

    def check(server: Server, result: Any) -> None:
        assert result is None
        wait_until("the cast to take effect", lambda: found(server), CAST_SECONDS)

    return check


def configuration(server: Server) -> str:
    return server.instance.controller.render_template(server.instance)


def stop(server: Server) -> None:
    server.instance.call("stop_db")


def start(server: Server) -> None:
    server.instance.call("start_db_with_conf_changes", config_contents=configuration(server), ds_version=server.kind.version)
    server.wait_active()


def unmount(server: Server) -> None:
    stop(server)
    server.instance.call("unmount_volume", device_path=DEVICE, mount_point=MOUNT_POINT)


def mount(server: Server) -> None:
    if not mounted(server):
        server.instance.call("mount_volume", device_path=DEVICE, mount_point=MOUNT_POINT)
    start(server)


def mounted(server: Server) -> bool:
    return any(entry["target"] == MOUNT_POINT for entry in server.guest.mounts())


def is_mounted(server: Server, result: Any) -> None:
    assert result is None
    assert mounted(server)


def is_not_mounted(server: Server, result: Any) -> None:
    assert result is None
    assert not mounted(server)


def new_user(server: Server) -> None:
    create_user(server, user(NAME, server.secret()))


def no_user(server: Server) -> None:
    if NAME in user_names(server):
        delete_user(server, NAME)


def new_database(server: Server) -> None:
    create_database(server, schema(NAME))


def no_database(server: Server) -> None:
    if NAME in database_names(server):
        delete_database(server, NAME)


def newest_secret_logs_in(server: Server) -> bool:
    return server.can_log_in(NAME, server.secrets[-1])


def change(call: str, **arguments: Any) -> Callable[[Server], None]:
    """A call of the current release that readies or undoes something."""
    return lambda server: server.instance.call(call, **arguments)


OWNER = {"username": "owner", "hostname": "%"}
SECOND = {"databases": ["second"], "database": "second"}
VOLUME = {"device_path": DEVICE, "mount_point": MOUNT_POINT, "online": False}
SNAPSHOT = {"dataset": {"datastore_manager": "mysql"}, "master": {"host": "192.0.2.7", "port": 3306}, "log_position": {}}
# What Kilo and Train send under this name: an agent that replaces itself. No Python guest ever served it.
UPGRADE = {"instance_version": "2", "location": "http://192.0.2.1/agent", "metadata": None}
ARRIVAL = {"upgrade_info": {"mount_point": MOUNT_POINT, "device": DEVICE}}
# `message=pong`.
MODULE = {"id": "m1", "name": "m", "type": "ping", "contents": "bWVzc2FnZT1wb25n", "md5": "", "datastore": None, "datastore_version": None}
BACKUP = {"id": "b1", "name": "b", "description": None, "instance_id": "i", "backup_type": None, "checksum": None, "parent": None}
ACCESS = {"granted": change("grant_access", **OWNER, databases=["second"]), "revoked": change("revoke_access", **OWNER, database="second")}

BASE: dict[str, Case] = {
    "rpc_ping": Case(answers=pings),
    "restart": Case(answers=runs, after=Server.wait_active),
    "stop_db": Case({"do_not_start_on_reboot": False}, nothing, after=start),
    "start_db_with_conf_changes": Case(
        lambda server: {"config_contents": configuration(server), "ds_version": server.kind.version},
        runs,
        before=stop,
        after=Server.wait_active,
    ),
    "reset_configuration": Case(lambda server: {"configuration": {"config_contents": configuration(server)}}, nothing),
    "pre_upgrade": Case(answers=is_dict, after=arrive),
    "post_upgrade": Case(ARRIVAL, nothing),
    "upgrade": Case(upgrade_to_the_same, serves_afterwards),
    "rebuild": Case(
        lambda server: {"ds_version": server.kind.version, "config_contents": configuration(server), "config_overrides": {}},
        serves_afterwards,
        in_train=False,
    ),
    "get_filesystem_stats": Case(answers=statistics),
    "mount_volume": Case(VOLUME, is_mounted, before=unmount, after=mount),
    "unmount_volume": Case(VOLUME, is_not_mounted, before=stop, after=mount),
    "resize_fs": Case(VOLUME, nothing, before=unmount, after=mount),
    "get_hwinfo": Case(answers=keys("mem_total", "num_cpus")),
    "get_diagnostics": Case(answers=keys("version", "threads", "fd_size", "vm_size", "vm_peak", "vm_rss", "vm_hwm")),
    "update_guest": Case(),
    "update_overrides": Case(
        {"overrides": {"max_connections": 101}, "remove": False}, nothing, after=change("update_overrides", overrides={}, remove=True)
    ),
    "apply_overrides": Case({"overrides": {"max_connections": 100}}, nothing),
    "create_database": Case(
        {"databases": [schema(NAME)]}, sees(lambda server: NAME in database_names(server)), after=no_database, event="DBaaSDatabaseCreate"
    ),
    "list_databases": Case({"limit": 1, "marker": None, "include_marker": False}, page_of(SCHEMA_KEYS)),
    "delete_database": Case(
        {"database": schema(NAME)},
        sees(lambda server: NAME not in database_names(server)),
        before=new_database,
        after=no_database,
        event="DBaaSDatabaseDelete",
    ),
    "create_user": Case(
        lambda server: {"users": [user(NAME, server.secret(), databases=("first",))]},
        sees(newest_secret_logs_in),
        after=no_user,
        event="DBaaSUserCreate",
    ),
    "list_users": Case({"limit": 1, "marker": None, "include_marker": False}, page_of(USER_KEYS)),
    "get_user": Case(OWNER, the_owner),
    "delete_user": Case(
        {"user": user(NAME)}, sees(lambda server: NAME not in user_names(server)), before=new_user, after=no_user, event="DBaaSUserDelete"
    ),
    "change_passwords": Case(
        lambda server: {"users": [{"name": NAME, "host": "%", "password": server.secret()}]},
        sees(newest_secret_logs_in),
        before=new_user,
        after=no_user,
        event="DBaaSUserChangePassword",
    ),
    "update_attributes": Case(
        lambda server: {"username": NAME, "hostname": "%", "user_attrs": {"password": server.secret()}},
        sees(newest_secret_logs_in),
        before=new_user,
        after=no_user,
        event="DBaaSUserUpdateAttributes",
    ),
    "list_access": Case(OWNER, databases_of_the_owner),
    "grant_access": Case(OWNER | SECOND, nothing, after=ACCESS["revoked"]),
    "revoke_access": Case(OWNER | SECOND, nothing, before=ACCESS["granted"]),
    "enable_root": Case(answers=root_account, after=change("disable_root")),
    "enable_root_with_password": Case(lambda server: {"root_password": server.secret()}, root_account, after=change("disable_root")),
    "disable_root": Case(answers=root_is_out, before=lambda server: root_account(server, server.instance.call("enable_root"))),
    "is_root_enabled": Case(answers=is_bool),
    "get_root_password": Case(answers=is_text),
    "create_backup": Case({"backup_info": BACKUP}, nothing, event="DBaaSBackupCreate"),
    "pre_create_backup": Case(answers=is_dict, in_train=False, after=change("post_create_backup")),
    "post_create_backup": Case(answers=is_dict, in_train=False, before=change("pre_create_backup")),
    "backup_required_for_replication": Case(answers=is_bool),
    # The backup is the controller's: nothing is stored. test_replication.py makes and follows snapshots.
    "get_replication_snapshot": Case(
        {"snapshot_info": {**BACKUP, "storage_driver": "cinder"}, "replica_source_config": None},
        answers=keys("dataset", "replication_strategy", "master"),
        after=demote,
    ),
    # A cast that fails on the guest: there is no account to log in with.
    "attach_replication_slave": Case({"snapshot": SNAPSHOT, "replica_config": None}, answers=nothing),
    "attach_replica": Case({"replica_info": SNAPSHOT, "slave_config": None, "restart": False}, fails="names no account to replicate with"),
    "detach_replica": Case({"for_failover": False}, answers=is_dict),
    "get_replica_context": Case(answers=keys("master"), before=enable_as_source, after=demote),
    "make_read_only": Case({"read_only": False}, nothing),
    "enable_as_master": Case({"replica_source_config": ""}, answers=nothing, after=demote),
    "get_last_txn": Case(answers=last_transaction),
    "get_latest_txn_id": Case(answers=is_text),
    "get_txn_count": Case(answers=is_number),
    "wait_for_txn": Case(lambda server: {"txn": server.instance.call("get_latest_txn_id")}, answers=nothing),
    "cleanup_source_on_replica_detach": Case({"replica_info": {"replication_user": None}}, answers=nothing),
    "demote_replication_master": Case(answers=nothing),
    "guest_log_list": Case(answers=logs, storage=True),
    "guest_log_action": Case(
        {"log_name": "error", "enable": None, "disable": None, "publish": None, "discard": None}, error_log, storage=True
    ),
    "module_list": Case({"include_contents": False}, is_list),
    "module_apply": Case({"modules": [{"module": MODULE}]}, pongs, after=change("module_remove", module={"module": MODULE})),
    "module_remove": Case({"module": {"module": MODULE}}, no_module, before=change("module_apply", modules=[{"module": MODULE}])),
    "ssl_show": Case(answers=keys("status"), in_train=False),
    "ssl_action": Case(
        lambda server: {"mode": "basic", "container": certificates(), "enable": True, "disable": None},
        keys("restart_required"),
        in_train=False,
        after=no_certificates,
    ),
    "ssl_rollback": Case(answers=keys("status", "restart_required", "mode"), in_train=False, before=enable_tls, after=restart),
}

COMPLETE = {"cluster_complete": Case(answers=nothing)}
MEMBERS = {"members": ["192.0.2.10", "192.0.2.11"]}
# Planted: no log may have it.
CLUSTER_PASSWORD = f"cluster-{secrets.token_hex(8)}"
PASSWORD = {"password": CLUSTER_PASSWORD, "admin_password": CLUSTER_PASSWORD}
GALERA_USER = {"name": "clusterrepuser", "password": CLUSTER_PASSWORD}

CLUSTERS: dict[str, dict[str, Case]] = {
    "mongodb": COMPLETE
    | {
        "add_shard": Case({"replica_set_name": "rs1", "replica_set_member": "192.0.2.10"}),
        "add_members": Case(MEMBERS),
        "add_config_servers": Case({"config_servers": MEMBERS["members"]}),
        "get_key": Case(),
        "prep_primary": Case(),
        "create_admin_user": Case(PASSWORD),
        "store_admin_password": Case(PASSWORD),
        "get_replica_set_name": Case(),
        "get_admin_password": Case(),
        "is_shard_active": Case({"replica_set_name": "rs1"}),
    },
    "redis": COMPLETE
    | {
        "get_node_ip": Case(),
        "get_node_id_for_removal": Case(),
        "remove_nodes": Case({"node_ids": ["n1"]}),
        "cluster_meet": Case({"ip": "192.0.2.10", "port": "6379"}),
        "cluster_addslots": Case({"first_slot": 0, "last_slot": 5460}),
    },
    "cassandra": COMPLETE
    | {
        "get_data_center": Case(),
        "get_rack": Case(),
        "set_seeds": Case({"seeds": MEMBERS["members"]}),
        "get_seeds": Case(),
        "set_auto_bootstrap": Case({"enabled": False}),
        "node_cleanup_begin": Case(),
        "node_cleanup": Case(),
        "node_decommission": Case(),
        "cluster_secure": Case(PASSWORD),
        "get_admin_credentials": Case(),
        "store_admin_credentials": Case({"admin_credentials": GALERA_USER}),
    },
    "galera": COMPLETE
    | {
        "install_cluster": Case({"replication_user": GALERA_USER, "cluster_configuration": "[mysqld]\n", "bootstrap": True}),
        "reset_admin_password": Case(PASSWORD),
        "get_cluster_context": Case(),
        "write_cluster_configuration_overrides": Case({"cluster_configuration": "[mysqld]\n"}),
    },
    "vertica": COMPLETE
    | {
        "get_public_keys": Case({"user": "dbadmin"}),
        "authorize_public_keys": Case({"user": "dbadmin", "public_keys": ["ssh-rsa AAAA"]}),
        "install_cluster": Case(MEMBERS),
        "grow_cluster": Case(MEMBERS),
        "shrink_cluster": Case(MEMBERS),
        "mark_design_ksafe": Case({"k": 1}),
    },
}

# By API class and wire name.
CASES: dict[tuple[str, str], Case] = {
    (api, method): case for api, cases in ({"base": BASE} | CLUSTERS).items() for method, case in cases.items()
}


def log_count(server: Server, text: str) -> int:
    """How often the agent has logged a line with this text at its end or in quotes."""
    return len(re.findall(re.escape(text), server.guest.agent_log()))
