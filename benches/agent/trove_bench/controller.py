"""The controller's side: Trove 26.0.0's RPC client over its oslo.messaging, the guest's queue, and the conductor's queue."""

import collections
import json
import tempfile
import threading
import time

import amqp
from trove import rpc
from trove.common import cfg, crypto_utils
from trove.common.context import TroveContext
from trove.common.rpc.secure_serializer import SecureSerializer
from trove.common.rpc.serializer import TroveRequestContextSerializer
import oslo_messaging

from .agents import CONTROL_EXCHANGE, Guest
from .broker import Broker
from .errors import BenchError

CONDUCTOR_QUEUE = "trove-conductor"
LONG_CALL_SECONDS = 60  # A call sent before the guest is up; MessagingTimeout after that.
PING_SECONDS = 15  # Trove's agent_call_low_timeout.


def encrypted_true(key: str) -> str:
    """`true` as the result of an encrypted call."""
    return crypto_utils.encode_data(crypto_utils.encrypt_data("true", key))


def _context() -> TroveContext:
    return TroveContext(is_admin=True, user_id="bench", project_id="bench")


def call_template(guest: Guest, method: str, arguments: dict) -> str:
    """The inner message of a call as Trove's own serializer makes it, but for the three ids (see ../load.rs)."""
    serializer = SecureSerializer(TroveRequestContextSerializer(None), guest.encryption_key)
    context = _context()
    message = {
        "method": method,
        "args": {name: serializer.serialize_entity(context, value) for name, value in arguments.items()},
        "version": "1.0",
        "_msg_id": "@MSG_ID",
        "_reply_q": "@REPLY_Q",
        "_timeout": None,
        "_unique_id": "@UNIQUE_ID",
    }
    message |= {f"_context_{name}": value for name, value in serializer.serialize_context(context).items()}
    return json.dumps(message)


def connect(broker: Broker) -> amqp.Connection:
    """A connection beside oslo.messaging's own."""
    connection = amqp.Connection(host=f"127.0.0.1:{broker.port}", userid="guest", password="guest")
    connection.connect()
    return connection


class Controller:
    """Calls guests as the task manager does."""

    def __init__(self, broker: Broker) -> None:
        with tempfile.NamedTemporaryFile("w", prefix="trove-bench-", suffix=".conf") as config:
            config.write(f"[DEFAULT]\ntransport_url={broker.transport_url}\ncontrol_exchange={CONTROL_EXCHANGE}\n")
            config.flush()
            cfg.parse_args(["trove-bench", "--config-file", config.name])
        rpc.init(cfg.CONF)
        self._connection = connect(broker)
        self._channel = self._connection.channel()
        self._channel.exchange_declare(CONTROL_EXCHANGE, "topic", durable=False, auto_delete=False)

    def close(self) -> None:
        """Ends the connections."""
        rpc.cleanup()
        self._connection.close()

    def create_queue(self, guest: Guest) -> None:
        """What the task manager does before it boots a guest (`_create_guest_queue`)."""
        self._channel.queue_declare(guest.queue, durable=False, auto_delete=False)
        self._channel.queue_bind(guest.queue, CONTROL_EXCHANGE, guest.queue)

    def delete_queue(self, guest: Guest) -> None:
        """Removes what `create_queue` made, and the agent's own variants of it."""
        for queue in (guest.queue, f"{guest.queue}.{guest.guest_id}"):
            self._channel.queue_delete(queue)

    def queue_state(self, guest: Guest) -> tuple[int, int]:
        """Messages that wait in the guest's queue, and consumers of it, by a passive declare."""
        state = self._channel.queue_declare(guest.queue, passive=True)
        return state.message_count, state.consumer_count

    def pinger(self, guest: Guest, timeout: float = PING_SECONDS):
        """A function that sends `rpc_ping` and returns when the answer is there."""
        target = oslo_messaging.Target(topic=guest.queue, version="1.0")
        client = rpc.get_client(target, guest.encryption_key, version_cap="1.0").prepare(timeout=timeout)
        context = _context()

        def ping() -> None:
            answer = client.call(context, "rpc_ping")
            if answer is not True:
                raise BenchError(f"rpc_ping of {guest.guest_id} answered {answer!r} instead of True")

        return ping


class EarlyPing(threading.Thread):
    """A call that waits in the queue before the guest is started; knows when it was answered."""

    def __init__(self, controller: Controller, guest: Guest) -> None:
        super().__init__(daemon=True)
        self._ping = controller.pinger(guest, LONG_CALL_SECONDS)
        self._answered_at: float | None = None
        self._failure: Exception | None = None

    def run(self) -> None:
        try:
            self._ping()
            self._answered_at = time.perf_counter()
        except Exception as failure:  # noqa: BLE001 - raised again in answered_at().
            self._failure = failure

    def answered_at(self) -> float:
        """Waits for the answer. Value of `time.perf_counter` when it came."""
        self.join(LONG_CALL_SECONDS + 5)
        if self._answered_at is None:
            raise BenchError(f"the call sent before the start was not answered: {self._failure!r}")
        return self._answered_at


class Conductor(threading.Thread):
    """Takes what guests cast to the conductor and counts the heartbeats of each."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(daemon=True)
        self._ended = threading.Event()
        self._counts: collections.Counter[str] = collections.Counter()
        self._connection = connect(broker)
        channel = self._connection.channel()
        channel.exchange_declare(CONTROL_EXCHANGE, "topic", durable=False, auto_delete=False)
        channel.queue_declare(CONDUCTOR_QUEUE, durable=False, auto_delete=False)
        channel.queue_bind(CONDUCTOR_QUEUE, CONTROL_EXCHANGE, CONDUCTOR_QUEUE)
        channel.basic_consume(CONDUCTOR_QUEUE, no_ack=True, callback=self._count)

    def run(self) -> None:
        while not self._ended.is_set():
            try:
                self._connection.drain_events(timeout=0.5)
            except TimeoutError:
                continue

    def stop(self) -> None:
        """Ends the thread and its connection."""
        self._ended.set()
        self.join()
        self._connection.close()

    def heartbeats(self, guest: Guest) -> int:
        """Heartbeats seen from this guest."""
        return self._counts[guest.guest_id]

    def _count(self, message) -> None:
        request = json.loads(json.loads(message.body)["oslo.message"])
        if request["method"] != "heartbeat":
            return
        # Encrypted arguments do not tell whose they are; the context does, in the clear.
        sender = request.get("_context_csz-instance-id") or request["args"]["instance_id"]
        self._counts[sender] += 1
