"""The instance's key, both ways: what Trove's own serializers make of the agent's casts, and what the agent refuses."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from bench.deployment import Deployment, Server
from bench.era_peer import TRAIN, EraPeer, Tap
from bench.waiting import wait_until
from conformance import log_count
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from helpers import CAST_SECONDS, database_names, schema
from trove.common import crypto_utils

WRONG_KEY = "0123456789abcdef0123456789abcdef"
BLOCK = 16
# What a refused request would have made.
NAME = "never"
PLANTED = "planted-in-a-request"


@pytest.fixture(scope="module")
def tap(deployment: Deployment) -> Iterator[Tap]:
    """Copies of the casts to the conductor."""
    tap = Tap(deployment.rabbit.url(), "trove-conductor")
    yield tap
    tap.close()


@pytest.fixture
def hand(deployment: Deployment) -> Iterator[EraPeer]:
    peer = EraPeer(deployment.rabbit.url(), TRAIN, conductor_queue=None)
    yield peer
    peer.close()


@pytest.fixture(params=["2026.1", "train"])
def reader(request: pytest.FixtureRequest, deployment: Deployment) -> Any:
    """A Trove with its own ConductorHostSerializer, and the instances' keys in the controller's database."""
    return deployment.controller if request.param == "2026.1" else request.getfixturevalue("train")


def sender_of(cast: dict[str, Any]) -> str | None:
    """The instance that a cast on the wire is from."""
    return cast.get("_context_csz-instance-id") or cast["args"].get("instance_id") or cast["_context_trove_notification"]["instance_id"]


def next_cast(tap: Tap, server: Server, method: str, seen: int) -> dict[str, Any]:
    """The first cast of the guest with this method after the first `seen` messages."""

    def found() -> list[dict[str, Any]]:
        return [cast for cast in tap.messages()[seen:] if cast["method"] == method and sender_of(cast) == server.instance.id]

    wait_until(f"{method} of {server.instance.id}", lambda: bool(found()), CAST_SECONDS)
    return found()[0]


def test_a_heartbeat_is_read_by_troves_own_conductor_serializer(server: Server, tap: Tap, reader: Any) -> None:
    cast = next_cast(tap, server, "heartbeat", len(tap.messages()))
    read = reader.ask("conductor_reads", message=cast)["arguments"]
    assert set(read) == {"instance_id", "sent", "payload"}
    assert (read["instance_id"], read["payload"]) == (server.instance.id, {"service_status": "healthy"})
    assert isinstance(read["sent"], float)


@pytest.mark.parametrize(
    ("name", "method"), [("sealed", "notify_end"), ("mysql", "notify_exc_info")], ids=["of success", "of failure"]
)
def test_a_notification_is_read_by_troves_own_conductor_serializer(
    server: Server, tap: Tap, reader: Any, name: str, method: str
) -> None:
    seen = len(tap.messages())
    server.instance.cast("create_database", "DBaaSDatabaseCreate", databases=[schema(name)])
    cast = next_cast(tap, server, method, seen)
    read = reader.ask("conductor_reads", message=cast)
    notification = read["arguments"]["serialized_notification"]
    assert notification["notification_classname"] == "trove.common.notification.DBaaSDatabaseCreate"
    assert (notification["server_type"], notification["instance_id"]) == ("guest", server.instance.id)
    if method == "notify_end":
        assert read["arguments"]["notification_args"] == {}
    else:
        assert isinstance(read["arguments"]["message"], str)
        assert all(isinstance(line, str) for line in read["arguments"]["exception"])
    context = reader.ask("conductor_builds", message=cast)
    assert (context["user"], context["is_admin"], context["limit"]) == ("bench-user", True, 20)
    assert context["trove_notification"] == {key: value for key, value in notification.items() if key in context["trove_notification"]}
    if method == "notify_end":
        server.instance.cast("delete_database", "DBaaSDatabaseDelete", database=schema(name))


def test_with_a_key_nothing_but_names_is_in_the_clear(mariadb: Server, tap: Tap) -> None:
    cast = next_cast(tap, mariadb, "heartbeat", len(tap.messages()))
    assert {name for name in cast if name.startswith("_context_")} == {"_context_context", "_context_csz-instance-id"}
    for value in cast["args"].values():
        sealed = json.loads(value)
        assert set(sealed) == {"entity", "csz-instance-id"}
        # The vector, and whole blocks.
        assert len(crypto_utils.decode_data(sealed["entity"])) % BLOCK == 0
    assert "healthy" not in json.dumps(cast)


def seal(text: str, key: str | None) -> str:
    return crypto_utils.encode_data(crypto_utils.encrypt_data(text, key))


def seal_raw(data: bytes, key: str | None) -> str:
    """Without Trove's padding: `data` is whole blocks."""
    vector = os.urandom(BLOCK)
    digest = hashlib.md5(str(key).encode()).hexdigest().encode()
    encryptor = Cipher(algorithms.AES(digest), modes.CBC(vector)).encryptor()
    return crypto_utils.encode_data(vector + encryptor.update(data) + encryptor.finalize())


def padded(text: str, last: bytes) -> bytes:
    """Whole blocks of the text, spaces, and these last bytes."""
    size = len(text.encode()) + len(last)
    return text.encode() + b" " * (-size % BLOCK) + last


def cut(text: str, key: str | None, blocks: int) -> str:
    """The ciphertext without its last blocks: the one that is last then ends in no padding."""
    return crypto_utils.encode_data(crypto_utils.decode_data(seal(text, key))[: -BLOCK * blocks])


# From the JSON text of a value and the right key to what arrives in its place.
DAMAGE: dict[str, Callable[[str, str], Any]] = {
    "the wrong key": lambda text, _key: seal(text, WRONG_KEY),
    "a block less": lambda text, key: cut(text, key, 1),
    "two blocks less": lambda text, key: cut(text, key, 2),
    "half of it": lambda text, key: seal(text, key)[: len(seal(text, key)) // 2 + 1],
    "a character less": lambda text, key: seal(text, key)[:-1],
    "three bytes less": lambda text, key: crypto_utils.encode_data(crypto_utils.decode_data(seal(text, key))[:-3]),
    "a vector alone": lambda _text, _key: crypto_utils.encode_data(bytes(BLOCK)),
    "nothing": lambda _text, _key: "",
    "a padding of no bytes": lambda text, key: seal_raw(padded(text, b"\x00"), key),
    "a padding beyond a block": lambda text, key: seal_raw(padded(text, b"\x11"), key),
    "a padding of other bytes": lambda text, key: seal_raw(padded(text, b"\x01\x02\x03"), key),
    "no padding": lambda text, key: seal_raw(padded(text, b""), key),
    "text that is no JSON": lambda _text, key: seal(PLANTED, key),
    "not UTF-8": lambda _text, key: seal_raw(b"\xff" * 15 + b"\x01", key),
    "no base64": lambda _text, _key: f"{PLANTED}!",
    "the value itself": lambda text, _key: json.loads(text),
    "the value's text": lambda text, _key: text,
    "null": lambda _text, _key: None,
}


@pytest.mark.parametrize("where", ["argument", "context"])
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_what_does_not_decrypt_is_refused_and_not_run(
    mariadb: Server, hand: EraPeer, where: str, damage: Callable[[str, str], Any]
) -> None:
    key, agent, logged = str(mariadb.instance.key), mariadb.guest.agent_pid(), log_count(mariadb, "refused a request")
    value, context = json.dumps([schema(NAME)]), json.dumps(TRAIN.context | {"marker": PLANTED})
    message = hand.request("create_database", {"databases": (damage if where == "argument" else seal)(value, key)}, call=True)
    message = {name: part for name, part in message.items() if not name.startswith("_context_")}
    message["_context_context"] = (damage if where == "context" else seal)(context, key)
    hand.send(mariadb.instance.id, message)
    failure = hand.replies_to(message["_msg_id"]).failure
    assert failure is not None, "a failure is in the clear"
    assert (failure["module"], failure["class"]) == ("trove.common.exception", "GuestError")
    assert ("argument 'databases'" if where == "argument" else "the request's context") in failure["message"]
    assert "instance_rpc_encr_key" in failure["message"]
    assert PLANTED not in failure["message"]
    assert log_count(mariadb, "refused a request") == logged + 1
    assert PLANTED not in mariadb.guest.agent_log()
    assert NAME not in database_names(mariadb)
    assert mariadb.guest.agent_pid() == agent


@pytest.mark.parametrize("is_call", [True, False], ids=["call", "cast"])
def test_a_request_in_the_clear_is_refused_by_a_guest_with_a_key(mariadb: Server, hand: EraPeer, is_call: bool) -> None:
    logged = log_count(mariadb, "refuses plaintext")
    message = hand.request("create_database", {"databases": [schema(NAME)]}, call=is_call)
    hand.send(mariadb.instance.id, message)
    wait_until("the log line", lambda: log_count(mariadb, "refuses plaintext") == logged + 1, CAST_SECONDS)
    if is_call:
        failure = hand.replies_to(message["_msg_id"]).failure
        assert failure is not None
        assert "refuses plaintext" in failure["message"]
    assert NAME not in database_names(mariadb)


def test_results_are_encrypted_and_failures_are_not(mariadb: Server, hand: EraPeer) -> None:
    key = str(mariadb.instance.key)

    def ask(method: str, **arguments: Any) -> Any:
        message = hand.request(method, {name: seal(json.dumps(value), key) for name, value in arguments.items()}, call=True)
        message = {name: part for name, part in message.items() if not name.startswith("_context_")}
        message["_context_context"] = seal(json.dumps(TRAIN.context), key)
        hand.send(mariadb.instance.id, message)
        return hand.replies_to(message["_msg_id"])

    for method, expected in (("rpc_ping", True), ("apply_overrides", None)):
        result = ask(method, **({"overrides": {}} if method == "apply_overrides" else {})).result
        assert json.loads(crypto_utils.decrypt_data(crypto_utils.decode_data(result), key)) is expected
    assert ask("no_such_method").failure["message"] == "Endpoint does not support RPC method no_such_method"
