"""A guest with Redis: prepared by the controller of today, and then in the hands of Train's own client, which knows this datastore."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from backups import back_up, restored
from bench.deployment import Deployment, Kind, Server
from bench.swift import Swift
from bench.worker import GuestCallFailed, Worker
from secret_search import leaked, search_and_end

REDIS = Kind("redis-7", "redis", "7.0", "redis-server.service", "redis-server")


@pytest.fixture(scope="module")
def redis(deployment: Deployment, swift: Swift) -> Iterator[Server]:
    token, _ = swift.login()
    key = f"Key-{swift.key}"
    server = deployment.launch(REDIS, secure=True, guest_options={"backup_aes_cbc_key": key})
    server.secrets += [token, key]
    server.prepare([], [])
    yield server
    search_and_end(server)


def call(train: Worker, server: Server, method: str, **arguments: Any) -> Any:
    return train.ask("call", instance_id=server.instance.id, method=method, arguments=arguments)


def cli(server: Server, *words: str, password: str | None = None) -> str:
    """As a user would, over TCP. The password goes by standard input: a command line shows it."""
    ask = [] if password is None else ["--askpass"]
    return server.guest.run(["redis-cli", *ask, "-h", server.guest.address, *words], stdin=password and f"{password}\n").strip()


def test_it_serves_on_its_volume_and_hides_its_configuration(redis: Server) -> None:
    assert cli(redis, "SET", "x", "1") == "OK"
    assert "unknown command" in cli(redis, "CONFIG", "GET", "*")
    assert any(mount["target"] == "/var/lib/redis" for mount in redis.guest.mounts())
    assert redis.guest.run(["stat", "--format=%U", "/var/lib/redis"]).strip() == "redis"


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
    other = restored(deployment, swift, REDIS, backup, redis.secrets)
    try:
        assert cli(other, "GET", "kept") == "in the backup"
    finally:
        other.guest.container.stop()


def test_what_there_is_not_is_refused_in_troves_words(train: Worker, redis: Server) -> None:
    with pytest.raises(GuestCallFailed, match="The 'list_users' operation is not supported for the 'redis' datastore"):
        call(train, redis, "list_users")


def test_no_log_of_the_guest_holds_a_secret(redis: Server) -> None:
    log = redis.guest.everything_logged()
    assert redis.instance.id in log and len(redis.secrets) >= 4
    assert leaked(redis, log) == []
