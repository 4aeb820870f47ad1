"""A replication set of real guests, driven through the real guest API in the order of the task manager's calls
(trove/taskmanager/manager.py: promote_to_replica_source, eject_replica_source), and somebody who writes."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from bench.controller import GuestCallFailed
from bench.deployment import PREPARE_SECONDS, Deployment, Server
from bench.swift import Swift
from bench.waiting import wait_until
from replication_engines import Engine

SYNC_SECONDS = 60.0
# Between two rows of the load.
PAUSE_SECONDS = 0.02
ROWS = "SELECT id FROM t ORDER BY id"


class Load:
    """Writes rows to whoever is the source, all the time, and knows which were committed."""

    def __init__(self, engine: Engine, server: Server, password: str) -> None:
        self.engine, self.server, self.password = engine, server, password
        self.committed: set[int] = set()
        self._next = 1
        self._stop, self._writing = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        connection, to = None, None
        while not self._stop.wait(PAUSE_SECONDS):
            try:
                with self._writing:
                    if connection is None or to is not self.server:
                        to = self.server
                        connection = self.engine.connect(to, self.password)
                    number, self._next = self._next, self._next + 1
                    with connection.cursor() as cursor:
                        cursor.execute("INSERT INTO t VALUES (%s, %s)", (number, f"row {number}"))
                    self.committed.add(number)
            except self.engine.failures:
                # Read-only, cut off or restarting: another connection, when there is somebody to write to.
                connection = None

    def wait_for_more(self, rows: int = 20) -> None:
        goal = len(self.committed) + rows
        wait_until("more rows", lambda: len(self.committed) >= goal, SYNC_SECONDS)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is being written inside."""
        with self._writing:
            yield

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()


@dataclass
class ReplicationSet:
    """Guests of one datastore; `password` is the user's, the same everywhere."""

    deployment: Deployment
    swift: Swift
    engine: Engine
    password: str = ""
    members: list[Server] = field(default_factory=list)

    def launch(self) -> Server:
        options = {"backup_aes_cbc_key": f"Key-{self.swift.key}", **self.engine.options}
        server = self.deployment.launch(self.engine.kind, secure=True, guest_options=options)
        self.members.append(server)
        return server

    def snapshot(self, source: Server) -> dict[str, Any]:
        token, url = self.swift.login(self.deployment.host)
        made = self.deployment.controller.ask("replication_snapshot", instance_id=source.instance.id, swift_url=url)
        self.plant(token, *passwords(made["snapshot"]))
        assert made["backup_info"]["state"] == "COMPLETED"
        assert made["snapshot"]["master"] == {"host": source.guest.address, "port": self.engine.port}
        return made

    def plant(self, *secrets: str) -> None:
        """None of these may be found in a log of a member."""
        for server in self.members:
            server.secrets += [secret for secret in secrets if secret not in server.secrets]

    def config(self, server: Server, role: str) -> str:
        return self.deployment.controller.ask("replication_config", instance_id=server.instance.id, role=role)

    def attach(self, replica: Server, source: Server) -> None:
        """`attach_replica` of the task manager's instance."""
        context = source.instance.call("get_replica_context")
        self.plant(*passwords(context))
        replica.instance.call("attach_replica", replica_info=context, slave_config=self.config(replica, "replica"))

    def enable(self, server: Server) -> None:
        server.instance.call("enable_as_master", replica_source_config=self.config(server, "source"))

    def take_over(self, candidate: Server, replicas: list[Server]) -> list[Server]:
        """What a promotion and an ejection share: the candidate becomes the source, then the others follow it. Those that cannot are
        collected, as the task manager does, and returned."""
        candidate.instance.call("detach_replica", for_failover=True)
        self.enable(candidate)
        candidate.instance.call("make_read_only", read_only=False)
        refused = []
        for replica in replicas:
            if replica is candidate:
                continue
            try:
                replica.instance.call("detach_replica", for_failover=True)
                self.attach(replica, candidate)
            except GuestCallFailed as failure:
                assert "anew" in str(failure), failure
                refused.append(replica)
        return refused

    def promote(self, old: Server, candidate: Server, replicas: list[Server]) -> None:
        old.instance.call("make_read_only", read_only=True)
        latest = old.instance.call("get_latest_txn_id")
        candidate.instance.call("wait_for_txn", txn=latest)
        assert self.take_over(candidate, replicas) == []
        self.attach(old, candidate)
        old.instance.call("demote_replication_master")

    def eject(self, replicas: list[Server]) -> tuple[Server, list[Server]]:
        """The new source, and the replicas that have to be made anew."""
        last = [[replica, *replica.instance.call("get_last_txn")] for replica in replicas]
        assert len({source for _, source, _ in last if source}) == 1, last
        candidate: Server = sorted(last, key=lambda entry: entry[2], reverse=True)[0][0]
        return candidate, self.take_over(candidate, replicas)

    def make_anew(self, servers: list[Server], source: Server) -> None:
        """From one snapshot, into guests that were members before."""
        made = self.snapshot(source)
        for server in servers:
            server.instance.prepare([], [], **made)
        for server in servers:
            wait_until(f"{server.guest.name} to follow", lambda server=server: follows(server), PREPARE_SECONDS, server.guest.agent_log)
            server.wait_active()

    def read(self, server: Server, sql: str) -> list[tuple[Any, ...]]:
        return self.engine.query(server, self.password, sql)

    def begin(self, source: Server) -> None:
        """Prepares an instance with the table that `Load` writes to."""
        self.password = source.secret()
        users = [{"name": "owner", "password": self.password, "host": "%", "databases": [{"name": "first"}]}]
        source.prepare([{"name": "first"}], users)
        self.read(source, self.engine.table)

    def check_equal(self, source: Server, replicas: list[Server], load: Load) -> None:
        """All have the same rows, and every row that was committed."""
        with load.paused():
            assert load.committed <= self.rows(source)
            latest = source.instance.call("get_latest_txn_id")
            for replica in replicas:
                replica.instance.call("wait_for_txn", txn=latest)
                assert self.read(replica, self.engine.checksum) == self.read(source, self.engine.checksum)

    def check_roles(self, source: Server, replicas: list[Server], alone: list[Server] | None = None) -> None:
        """What `trove-guestctl status` says on each guest."""
        wanted = [(source, {"name": "primary", "replicas": len(replicas)})]
        wanted += [(replica, {"name": "replica", "source": source.guest.address, "trouble": None}) for replica in replicas]
        wanted += [(server, {"name": "alone"}) for server in alone or []]
        for server, expected in wanted:

            def told(server: Server = server, expected: dict[str, Any] = expected) -> bool:
                return role(server) == expected

            wait_until(f"the role {expected} of {server.guest.name}", told, SYNC_SECONDS, lambda server=server: str(role(server)))

    def rows(self, server: Server) -> set[int]:
        return {number for (number,) in self.read(server, ROWS)}


def role(server: Server) -> dict[str, Any] | None:
    """A member's part in replication, as its own agent shows it to an operator."""
    return json.loads(server.guest.run(["trove-guestctl", "status", "--json"]))["role"]


def passwords(context: dict[str, Any]) -> list[str]:
    """What a replica is told to log in with."""
    told = context["replica_conf"]
    return [told["replication_user"]["password"], *filter(None, [told.get("log_position", {}).get("administrator")])]


def follows(server: Server) -> bool:
    try:
        return server.instance.call("get_last_txn")[0] is not None
    except GuestCallFailed:
        return False
