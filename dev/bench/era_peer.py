"""A controller of an older release, spoken by hand: Kilo (oslo.messaging 1.8) and Train (10.2), as captured on the wire."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import Any

import kombu

from .waiting import wait_until

EXCHANGE = "trove"

# Context keys of each era; no other may come back in a cast to a Kilo conductor.
KILO_CONTEXT: dict[str, Any] = {
    "user": "U1",
    "tenant": "T1",
    "domain": None,
    "user_domain": None,
    "project_domain": None,
    "is_admin": True,
    "read_only": False,
    "show_deleted": False,
    "auth_token": "TOK",
    "request_id": "req-aaaa",
    "instance_uuid": None,
    "user_identity": "U1 T1 - - -",
    "limit": 20,
    "marker": None,
    "service_catalog": [],
}
TRAIN_CONTEXT: dict[str, Any] = {
    **{name: value for name, value in KILO_CONTEXT.items() if name != "instance_uuid"},
    "system_scope": None,
    "project": "T1",
    "global_request_id": None,
    "resource_uuid": None,
    "roles": [],
    "is_admin_project": True,
}


@dataclass(frozen=True)
class Era:
    """What tells one release's requests from another's."""

    name: str
    context: dict[str, Any]
    # oslo.messaging sends `_timeout` in calls since 6.3; without it the client wants two replies.
    sends_timeout: bool


KILO = Era("kilo", KILO_CONTEXT, sends_timeout=False)
TRAIN = Era("train", TRAIN_CONTEXT, sends_timeout=True)


@dataclass
class Replies:
    """What came back for one call, message by message."""

    messages: list[dict[str, Any]] = field(default_factory=list)

    @property
    def result(self) -> Any:
        return next((message["result"] for message in self.messages if message.get("result") is not None), None)

    @property
    def failure(self) -> dict[str, Any] | None:
        text = next((message["failure"] for message in self.messages if message.get("failure")), None)
        return json.loads(text) if text else None

    @property
    def ended(self) -> bool:
        return any(message.get("ending") for message in self.messages)


class Listener:
    """A connection to one broker, and what is consumed over it."""

    def __init__(self, url: str) -> None:
        self._connection = kombu.Connection(url.replace("rabbit://", "amqp://"), connect_timeout=10)
        self._channel = self._connection.channel()
        self._exchange = kombu.Exchange(EXCHANGE, "topic", durable=False, channel=self._channel)
        self._exchange.declare()

    def close(self) -> None:
        self._connection.release()

    def _consume(self, declared: kombu.Queue, sink: list[dict[str, Any]]) -> None:
        consumer = kombu.Consumer(self._channel, queues=[declared], accept=["json"], no_ack=True)
        consumer.register_callback(lambda body, _message: sink.append(json.loads(body["oslo.message"])))
        consumer.consume()

    def _drain(self) -> None:
        while True:
            try:
                self._connection.drain_events(timeout=0.05)
            except TimeoutError:
                return


class Tap(Listener):
    """Gets a copy of every message with one routing key, from its making on."""

    def __init__(self, url: str, routing_key: str) -> None:
        super().__init__(url)
        self._messages: list[dict[str, Any]] = []
        queue = kombu.Queue(f"tap_{uuid.uuid4().hex}", self._exchange, routing_key, durable=False, auto_delete=True)
        self._consume(queue, self._messages)

    def messages(self) -> list[dict[str, Any]]:
        """Inner messages that have come so far."""
        self._drain()
        return list(self._messages)


class EraPeer(Listener):
    """Stands in for controller and conductor of one era on one broker."""

    def __init__(self, url: str, era: Era, conductor_queue: str | None = "trove-conductor") -> None:
        """Without a `conductor_queue` it leaves the casts to the conductor of the deployment."""
        super().__init__(url)
        self.era = era
        self._conductor_queue = conductor_queue
        self._replies: list[dict[str, Any]] = []
        self._casts: list[dict[str, Any]] = []
        self._reply_queue = f"reply_{uuid.uuid4().hex}"
        self._listen()

    def publish(self, guest_id: str, body: bytes | str, content_type: str = "application/json") -> None:
        """Any body at all, for what no client would send."""
        with kombu.Producer(self._channel) as producer:
            producer.publish(
                body,
                exchange=self._exchange,
                routing_key=f"guestagent.{guest_id}",
                content_type=content_type,
                content_encoding="utf-8",
                delivery_mode=2,
                priority=0,
            )

    def request(self, method: str, arguments: dict[str, Any], call: bool, version: str = "1.0") -> dict[str, Any]:
        """The inner message of a request of this era."""
        message: dict[str, Any] = {f"_context_{name}": value for name, value in self.era.context.items()}
        message |= {"method": method, "args": arguments, "version": version, "_unique_id": uuid.uuid4().hex}
        if call:
            message |= {"_msg_id": uuid.uuid4().hex, "_reply_q": self._reply_queue}
            if self.era.sends_timeout:
                message["_timeout"] = None
        return message

    def send(self, guest_id: str, message: dict[str, Any]) -> None:
        self.publish(guest_id, envelope(message))

    def cast(self, guest_id: str, method: str, **arguments: Any) -> None:
        self.send(guest_id, self.request(method, arguments, call=False))

    def call(self, guest_id: str, method: str, timeout: float = 30.0, version: str = "1.0", **arguments: Any) -> Replies:
        """All replies up to the one that says `ending`."""
        message = self.request(method, arguments, call=True, version=version)
        self.send(guest_id, message)
        return self.replies_to(message["_msg_id"], timeout)

    def replies_to(self, message_id: str, timeout: float = 30.0) -> Replies:
        wait_until(f"the reply to {message_id}", lambda: Replies(self.kept(message_id)).ended, timeout)
        return Replies(self.kept(message_id))

    def kept(self, message_id: str) -> list[dict[str, Any]]:
        """Everything that has come back for one call so far."""
        self._drain()
        return [reply for reply in self._replies if reply.get("_msg_id") == message_id]

    def casts(self) -> list[dict[str, Any]]:
        """Inner messages the guest has sent to the conductor so far."""
        self._drain()
        return list(self._casts)

    def heartbeats(self, guest_id: str) -> list[str]:
        """Status words of the guest, in order of arrival."""
        return [
            cast["args"]["payload"].get("service_status")
            for cast in self.casts()
            if cast["method"] == "heartbeat" and cast["args"]["instance_id"] == guest_id
        ]

    def _listen(self) -> None:
        """The reply queue as this era declares it, and the conductor's queue."""
        if self.era.sends_timeout:
            reply = kombu.Queue(self._reply_queue, durable=False, auto_delete=False, expires=1800)
        else:
            direct = kombu.Exchange(self._reply_queue, "direct", durable=False, auto_delete=True)
            reply = kombu.Queue(self._reply_queue, direct, self._reply_queue, durable=False, auto_delete=True)
        self._consume(reply, self._replies)
        if self._conductor_queue:
            conductor = kombu.Queue(self._conductor_queue, self._exchange, self._conductor_queue, durable=False)
            self._consume(conductor, self._casts)


def envelope(message: dict[str, Any]) -> str:
    """oslo's double-encoded envelope."""
    return json.dumps({"oslo.version": "2.0", "oslo.message": json.dumps(message)})
