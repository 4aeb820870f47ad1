"""The agent's own upgrade: its service manager restarts it in the middle of what it does, and nothing is lost, done twice or left half done.

"In the middle" is seen: the operation is begun in the agent's journal, and held there, until the agent has been told to end.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from backups import BACKUP_SECONDS, back_up, fill, row, start_backup, stored
from bench.controller import WORKER, GuestCallFailed
from bench.deployment import MARIADB, PREPARE_SECONDS, Deployment, Server
from bench.swift import Swift
from bench.waiting import wait_until
from bench.worker import Worker
from conformance import log_count
from faults import Database
from helpers import CAST_SECONDS, database_names, journalled, schema, user, user_names
from secret_search import search_and_end

AGENT = "trove-guestagent.service"
# An agent waits a minute for what is under way, and then a little for its end.
RESTART_SECONDS = 120.0
# The unit of the database ends when somebody has written here.
GATE = "/run/gate"
GATED = f"[Service]\nExecStopPost=-+/bin/cat {GATE}\n"


@dataclass
class Restarted:
    """A guest whose agent is restarted, and a controller of its own for calls whose answers are waited for meanwhile."""

    deployment: Deployment
    server: Server
    worker: Worker
    pool: ThreadPoolExecutor

    def send(self, operation: str, **arguments: Any) -> Future[Any]:
        return self.pool.submit(self.worker.ask, operation, instance_id=self.server.instance.id, **arguments)

    def call(self, method: str, **arguments: Any) -> Future[Any]:
        return self.send("call", method=method, arguments=arguments)

    def property(self, unit: str, name: str) -> str:
        return self.server.guest.run(["systemctl", "show", f"--property={name}", "--value", unit]).strip()

    def wait(self, what: str, condition: Callable[[], Any], timeout: float = CAST_SECONDS) -> None:
        wait_until(what, condition, timeout, self.server.guest.agent_log)

    def wait_begun(self) -> None:
        """One operation is under way."""
        self.wait("an operation that is begun", lambda: journalled(self.server, "started") == 1)

    def restart(self) -> int:
        """Has the service manager restart the agent. Returns the process that has been told to end, when it goes on with one operation."""
        agent = self.server.guest.agent_pid()
        self.server.guest.run(["systemctl", "restart", "--no-block", AGENT])
        self.wait("the agent to be told", lambda: self.property(AGENT, "ActiveState") == "deactivating")
        assert journalled(self.server, "started") == 1, "in the middle"
        assert self.server.guest.agent_pid() == agent
        return agent

    def wait_for_next(self, agent: int) -> None:
        """The next agent serves, and everything that was accepted has come to its end."""
        self.wait("another agent", lambda: self.server.guest.agent_pid() not in (0, agent), RESTART_SECONDS)
        self.wait("the agent to be ready", lambda: self.property(AGENT, "ActiveState") == "active")
        self.deployment.wait_consumed(self.server)
        self.wait("a settled journal", lambda: not any(journalled(self.server, kind) for kind in ("accepted", "started", "ended")))
        assert log_count(self.server, "internal error") == 0

    def wait_told(self, status: str) -> None:
        """Heartbeats go on, and say this."""
        self.server.instance.wait_heartbeat()
        self.server.instance.wait_status(status, 60, self.server.guest.agent_log)

    @contextlib.contextmanager
    def settings(self, *lines: str) -> Iterator[None]:
        """The agent's unit has these as well; `WatchdogSec=` from its next start on."""
        guest, path = self.server.guest, f"/run/systemd/system/{AGENT}.d/test.conf"
        guest.run(["install", "-D", "-m", "644", "/dev/stdin", path], stdin="\n".join(["[Service]", *lines, ""]))
        guest.run(["systemctl", "daemon-reload"])
        try:
            yield
        finally:
            guest.run(["rm", path])
            guest.run(["systemctl", "daemon-reload"])

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """The server answers nobody."""
        server = self.property(MARIADB.unit, "MainPID")
        self.server.guest.run(["kill", "-STOP", server])
        try:
            yield
        finally:
            self.server.guest.run(["kill", "-CONT", server])

    @contextlib.contextmanager
    def stopping(self) -> Iterator[None]:
        """Whoever stops the database waits for its end as long as this lasts; enter with [`wait_stopping`]."""
        guest = self.server.guest
        guest.run(["mkfifo", GATE])
        try:
            yield
        finally:
            guest.run(["timeout", "10", "tee", GATE], stdin="")
            guest.run(["rm", GATE])

    def wait_stopping(self) -> None:
        self.wait("the end of the database to be waited for", lambda: self.property(MARIADB.unit, "SubState") == "stop-post")


def restarted_in_prepare(deployment: Deployment, worker: Worker, pool: ThreadPoolExecutor) -> Restarted:
    """A guest that was being prepared when its agent was restarted."""
    server = deployment.launch(MARIADB, secure=True, guest_options={"backup_segment_max_size": "4194304"})
    guest = Restarted(deployment, server, worker, pool)
    server.owner_password = server.secret()
    owner = {"name": "owner", "password": server.owner_password, "host": "%", "databases": [{"name": "first"}]}
    server.instance.prepare([{"name": "first"}], [owner])
    there = ["test", "-d", "/var/lib/mysql/data"]
    guest.wait("the data directory", lambda: server.guest.container.run_full(there).returncode == 0, PREPARE_SECONDS)
    assert server.instance.status() == "building"
    guest.wait_for_next(guest.restart())
    # A failure that is told meanwhile ends this wait at once.
    server.wait_active(PREPARE_SECONDS)
    return guest


@pytest.fixture(scope="module")
def guest(deployment: Deployment) -> Iterator[Restarted]:
    worker = deployment.controller.worker("beside", Path(sys.executable), WORKER)
    with ThreadPoolExecutor(1) as pool:
        guest = restarted_in_prepare(deployment, worker, pool)
        system = guest.server.guest
        system.run(["install", "-D", "-m", "644", "/dev/stdin", f"/etc/systemd/system/{MARIADB.unit}.d/gate.conf"], stdin=GATED)
        system.run(["systemctl", "daemon-reload"])
        yield guest
        search_and_end(guest.server)


def test_prepare_comes_to_its_end(guest: Restarted) -> None:
    server = guest.server
    assert (user_names(server), database_names(server)) == (["owner"], ["first"])
    server.query("owner", server.owner_password, "CREATE TABLE t (i INT)", database="first")
    guest.wait_told("healthy")


def test_what_waits_for_its_turn_is_done_once_by_the_next_agent(guest: Restarted) -> None:
    server = guest.server
    database = Database(server)
    databases, users = ["restart_held", "restart_behind", "restart_queued"], ["behind", "queued"]

    def cast(database: str | None = None, name: str | None = None) -> None:
        if database:
            server.instance.cast("create_database", "DBaaSDatabaseCreate", databases=[schema(database)])
        if name:
            server.instance.cast("create_user", "DBaaSUserCreate", users=[user(name, server.secret())])

    with database.held_up():
        cast(databases[0])
        guest.wait("the first to be under way", lambda: database.creations(databases[0]) == 1)
        cast(databases[1], users[0])
        group = guest.call("update_overrides", overrides={"wait_timeout": 4711})
        guest.wait("the others to be accepted", lambda: journalled(server, "accepted") == 3)
        agent = guest.restart()
        # Nobody consumes the queue now.
        cast(databases[2], users[1])
        assert (journalled(server, "accepted"), group.done()) == (3, False)
    guest.wait_for_next(agent)
    assert group.result(CAST_SECONDS) is None
    server.instance.call("apply_overrides", overrides={"wait_timeout": 4711})
    guest.wait("all users", lambda: set(users) <= set(user_names(server)))
    assert set(databases) <= set(database_names(server))
    assert [database.creations(name) for name in databases] == [1, 1, 1]
    assert [database.statements("CREATE USER", f"'{name}'") for name in users] == [1, 1]
    guest.wait_told("healthy")


def test_configuration_groups_are_answered(guest: Restarted) -> None:
    server = guest.server
    for method in ("update_overrides", "apply_overrides"):
        with guest.frozen():
            answer = guest.call(method, overrides={"max_connections": 77})
            guest.wait_begun()
            agent = guest.restart()
            assert not answer.done()
        guest.wait_for_next(agent)
        assert answer.result(CAST_SECONDS) is None
        # The same once more does no harm.
        server.instance.call(method, overrides={"max_connections": 77})
    assert server.query("owner", server.owner_password, "SELECT @@max_connections") == [(77,)]
    server.instance.call("update_overrides", overrides={}, remove=True)
    guest.wait_told("healthy")


def test_the_database_is_restarted(guest: Restarted) -> None:
    before = guest.property(MARIADB.unit, "MainPID")
    with guest.stopping():
        answer = guest.send("restart")
        guest.wait_stopping()
        agent = guest.restart()
        assert not answer.done()
    guest.wait_for_next(agent)
    assert answer.result(CAST_SECONDS) is None
    assert guest.property(MARIADB.unit, "MainPID") not in (before, "0")
    guest.wait_told("healthy")


def test_an_operation_that_outlasts_the_service_managers_patience_is_taken_up(guest: Restarted) -> None:
    """Told to stop, the agent waits for what is under way longer than systemd waits for the agent."""
    before = guest.property(MARIADB.unit, "MainPID")
    with guest.settings("TimeoutStopSec=2"), guest.stopping():
        answer = guest.send("restart")
        guest.wait_stopping()
        agent = guest.restart()
        guest.wait("another agent", lambda: guest.server.guest.agent_pid() not in (0, agent))
        assert "State 'stop-sigterm' timed out. Killing." in guest.server.guest.agent_log()
        assert not answer.done()
    guest.wait_for_next(agent)
    assert answer.result(CAST_SECONDS) is None
    assert guest.property(MARIADB.unit, "MainPID") not in (before, "0")
    guest.wait_told("healthy")


def test_an_agent_that_does_nothing_any_more_is_started_again_and_nothing_is_lost(guest: Restarted) -> None:
    server = guest.server
    database = Database(server)
    with guest.settings("WatchdogSec=3"):
        server.guest.run(["systemctl", "restart", AGENT], timeout=RESTART_SECONDS)
        guest.deployment.wait_consumed(server)
        agent = server.guest.agent_pid()
        for _ in range(2):
            told = guest.property(AGENT, "WatchdogTimestampMonotonic")
            guest.wait("systemd to be told again", lambda told=told: guest.property(AGENT, "WatchdogTimestampMonotonic") != told)
        assert server.guest.agent_pid() == agent
        with database.held_up():
            server.instance.cast("create_database", "DBaaSDatabaseCreate", databases=[schema("watched")])
            guest.wait("it to be under way", lambda: database.creations("watched") == 1)
            server.instance.cast("create_user", "DBaaSUserCreate", users=[user("watched", server.secret())])
            guest.wait("the next to be accepted", lambda: journalled(server, "accepted") == 1)
            server.guest.run(["kill", "-STOP", str(agent)])
            # Into the queue of an agent that stands still.
            server.instance.cast("create_user", "DBaaSUserCreate", users=[user("unread", server.secret())])
            guest.wait("another agent", lambda: server.guest.agent_pid() not in (0, agent))
        guest.wait_for_next(agent)
    assert "Watchdog timeout" in server.guest.agent_log()
    guest.wait("all users", lambda: {"watched", "unread"} <= set(user_names(server)))
    assert "watched" in database_names(server)
    guest.wait_told("healthy")


def test_a_database_that_is_being_stopped_stays_down(guest: Restarted) -> None:
    """`stop_db` of a resize; the next agent leaves the database to the call that follows."""
    server = guest.server
    with guest.stopping():
        answer = guest.call("stop_db")
        guest.wait_stopping()
        agent = guest.restart()
        assert not answer.done()
    guest.wait_for_next(agent)
    assert answer.result(CAST_SECONDS) is None
    guest.wait_told("shutdown")
    assert guest.property(MARIADB.unit, "ActiveState") == "inactive"
    contents = guest.deployment.controller.render_template(server.instance)
    server.instance.call("start_db_with_conf_changes", config_contents=contents, ds_version=MARIADB.version)
    guest.wait_told("healthy")


@pytest.fixture(scope="module")
def filled(guest: Restarted) -> Restarted:
    """With something to back up."""
    fill(guest.server)
    return guest


@pytest.mark.parametrize("patience", ["TimeoutStopSec=90", "TimeoutStopSec=1"])
def test_a_backup_is_given_up_and_told_of(filled: Restarted, swift: Swift, patience: str) -> None:
    """By the agent that is told to end, or, when that is killed before it has ended the tool, by the next one."""
    with filled.settings(patience):
        backup_in_the_middle(filled, swift)


def backup_in_the_middle(guest: Restarted, swift: Swift) -> None:
    server, deployment = guest.server, guest.deployment
    server.secrets.append(swift.login()[0])
    fault = server.instance.fault()
    backup = start_backup(deployment, swift, server)
    guest.wait("segments", lambda: bool(stored(swift, backup)), BACKUP_SECONDS)
    # Held in the middle, and nothing ends it but its own agent.
    server.guest.run(["pkill", "-STOP", "mariadb-backup"])
    assert row(deployment, backup)["state"] == "BUILDING"
    agent = server.guest.agent_pid()
    server.guest.run(["systemctl", "restart", AGENT], timeout=RESTART_SECONDS)
    guest.wait_for_next(agent)
    guest.wait("FAILED", lambda: row(deployment, backup)["state"] == "FAILED")
    assert stored(swift, backup) == []
    assert server.guest.run(["pgrep", "mariadb-backup"], check=False) == ""
    guest.wait("the reason", lambda: server.instance.fault() not in (None, fault))
    told = server.instance.fault()
    assert told and "the guest agent was restarted in the middle of 'create_backup'" in told.message
    back_up(deployment, swift, server)
    guest.wait_told("healthy")


@pytest.mark.parametrize("signal", ["TERM", "KILL"])
def test_a_database_that_is_restarted_for_a_snapshot_comes_back(guest: Restarted, swift: Swift, signal: str) -> None:
    """A snapshot for a replica is undone when it is cut short; the restart that made the instance a source is not left in its middle."""
    server, deployment = guest.server, guest.deployment
    token = swift.login()[0]
    server.secrets.append(token)
    guest.worker.ask("use_token", token=token)
    before, agent = guest.property(MARIADB.unit, "MainPID"), server.guest.agent_pid()
    with guest.stopping():
        answer = guest.send("replication_snapshot", swift_url=swift.login(deployment.host)[1])
        guest.wait_stopping()
        if signal == "TERM":
            guest.restart()
        else:
            server.guest.run(["systemctl", "kill", "--signal=KILL", AGENT])
            guest.wait("the agent's end", lambda: server.guest.agent_pid() != agent)
    guest.wait_for_next(agent)
    with pytest.raises(GuestCallFailed, match="restarted in the middle of 'get_replication_snapshot'"):
        answer.result(CAST_SECONDS)
    guest.wait_told("healthy")
    assert guest.property(MARIADB.unit, "MainPID") not in (before, "0")
    states = "SELECT state FROM backups WHERE instance_id = ? ORDER BY created DESC LIMIT 1"
    guest.wait("the snapshot to be FAILED", lambda: deployment.controller.query(states, server.instance.id) == [("FAILED",)])
    # No source any more, so that the next has to restart it again.
    server.instance.call("demote_replication_master")
    server.instance.call("restart")
    guest.wait_told("healthy")
