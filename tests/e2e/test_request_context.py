"""What may travel in a request's context besides who asks: osprofiler's trace, and notifications in any form."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from bench.deployment import Deployment, Server
from bench.era_peer import Tap
from bench.oslo_peer import OsloPeer
from bench.waiting import wait_until
from helpers import CAST_SECONDS, schema

NAME = "context"
TRACE = {"hmac_key": "k", "base_id": str(uuid.uuid4()), "parent_id": str(uuid.uuid4())}


@pytest.fixture(scope="module")
def tap(deployment: Deployment) -> Iterator[Tap]:
    tap = Tap(deployment.rabbit.url(), "trove-conductor")
    yield tap
    tap.close()


def notifications(deployment: Deployment, tap: Tap, seen: int) -> list[dict[str, Any]]:
    """The notifications among the casts after the first `seen` messages, as Trove's conductor reads them: arguments and method."""
    casts = [cast for cast in tap.messages()[seen:] if cast["method"].startswith("notify_")]
    return [deployment.controller.ask("conductor_reads", message=cast)["arguments"] | {"method": cast["method"]} for cast in casts]


@pytest.mark.parametrize("release", ["2026.1", "train"])
def test_a_profiled_request_is_served_and_its_trace_is_not_passed_on(
    request: pytest.FixtureRequest, deployment: Deployment, server: Server, tap: Tap, release: str
) -> None:
    worker = deployment.controller if release == "2026.1" else request.getfixturevalue("train")
    sent = Tap(deployment.rabbit.url(), f"guestagent.{server.instance.id}")
    asked = {"instance_id": server.instance.id, "profiled": True}
    assert worker.ask("call", method="rpc_ping", arguments={}, **asked) is True
    (ping,) = sent.messages()
    if server.instance.key is None:
        assert set(ping["_context_trace_info"]) == {"hmac_key", "base_id", "parent_id"}
    seen = len(tap.messages())
    worker.ask("call", method="create_database", arguments={"databases": [schema(NAME)]}, event="DBaaSDatabaseCreate", **asked)
    wait_until("notify_end", lambda: bool(notifications(deployment, tap, seen)), CAST_SECONDS)
    casts = [cast for cast in tap.messages()[seen:] if cast["method"] == "notify_end"]
    received = deployment.controller.ask("conductor_reads", message=casts[0])["received"]
    assert "trace_info" not in received
    assert received["user"] == "bench-user"
    sent.close()


@pytest.mark.parametrize("trace", [TRACE, TRACE | {"more": [1]}, {}, None, "text", [1], 7], ids=repr)
def test_a_trace_of_any_form_disturbs_nothing(server: Server, peer: OsloPeer, trace: Any) -> None:
    assert peer.call(server.instance.id, "rpc_ping", server.instance.key, context={"trace_info": trace}) is True


FOR_NOBODY: list[Any] = [
    None,
    "text",
    7,
    [],
    ["guest"],
    {},
    {"server_type": None},
    {"server_type": 7},
    {"server_type": {"guest": True}},
    {"server_type": "api", "request_id": "r"},
    {"server_type": "taskmanager", "request_id": "r"},
]
FOR_THE_GUEST: list[dict[str, Any]] = [
    {"server_type": "guest"},
    {"server_type": "guest", "notification_classname": "trove.common.notification.NoSuchClass", "request_id": "r"},
    {"server_type": "guest", "extra": {"nested": [1, None, {"a": "é"}]}, "instance_id": "another", "number": 1.5},
]


def create(peer: OsloPeer, server: Server, notification: Any) -> Any:
    """`create_database`, sent as a call: a request that would fail is seen at once."""
    arguments = {"databases": [schema(NAME)]}
    return peer.call(server.instance.id, "create_database", server.instance.key, context={"trove_notification": notification}, **arguments)


@pytest.mark.parametrize("notification", FOR_NOBODY, ids=repr)
def test_a_notification_that_is_not_for_the_guest_is_ignored(
    deployment: Deployment, server: Server, peer: OsloPeer, tap: Tap, notification: Any
) -> None:
    seen, last = len(tap.messages()), {"server_type": "guest", "request_id": f"req-{uuid.uuid4()}"}
    assert create(peer, server, notification) is None
    assert create(peer, server, last) is None
    wait_until("the one of the last request", lambda: bool(notifications(deployment, tap, seen)), CAST_SECONDS)
    assert [entry["serialized_notification"] for entry in notifications(deployment, tap, seen)] == [last]


@pytest.mark.parametrize("notification", FOR_THE_GUEST, ids=repr)
def test_a_notification_for_the_guest_comes_back_as_it_was(
    deployment: Deployment, server: Server, peer: OsloPeer, tap: Tap, notification: dict[str, Any]
) -> None:
    seen = len(tap.messages())
    assert create(peer, server, notification) is None
    wait_until("notify_end", lambda: bool(notifications(deployment, tap, seen)), CAST_SECONDS)
    expected = {"method": "notify_end", "serialized_notification": notification, "notification_args": {}}
    assert notifications(deployment, tap, seen) == [expected]


def test_a_failure_names_the_instance(deployment: Deployment, server: Server, peer: OsloPeer, tap: Tap) -> None:
    seen, notification = len(tap.messages()), {"server_type": "guest", "extra": 1}
    with pytest.raises(Exception, match="mysql"):
        peer.call(
            server.instance.id,
            "create_database",
            server.instance.key,
            context={"trove_notification": notification},
            databases=[schema("mysql")],
        )
    wait_until("notify_exc_info", lambda: bool(notifications(deployment, tap, seen)), CAST_SECONDS)
    (entry,) = notifications(deployment, tap, seen)
    assert entry["method"] == "notify_exc_info"
    assert entry["serialized_notification"] == notification | {"instance_id": server.instance.id}
