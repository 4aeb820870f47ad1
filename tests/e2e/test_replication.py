"""Replication sets of real guests, driven through the real guest API in the order of the task manager's calls
(trove/taskmanager/manager.py: promote_to_replica_source, eject_replica_source), while somebody writes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pymysql
import pytest
from bench.command import run
from bench.controller import GuestCallFailed
from bench.deployment import MARIADB, MYSQL, PREPARE_SECONDS, Deployment, Kind, Server
from bench.swift import Swift
from bench.waiting import wait_until

SYNC_SECONDS = 60.0
# Trove's agent_call_high_timeout, and a little.
CALL_SECONDS = 200.0
# When an agent is killed, after a call that takes less than a second was sent.
KILL_AFTER_SECONDS = (0.0, 0.03, 0.06, 0.1, 0.2, 0.4)
# Between two rows of the load.
PAUSE_SECONDS = 0.02
BINLOG = {"replication_strategy": "trove.guestagent.strategies.replication.mysql_binlog.MysqlBinlogReplication"}
ROWS = "SELECT id FROM first.t ORDER BY id"
CHECKSUM = "SELECT COUNT(*), COALESCE(SUM(CRC32(CONCAT(id, '|', word))), 0) FROM first.t"


class Load:
    """Writes rows to whoever is the source, all the time, and knows which were committed."""

    def __init__(self, server: Server, password: str) -> None:
        self.server, self.password = server, password
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
                        connection = pymysql.connect(
                            host=to.guest.address, user="owner", password=self.password, database="first", connect_timeout=3,
                            read_timeout=3, write_timeout=3, autocommit=True,
                        )
                    number, self._next = self._next, self._next + 1
                    with connection.cursor() as cursor:
                        cursor.execute("INSERT INTO t VALUES (%s, %s)", (number, f"row {number}"))
                    self.committed.add(number)
            except (pymysql.err.Error, OSError):
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
    """Guests of one kind; `password` is the user's, the same everywhere."""

    deployment: Deployment
    swift: Swift
    kind: Kind
    options: dict[str, str]
    password: str = ""
    members: list[Server] = field(default_factory=list)

    def launch(self) -> Server:
        server = self.deployment.launch(self.kind, secure=True, guest_options=self.options)
        self.members.append(server)
        return server

    def snapshot(self, source: Server) -> dict[str, Any]:
        token, url = self.swift.login(self.deployment.host)
        made = self.deployment.controller.ask("replication_snapshot", instance_id=source.instance.id, swift_url=url)
        user = made["snapshot"]["replica_conf"]["replication_user"]
        for server in self.members:
            server.secrets += [user["password"], token]
        assert made["backup_info"]["state"] == "COMPLETED"
        assert made["snapshot"]["master"] == {"host": source.guest.address, "port": 3306}
        return made

    def config(self, server: Server, role: str) -> str:
        return self.deployment.controller.ask("replication_config", instance_id=server.instance.id, role=role)

    def attach(self, replica: Server, source: Server) -> None:
        """`attach_replica` of the task manager's instance."""
        context = source.instance.call("get_replica_context")
        for server in self.members:
            server.secrets.append(context["replica_conf"]["replication_user"]["password"])
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

    def read(self, server: Server, sql: str) -> list[tuple[object, ...]]:
        return server.query("owner", self.password, sql)

    def check_equal(self, source: Server, replicas: list[Server], load: Load) -> None:
        """All have the same rows, and every row that was committed."""
        with load.paused():
            assert load.committed <= self.rows(source)
            latest = source.instance.call("get_latest_txn_id")
            for replica in replicas:
                replica.instance.call("wait_for_txn", txn=latest)
                assert self.read(replica, CHECKSUM) == self.read(source, CHECKSUM)

    def rows(self, server: Server) -> set[int]:
        return {int(str(number)) for (number,) in self.read(server, ROWS)}


def client(server: Server, sql: str) -> str:
    """A statement of the administrator's, from inside the guest."""
    program = "mariadb" if server.kind is MARIADB else "mysql"
    return server.guest.run([program, "--defaults-file=/var/lib/trove-guestagent/os_admin.cnf", "-NBe", sql])


def link(server: Server, state: str) -> None:
    """The guest's network cable."""
    run(["ip", "link", "set", f"vb-{server.guest.name}", state])


@pytest.mark.parametrize(
    ("kind", "options"), [(MYSQL, {}), (MARIADB, {}), (MYSQL, BINLOG)], ids=["mysql-gtid", "mariadb-gtid", "mysql-binlog"]
)
def test_a_set_is_made_promoted_ejected_and_taken_apart(deployment: Deployment, swift: Swift, kind: Kind, options: dict[str, str]) -> None:
    members = ReplicationSet(deployment, swift, kind, {"backup_aes_cbc_key": f"Key-{swift.key}", **options})
    first, second, third = (members.launch() for _ in range(3))
    members.password = first.secret()
    users = [{"name": "owner", "password": members.password, "host": "%", "databases": [{"name": "first"}]}]
    first.prepare([{"name": "first"}], users)
    members.read(first, "CREATE TABLE first.t (id BIGINT PRIMARY KEY, word VARCHAR(80) NOT NULL) ENGINE=InnoDB")
    load = Load(first, members.password)
    load.wait_for_more()

    # Replicas, from one snapshot.
    made = members.snapshot(first)
    for replica in (second, third):
        replica.instance.prepare([], [], **made)
    for replica in (second, third):
        replica.wait_active(PREPARE_SECONDS)
    load.wait_for_more()

    # Orderly: nothing is lost, although somebody writes.
    members.promote(first, second, [second, third])
    load.server = second
    load.wait_for_more()
    members.check_equal(second, [first, third], load)

    # Out of order: one replica falls behind, then the source is cut off and commits rows that nobody hears of.
    load.wait_for_more()
    client(third, f"STOP {'SLAVE' if kind is MARIADB else 'REPLICA'} IO_THREAD")
    load.wait_for_more()
    link(second, "down")
    alone = {10_000_001, 10_000_002, 10_000_003}
    for number in alone:
        client(second, f"INSERT INTO first.t VALUES ({number}, 'alone')")
    source, refused = members.eject([third, first])
    assert source is first, "the one that is behind is not promoted"
    # Without GTIDs nobody can tell what it lacks.
    assert refused == ([third] if options is BINLOG else [])
    load.server = source
    load.wait_for_more()
    on_old = {int(line) for line in client(second, ROWS).split()}
    with load.paused():
        lost = on_old - members.rows(source)
        kept = on_old & members.rows(source)
        print(f"{kind.root}: {len(lost)} rows were lost in the failover, {len(alone)} of them written after the cut")
        assert alone <= lost
        assert min(lost) > max(kept), "a row is lost although a later one was sent"
        assert load.committed - members.rows(source) <= lost
        load.committed -= lost

    # The old source comes back: not as it is, but made anew, like a replica that was refused.
    link(second, "up")
    deployment.wait_consumed(second)
    second.instance.wait_heartbeat()
    with pytest.raises(GuestCallFailed, match="anew"):
        members.attach(second, source)
    second.instance.wait_heartbeat()
    assert second.instance.status() == "healthy"
    members.make_anew([second, *refused], source)
    members.check_equal(source, [second, third], load)

    # Restarts, and another base configuration (a resize), keep the roles.
    for server in (source, third):
        server.instance.call("restart")
        server.instance.call("stop_db")
        contents = deployment.controller.render_template(server.instance, 1024)
        server.instance.call("start_db_with_conf_changes", config_contents=contents, ds_version=kind.version)
    load.wait_for_more()
    members.check_equal(source, [second, third], load)
    with pytest.raises(pymysql.err.OperationalError):
        members.read(third, "INSERT INTO first.t VALUES (20000002, 'to a replica')")

    # A replica becomes an instance of its own.
    third.instance.call("detach_replica", for_failover=False)
    before = members.rows(third)
    members.read(third, "INSERT INTO first.t VALUES (30000001, 'on its own')")
    load.wait_for_more()
    members.check_equal(source, [second], load)
    assert members.rows(third) == before | {30000001}
    assert before < members.rows(source)
    assert members.read(third, "SELECT @@server_id") != members.read(source, "SELECT @@server_id")
    accounts = client(source, "SELECT COUNT(*) FROM mysql.user WHERE User LIKE 'slave\\_%'").strip()
    assert accounts == "1", "one account for all replicas, and none of former sources"
    load.stop()


@pytest.mark.parametrize("kind", [MYSQL, MARIADB], ids=["mysql", "mariadb"])
def test_an_agent_killed_while_its_role_changes_ends_whole(deployment: Deployment, swift: Swift, kind: Kind) -> None:
    """Where the steps of a change are, is up to the clock here; tests/mysql/replication.rs ends it at every one of them."""
    members = ReplicationSet(deployment, swift, kind, {"backup_aes_cbc_key": f"Key-{swift.key}"})
    source, replica = members.launch(), members.launch()
    members.password = source.secret()
    source.prepare([{"name": "first"}], [{"name": "owner", "password": members.password, "host": "%", "databases": [{"name": "first"}]}])
    members.read(source, "CREATE TABLE first.t (id BIGINT PRIMARY KEY, word VARCHAR(80) NOT NULL) ENGINE=InnoDB")
    replica.instance.prepare([], [], **members.snapshot(source))
    replica.wait_active(PREPARE_SECONDS)
    configs = {role: members.config(replica, role) for role in ("source", "replica")}
    for number, seconds in enumerate(KILL_AFTER_SECONDS):
        context = source.instance.call("get_replica_context")
        calls: list[tuple[str, dict[str, Any]]] = [
            ("detach_replica", {"for_failover": True}),
            ("enable_as_master", {"replica_source_config": configs["source"]}),
            ("demote_replication_master", {}),
            ("attach_replica", {"replica_info": context, "slave_config": configs["replica"]}),
        ]
        for method, arguments in calls:
            killed_in(deployment, replica, seconds, method, arguments)
            # Its caller may have had an answer or not; the same call again finds it done.
            replica.instance.call(method, **arguments)
        members.read(source, f"INSERT INTO first.t VALUES ({number}, 'after a kill')")
        latest = source.instance.call("get_latest_txn_id")
        replica.instance.call("wait_for_txn", txn=latest)
        assert members.read(replica, CHECKSUM) == members.read(source, CHECKSUM)
        assert not client(replica, "SELECT 1 FROM mysql.user WHERE User LIKE 'slave\\_%' LIMIT 1 OFFSET 1")


def killed_in(deployment: Deployment, server: Server, seconds: float, method: str, arguments: dict[str, Any]) -> None:
    """Ends the agent so long after a call was sent; returns when the next one serves and the call has ended, well or not."""
    pid, answers = server.guest.agent_pid(), []

    def send() -> None:
        try:
            answers.append(server.instance.call(method, **arguments))
        except GuestCallFailed as failure:
            answers.append(failure)

    caller = threading.Thread(target=send, daemon=True)
    caller.start()
    threading.Event().wait(seconds)
    server.guest.run(["systemctl", "kill", "--signal=KILL", "trove-guestagent.service"])
    wait_until("another agent", lambda: server.guest.agent_pid() not in (0, pid), SYNC_SECONDS, server.guest.agent_log)
    deployment.wait_consumed(server)
    caller.join(CALL_SECONDS)
    assert answers, f"the caller of {method} never heard of it"


def follows(server: Server) -> bool:
    try:
        return server.instance.call("get_last_txn")[0] is not None
    except GuestCallFailed:
        return False
