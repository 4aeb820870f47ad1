"""A guest with Redis, and one with Valkey in its place: prepared by the controller of today, and then in the hands of Train's own client, which knows this datastore."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from backups import back_up, restored
from bench import packages
from bench.deployment import REDIS, Deployment, Kind, Server
from bench.swift import Swift
from bench.waiting import wait_until
from bench.worker import GuestCallFailed, Worker
from helpers import account
from secret_search import leaked, search_and_end

# Installed by `prepare`, on a root that has another datastore.
VALKEY = Kind("mysql-9.7", "redis", "9", "valkey-server.service", "valkey-server", packages.VALKEY, "/var/lib/valkey")


@pytest.fixture(scope="module", params=[REDIS, VALKEY], ids=["redis", "valkey"])
def redis(request: pytest.FixtureRequest, deployment: Deployment, swift: Swift) -> Iterator[Server]:
    token, _ = swift.login()
    key = f"Key-{swift.key}"
    server = deployment.launch(request.param, secure=True, guest_options={"backup_aes_cbc_key": key})
    server.secrets += [token, key]
    server.prepare([], [])
    yield server
    search_and_end(server)


def call(train: Worker, server: Server, method: str, **arguments: Any) -> Any:
    return train.ask("call", instance_id=server.instance.id, method=method, arguments=arguments)


def family(server: Server) -> str:
    """What the program's files, accounts and directories are called."""
    return server.kind.unit.partition("-")[0]


def cli(server: Server, *words: str, password: str | None = None) -> str:
    """As a user would, over TCP. The password goes by standard input: a command line shows it."""
    ask = [] if password is None else ["--askpass"]
    return server.guest.run([f"{family(server)}-cli", *ask, "-h", server.guest.address, *words], stdin=password and f"{password}\n").strip()


def test_it_serves_on_its_volume_and_hides_its_configuration(redis: Server) -> None:
    assert cli(redis, "SET", "x", "1") == "OK"
    assert "unknown command" in cli(redis, "CONFIG", "GET", "*")
    assert f"{family(redis)}_version:{redis.kind.version}." in cli(redis, "INFO", "server")
    data = f"/var/lib/{family(redis)}"
    assert any(mount["target"] == data for mount in redis.guest.mounts())
    assert redis.guest.run(["stat", "--format=%U", data]).strip() == family(redis)


def test_root_is_the_password(train: Worker, redis: Server) -> None:
    user = call(train, redis, "enable_root")
    password = user["_password"]
    redis.secrets.append(password)
    assert user["_name"] == "-" and call(train, redis, "get_root_password") == password
    assert "NOAUTH" in cli(redis, "GET", "x")
    call(train, redis, "restart")
    redis.wait_active()
    assert cli(redis, "GET", "x", password=password) in ("", "1")
    call(train, redis, "disable_root")
    assert cli(redis, "PING") == "PONG"


def test_a_group_is_applied_and_survives_agent_and_guest(train: Worker, redis: Server) -> None:
    group = {"maxmemory": "33554432", "timeout": 11}
    call(train, redis, "update_overrides", overrides=group)
    call(train, redis, "apply_overrides", overrides=group)
    assert "maxmemory:33554432" in cli(redis, "INFO", "memory")
    redis.guest.reboot()
    redis.wait_active()
    assert "maxmemory:33554432" in cli(redis, "INFO", "memory")
    # The agent of this life knows what CONFIG is called.
    call(train, redis, "apply_overrides", overrides={"maxmemory": "44040192"})
    assert "maxmemory:44040192" in cli(redis, "INFO", "memory")


def test_a_backup_goes_to_swift_and_comes_back(deployment: Deployment, swift: Swift, redis: Server) -> None:
    assert cli(redis, "SET", "kept", "in the backup") == "OK"
    backup = back_up(deployment, swift, redis)
    other = restored(deployment, swift, redis.kind, backup, redis.secrets)
    try:
        assert cli(other, "GET", "kept") == "in the backup"
    finally:
        other.guest.container.stop()


def test_the_servers_messages_are_a_log(deployment: Deployment, train: Worker, swift: Swift, redis: Server) -> None:
    storage = account(swift, deployment)
    redis.secrets.append(storage["token"])
    logs = train.ask("call", instance_id=redis.instance.id, method="guest_log_list", arguments={}, storage=storage)
    (log,) = [log for log in logs if log["name"] == "redis"]
    assert log["type"] == "SYS" and int(log["pending"]) > 0


@pytest.mark.parametrize("redis", [REDIS], ids=["redis"], indirect=True)
def test_a_rebuild_keeps_data_and_password(deployment: Deployment, train: Worker, redis: Server) -> None:
    """The steps of the task manager's RebuildAction, which knows of no password. No image here has Valkey."""
    password = call(train, redis, "enable_root")["_password"]
    redis.secrets.append(password)
    assert cli(redis, "SET", "kept", "over the disk", password=password).endswith("OK")
    redis.instance.call("stop_db")
    redis.instance.call("unmount_volume", device_path="/dev/vdb", mount_point="/var/lib/redis")
    deployment.rebuild(redis, redis.kind.root)
    contents = deployment.controller.render_template(redis.instance)
    redis.instance.call("rebuild", ds_version=redis.kind.version, config_contents=contents, config_overrides={"timeout": 11})
    phase = ["cat", "/var/lib/trove-guestagent/status.json"]
    wait_until("the end of the rebuild", lambda: '"active"' in redis.guest.run(phase, check=False), 120, redis.guest.agent_log)
    redis.wait_active()
    assert cli(redis, "GET", "kept", password=password).endswith("over the disk")
    assert "NOAUTH" in cli(redis, "GET", "kept")
    assert any(mount["target"] == "/var/lib/redis" for mount in redis.guest.mounts())
    assert redis.guest.run(["systemctl", "is-enabled", redis.kind.unit]).strip() == "enabled"


def test_what_there_is_not_is_refused_in_troves_words(train: Worker, redis: Server) -> None:
    with pytest.raises(GuestCallFailed, match="The 'list_users' operation is not supported for the 'redis' datastore"):
        call(train, redis, "list_users")


def test_no_log_of_the_guest_holds_a_secret(redis: Server) -> None:
    log = redis.guest.everything_logged()
    assert redis.instance.id in log and len(redis.secrets) >= 4
    assert leaked(redis, log) == []
