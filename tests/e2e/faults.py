"""What can befall the broker, an operation that is under way meanwhile, and how soon heartbeats come again."""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator

import kombu
import pymysql
from bench.deployment import Deployment, Server
from bench.waiting import wait_until

# The agent notices a connection on which nothing comes after twice this.
HEARTBEAT_THRESHOLD = 4
# Reconnecting has its pauses, and two cores run everything.
NOTICE_SECONDS = 60.0
# Processes of a busy machine need time to be run at all.
MARGIN_SECONDS = 3.0


class Fault(ABC):
    """Strikes a deployment of which one guest is looked at."""

    # Whether the agent must find a new connection.
    reconnects = True

    def __init__(self, deployment: Deployment, server: Server) -> None:
        self.deployment, self.rabbit, self.server = deployment, deployment.rabbit, server

    def __str__(self) -> str:
        return type(self).__name__

    @abstractmethod
    def strike(self) -> None: ...

    def mend(self) -> None:
        """Returns when the broker is there again for the guest."""


class Restart(Fault):
    """An orderly end; the broker is away for a while."""

    def strike(self) -> None:
        self.rabbit.stop()

    def mend(self) -> None:
        self.rabbit.start()


class Kill(Restart):
    """A power cut."""

    def strike(self) -> None:
        self.rabbit.kill()


class CloseConnections(Fault):
    """The operator closes every connection."""

    def strike(self) -> None:
        self.rabbit.ctl("close_all_connections", "on purpose")


class CloseConnection(Fault):
    """The operator closes the guest's connections, one by one."""

    def strike(self) -> None:
        for line in self.rabbit.ctl("-q", "list_connections", "pid", "peer_host").splitlines():
            pid, host = line.split("\t")
            if host == self.server.guest.address:
                self.rabbit.ctl("close_connection", pid, "on purpose")


class HalfOpen(Fault):
    """Packets between guest and broker are lost, and neither is told."""

    def strike(self) -> None:
        self._rules("-A")

    def mend(self) -> None:
        self._rules("-D")

    def _rules(self, action: str) -> None:
        port = str(self.rabbit.port)
        for chain, option in (("INPUT", "--sport"), ("OUTPUT", "--dport")):
            argv = ["iptables", "-w", action, chain, "-p", "tcp", option, port, "-j", "DROP"]
            self.server.guest.container.run_in(argv, ("-n",))


class MemoryAlarm(Fault):
    """The broker takes no messages: it blocks who sends."""

    reconnects = False

    def strike(self) -> None:
        self.rabbit.ctl("set_vm_memory_high_watermark", "0.00001")

    def mend(self) -> None:
        self.rabbit.ctl("set_vm_memory_high_watermark", "absolute", "1GB")


class QueueDeleted(Fault):
    """The guest's queue is deleted: the broker cancels its consumer."""

    def strike(self) -> None:
        self.rabbit.ctl("delete_queue", f"guestagent.{self.server.instance.id}")


class Credentials(Fault):
    """The broker's user gets another password, and the old one back."""

    def strike(self) -> None:
        self.rabbit.ctl("change_password", self.rabbit.user, "another")
        self.rabbit.ctl("close_all_connections", "on purpose")

    def mend(self) -> None:
        self.rabbit.ctl("change_password", self.rabbit.user, self.rabbit.password)


FAULTS = [Restart, Kill, CloseConnections, CloseConnection, HalfOpen, MemoryAlarm, QueueDeleted, Credentials]

# What the agent logs when it has noticed.
SIGNS = {
    MemoryAlarm: "the broker takes no messages now",
    QueueDeleted: "the broker cancelled the consumer",
}


def sign_of(fault: Fault) -> str:
    return SIGNS.get(type(fault), "the connection to the broker is lost")


class Database:
    """The guest's MariaDB, looked at and held up by its root."""

    def __init__(self, server: Server) -> None:
        self._server = server
        answer = server.instance.call("enable_root")
        self._password = answer["_password"]
        server.secrets.append(self._password)
        with self._connect() as connection, connection.cursor() as cursor:
            cursor.execute("SET GLOBAL log_output = 'FILE'")
            # In the data directory.
            cursor.execute("SET GLOBAL general_log_file = 'general.log'")
            cursor.execute("SET GLOBAL general_log = ON")
            cursor.execute("SELECT CONCAT(@@datadir, @@general_log_file)")
            (self._log,) = cursor.fetchone()

    @contextlib.contextmanager
    def held_up(self) -> Iterator[None]:
        """No statement that changes anything goes on."""
        with self._connect() as connection, connection.cursor() as cursor:
            cursor.execute("FLUSH TABLES WITH READ LOCK")
            yield
            cursor.execute("UNLOCK TABLES")

    def creations(self, name: str) -> int:
        """How often a database of this name was asked for."""
        return self.statements("CREATE DATABASE", f"`{name}`")

    def statements(self, *words: str) -> int:
        """How many statements with all of these words the server was sent."""
        lines = self._server.guest.read(self._log).splitlines()
        return sum(all(word in line for word in words) for line in lines)

    def _connect(self) -> pymysql.Connection:
        return self._server.connect("root", self._password)


def wait_heartbeat(deployment: Deployment, server: Server, since: float) -> None:
    """Asserts that a heartbeat of the guest reaches the broker within two intervals of `since` (`time.monotonic()`)."""
    deadline = since + 2 * deployment.controller.report_interval + MARGIN_SECONDS
    # As the conductor would: its own return is not the matter here.
    exchange = kombu.Exchange("trove", type="topic", durable=False)
    arrived: list[float] = []

    def look(_body: object, message: kombu.Message) -> None:
        if server.instance.id in str(message.body):
            arrived.append(time.monotonic())

    with kombu.Connection(deployment.rabbit.url(scheme="amqp")) as connection:
        queue = kombu.Queue("", exchange, routing_key="trove-conductor", exclusive=True, durable=False)
        with connection.Consumer(queue, callbacks=[look], no_ack=True, accept=["json"]):
            while not arrived:
                left = deadline - time.monotonic()
                assert left > 0, f"no heartbeat within two intervals:\n{server.guest.agent_log()[-4000:]}"
                with contextlib.suppress(TimeoutError):
                    connection.drain_events(timeout=left)


def wait_noticed(server: Server, sign: str, before: int) -> None:
    """Waits until the agent has logged `sign` more than `before` times."""
    wait_until(f"{sign!r}", lambda: server.guest.agent_log().count(sign) > before, NOTICE_SECONDS, server.guest.agent_log)
