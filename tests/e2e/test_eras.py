"""Controllers of older releases, spoken by hand on a virtual host of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from bench.deployment import MARIADB, Deployment
from bench.era_peer import KILO, TRAIN, Era, EraPeer
from bench.waiting import wait_until
from conformance import ANSWERS, DEVICE, MOUNT_POINT, documented, log_count, mounted, refusal
from helpers import CAST_SECONDS, user
from kilo import METHODS, PASSWORDS, Kilo, OldServer
from secret_search import search_and_end

CONFIGURATION = """\
[client]
port = 3306
socket = /var/run/mysqld/mysqld.sock

[mysqld]
port = 3306
datadir = /var/lib/mysql/data
pid_file = /var/run/mysqld/mysqld.pid
socket = /var/run/mysqld/mysqld.sock
innodb_buffer_pool_size = 64M
max_connections = 77
server_id = 7

!includedir /etc/mysql/conf.d/
"""

TABLE = documented()

# What each era put into guest_info.conf.
GUEST_INFO = "[DEFAULT]\nguest_id={id}\ndatastore_manager=mariadb\ntenant_id=T1\n"


def prepare_arguments(era: Era, password: str) -> dict[str, Any]:
    """`prepare` with the arguments of the era."""
    owner = user("owner", password)
    owner["_databases"] = [{"_name": "first", "_character_set": None, "_collate": None}]
    if era is KILO:
        del owner["_is_root"]
        owner["_host"] = None
    arguments: dict[str, Any] = {
        "memory_mb": 512,
        "packages": ["mariadb-server"],
        "databases": [{"_name": "first", "_character_set": "utf8", "_collate": "utf8_general_ci"}],
        "users": [owner],
        "device_path": "/dev/vdb",
        "mount_point": "/var/lib/mysql",
        "backup_info": None,
        "config_contents": CONFIGURATION,
        "root_password": None,
        "overrides": "[mysqld]\nmax_connections = 88\n" if era is KILO else {"max_connections": 88},
        "cluster_config": None,
        "snapshot": None,
    }
    return arguments if era is KILO else arguments | {"modules": None}


@pytest.fixture(scope="module", params=[KILO, TRAIN], ids=["kilo", "train"])
def old(request: pytest.FixtureRequest, deployment: Deployment) -> Iterator[OldServer]:
    era: Era = request.param
    deployment.rabbit.add_vhost(era.name)
    url = deployment.rabbit.url(deployment.host) + era.name
    server = deployment.place(MARIADB, secure=False, guest_options={"transport_url": url})
    info = "/etc/trove/conf.d/guest_info.conf"
    server.guest.inject({info: GUEST_INFO.format(id=server.instance.id)})
    peer = EraPeer(deployment.rabbit.url() + era.name, era)
    server.guest.boot()
    old = OldServer(server, peer, server.secret())
    server.secrets.extend(PASSWORDS)
    wait_until("rpc_ping", lambda: old.call("rpc_ping") is True, 60)
    peer.cast(old.id, "prepare", **prepare_arguments(era, old.password))
    wait_until("a running instance", lambda: "running" in peer.heartbeats(old.id), 180, server.guest.agent_log)
    yield old
    search_and_end(server)
    peer.close()


def test_statuses_are_words_of_the_era(old: OldServer) -> None:
    words = old.peer.heartbeats(old.id)
    assert words[0] == "building"
    assert set(words) == {"building", "running"}


def test_each_reply_has_the_framing_of_the_era(old: OldServer) -> None:
    replies = old.peer.call(old.id, "rpc_ping")
    assert replies.result is True
    assert len(replies.messages) == (1 if old.peer.era.sends_timeout else 2)
    assert "ending" in replies.messages[-1]
    assert len({message["_unique_id"] for message in replies.messages}) == len(replies.messages)


def test_failures_have_the_framing_of_the_era(old: OldServer) -> None:
    replies = old.peer.call(old.id, "no_such_thing")
    assert replies.failure is not None
    assert replies.failure["class"] == "NoSuchMethod"
    assert len(replies.messages) == (1 if old.peer.era.sends_timeout else 2)


def test_the_overrides_of_the_era_are_in_force(old: OldServer) -> None:
    ((connections,),) = old.server.query("owner", old.password, "SELECT @@max_connections")
    assert connections == 88


def test_users_and_databases_are_listed(old: OldServer) -> None:
    users, marker = old.call("list_users", limit=20, marker=None, include_marker=False)
    assert [entry["_name"] for entry in users] == ["owner"]
    assert marker is None
    databases, _ = old.call("list_databases", limit=20, marker=None, include_marker=False)
    assert [entry["_name"] for entry in databases] == ["first"]


def test_the_server_stops_and_starts(old: OldServer) -> None:
    old.call("stop_db", do_not_start_on_reboot=False)
    old.call("start_db_with_conf_changes", config_contents=CONFIGURATION)
    assert old.server.can_log_in("owner", old.password)


def test_casts_to_the_conductor_carry_no_context_of_another_era(old: OldServer) -> None:
    """Kilo's context takes exactly its own keys: any other loses the cast."""
    root = old.call("enable_root")
    old.server.secrets.append(root["_password"])
    allowed = {f"_context_{name}" for name in old.peer.era.context}
    casts = old.peer.casts()
    for cast in casts:
        assert {name for name in cast if name.startswith("_context_")} <= allowed, cast["method"]
    times = [cast["args"]["sent"] for cast in casts if cast["method"] == "heartbeat"]
    assert all(isinstance(sent, float) for sent in times)
    assert times == sorted(set(times)), "`sent` must grow"


@pytest.mark.parametrize("old", [KILO], indirect=True, ids=["kilo"])
@pytest.mark.parametrize("method", METHODS)
def test_the_outcome_of_each_method_of_kilo_is_the_documented_one(old: OldServer, method: str) -> None:
    sent, outcome = METHODS[method], TABLE[method]["mariadb"]
    if outcome != ANSWERS:
        return refused(old, sent, method, outcome)
    if sent.fails is not None:
        failure = old.peer.call(old.id, method, **sent.arguments).failure
        assert failure is not None
        assert sent.fails in failure["message"]
        return
    if sent.is_call:
        assert sent.answers is not None, "docs/rpc.md says that it answers: say in kilo.py what an answer looks like"
        assert sent.answers(old.call(method, **sent.arguments))
        return
    if sent.logs is not None:
        logs = sent.logs
        before = log_count(old.server, logs)
        old.peer.cast(old.id, method, **sent.arguments)
        wait_until("the refusal", lambda: log_count(old.server, logs) > before, CAST_SECONDS)
        return
    assert sent.effect is not None, "docs/rpc.md says that it answers: say in kilo.py what is to be seen then"
    effect = sent.effect
    assert not effect(old)
    old.peer.cast(old.id, method, **sent.arguments)
    wait_until(f"{method} to take effect", lambda: effect(old), CAST_SECONDS, old.server.guest.agent_log)


def refused(old: OldServer, sent: Kilo, method: str, outcome: str) -> None:
    remote, text = refusal(outcome, method, "mariadb")
    if sent.is_call:
        failure = old.peer.call(old.id, method, **sent.arguments).failure
        assert failure is not None
        assert (failure["class"], failure["message"]) == (remote.removesuffix("_Remote"), text)
        return
    before = log_count(old.server, text)
    old.peer.cast(old.id, method, **sent.arguments)
    wait_until("the refusal", lambda: log_count(old.server, text) > before, CAST_SECONDS)


@pytest.mark.parametrize("old", [KILO], indirect=True, ids=["kilo"])
def test_a_volume_is_resized_as_kilo_does_it(old: OldServer) -> None:
    volume = {"device_path": DEVICE, "mount_point": MOUNT_POINT}
    old.call("stop_db", do_not_start_on_reboot=True)
    assert old.call("unmount_volume", **volume) is None
    assert not mounted(old.server)
    assert old.call("resize_fs", **volume) is None
    assert old.call("mount_volume", **volume) is None
    assert mounted(old.server)
    assert old.call("reset_configuration", configuration={"config_contents": CONFIGURATION}) is None
    assert old.call("start_db_with_conf_changes", config_contents=CONFIGURATION) is None
    assert old.call("restart") is None
    assert old.server.can_log_in("owner", old.password)
