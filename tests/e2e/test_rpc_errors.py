"""What no controller should send: each gets the error Trove expects, and the agent goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from bench.deployment import MARIADB, MYSQL, Deployment, Server
from bench.era_peer import TRAIN, EraPeer, envelope
from bench.oslo_peer import OsloPeer
from bench.waiting import wait_until
from oslo_messaging.rpc.client import RemoteError
from secret_search import search_and_end
from trove.common import exception

WRONG_KEY = "0123456789abcdef0123456789abcdef"
TEN_MEGABYTES = 10 * 1024 * 1024


@pytest.fixture(scope="module")
def keyed(deployment: Deployment) -> Iterator[Server]:
    """An agent with a key, on a guest that is not prepared and has no init."""
    server = deployment.launch(MARIADB, secure=True, init=False)
    yield server
    search_and_end(server)


@pytest.fixture(scope="module")
def plain(deployment: Deployment) -> Iterator[Server]:
    """An agent without a key, likewise."""
    server = deployment.launch(MYSQL, secure=False, init=False)
    yield server
    search_and_end(server)


@pytest.fixture
def hand(deployment: Deployment) -> Iterator[EraPeer]:
    """Messages made by hand."""
    peer = EraPeer(deployment.rabbit.url(), TRAIN, conductor_queue=None)
    yield peer
    peer.close()


@pytest.fixture(params=["keyed", "plain"])
def agent(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Each of the two agents; it must be alive and the same process afterwards."""
    server: Server = request.getfixturevalue(request.param)
    before = server.guest.agent_pid()
    yield server
    assert server.instance.call("rpc_ping") is True
    assert server.guest.agent_pid() == before != 0


def test_an_unknown_method_is_no_such_method(agent: Server, peer: OsloPeer) -> None:
    with pytest.raises(RemoteError) as caught:
        peer.call(agent.instance.id, "make_coffee", agent.instance.key)
    assert caught.value.exc_type == "NoSuchMethod"
    assert caught.value.value == "Endpoint does not support RPC method make_coffee"


@pytest.mark.parametrize("method", ["_private", "__init__", "update_status"])
def test_what_is_not_for_callers_does_not_exist(agent: Server, peer: OsloPeer, method: str) -> None:
    with pytest.raises(RemoteError) as caught:
        peer.call(agent.instance.id, method, agent.instance.key)
    assert caught.value.exc_type == "NoSuchMethod"


@pytest.mark.parametrize("version", ["1.4", "2.0", "0.9"])
def test_an_unknown_version_is_unsupported(agent: Server, peer: OsloPeer, version: str) -> None:
    with pytest.raises(RemoteError) as caught:
        peer.call(agent.instance.id, "rpc_ping", agent.instance.key, version=version)
    assert caught.value.exc_type == "UnsupportedVersion"
    assert caught.value.value == f"Endpoint does not support RPC version {version}. Attempted method: rpc_ping"


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2", "1.3"])
def test_every_version_of_the_api_is_served(agent: Server, peer: OsloPeer, version: str) -> None:
    assert peer.call(agent.instance.id, "rpc_ping", agent.instance.key, version=version) is True


def test_missing_arguments_are_told_by_name(agent: Server, peer: OsloPeer) -> None:
    with pytest.raises(Exception, match="username"):
        peer.call(agent.instance.id, "get_user", agent.instance.key, hostname="%")


def test_arguments_of_the_wrong_type_are_told_without_their_value(agent: Server, peer: OsloPeer) -> None:
    planted = agent.secret()
    with pytest.raises(Exception) as caught:
        peer.call(agent.instance.id, "grant_access", agent.instance.key, username="u", hostname="%", databases=planted)
    assert "grant_access" in str(caught.value)
    assert planted not in str(caught.value)


def test_an_operation_of_another_datastore_is_not_there(agent: Server, peer: OsloPeer) -> None:
    with pytest.raises(RemoteError) as caught:
        peer.call(agent.instance.id, "cluster_meet", agent.instance.key, ip="192.0.2.1", port=6379)
    assert caught.value.exc_type == "NoSuchMethod"


def test_a_trove_exception_is_rebuilt_as_such(agent: Server, peer: OsloPeer) -> None:
    with pytest.raises(exception.DatastoreOperationNotSupported, match="get_root_password"):
        peer.call(agent.instance.id, "get_root_password", agent.instance.key)


def test_ten_megabytes_are_an_argument_like_any_other(agent: Server, peer: OsloPeer) -> None:
    with pytest.raises(Exception) as caught:
        peer.call(agent.instance.id, "get_user", agent.instance.key, timeout=60, username="x" * TEN_MEGABYTES, hostname="%")
    assert len(str(caught.value)) < 10_000, "the error must not carry the argument back"


def test_a_client_that_watches_the_call_gets_its_answer(agent: Server, peer: OsloPeer) -> None:
    assert peer.call(agent.instance.id, "rpc_ping", agent.instance.key, call_monitor_timeout=4) is True


def test_a_wrong_key_is_refused(keyed: Server, peer: OsloPeer) -> None:
    with pytest.raises(Exception, match="(?i)decrypt|key"):
        peer.call(keyed.instance.id, "rpc_ping", WRONG_KEY, username="x")


def test_plaintext_is_refused_by_a_guest_with_a_key(keyed: Server, peer: OsloPeer) -> None:
    with pytest.raises(Exception, match="plaintext"):
        peer.call(keyed.instance.id, "rpc_ping", None)


def test_ciphertext_is_refused_by_a_guest_without_a_key(plain: Server, peer: OsloPeer) -> None:
    with pytest.raises(Exception):
        peer.call(plain.instance.id, "get_user", WRONG_KEY, username="u", hostname="%", timeout=10)


NOT_REQUESTS: dict[str, bytes | str] = {
    "nothing": b"",
    "no JSON": b"\x00\xff\xfe not json",
    "a list": "[1, 2, 3]",
    "a number": "42",
    "no envelope": '{"hello": "world"}',
    "another version": json.dumps({"oslo.version": "3.0", "oslo.message": json.dumps({"method": "rpc_ping"})}),
    "no JSON inside": json.dumps({"oslo.version": "2.0", "oslo.message": "{broken"}),
    "a list inside": json.dumps({"oslo.version": "2.0", "oslo.message": "[]"}),
    "no method": envelope({"args": {}}),
    "method is a number": envelope({"method": 1, "args": {}, "version": "1.0"}),
    "arguments are a list": envelope({"method": "rpc_ping", "args": [], "version": "1.0"}),
    "version is no version": envelope({"method": "rpc_ping", "args": {}, "version": "one"}),
    "deep": envelope({"method": "rpc_ping", "args": {"x": json.loads("[" * 100 + "]" * 100)}, "version": "1.0"}),
    "bottomless": '{"oslo.version": "2.0", "oslo.message": "' + "[" * 100_000 + '"}',
}


@pytest.mark.parametrize("body", NOT_REQUESTS.values(), ids=NOT_REQUESTS.keys())
def test_what_is_no_request_is_dropped(agent: Server, hand: EraPeer, body: bytes | str) -> None:
    """The fixture checks afterwards that the agent has survived and answers."""
    hand.publish(agent.instance.id, body)


def test_a_repeated_message_is_carried_out_once(plain: Server, hand: EraPeer) -> None:
    message = hand.request("rpc_ping", {}, call=True)
    for _ in range(3):
        hand.send(plain.instance.id, message)
    other = hand.request("rpc_ping", {}, call=True)
    hand.send(plain.instance.id, other)
    # Messages are taken in order: once the later one is answered, the repeats have been seen.
    hand.replies_to(other["_msg_id"])
    assert len(hand.kept(message["_msg_id"])) == 1


def test_a_caller_that_is_gone_disturbs_nobody(plain: Server, hand: EraPeer) -> None:
    message = hand.request("rpc_ping", {}, call=True)
    message["_reply_q"] = "reply_of_somebody_who_left"
    hand.send(plain.instance.id, message)
    assert hand.call(plain.instance.id, "rpc_ping").result is True


def test_errors_are_logged_once(plain: Server, peer: OsloPeer) -> None:
    with pytest.raises(RemoteError):
        peer.call(plain.instance.id, "brew_tea_and_log_it", None)
    wait_until("the log line", lambda: "brew_tea_and_log_it" in plain.guest.agent_log(), 10)
    lines = [line for line in plain.guest.agent_log().splitlines() if "brew_tea_and_log_it" in line]
    bad = [line for line in lines if " ERROR " in line or " WARNING " in line]
    assert len(bad) <= 1, lines


@pytest.mark.parametrize("arguments", [[], "text", 7])
def test_arguments_that_are_no_object(plain: Server, hand: EraPeer, arguments: Any) -> None:
    message = hand.request("get_user", {}, call=True)
    message["args"] = arguments
    hand.send(plain.instance.id, message)
    replies = hand.replies_to(message["_msg_id"])
    assert replies.failure is not None
