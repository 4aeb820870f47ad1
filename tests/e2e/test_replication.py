"""Replication sets of real guests, while somebody writes."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from bench.command import run
from bench.controller import GuestCallFailed
from bench.deployment import PREPARE_SECONDS, Deployment, Server
from bench.swift import Swift
from bench.waiting import wait_until
from replication_engines import MARIADB_BY_GTID, MYSQL_BY_GTID, MYSQL_BY_PLACE, POSTGRESQL_STREAMING, Engine
from replication_set import ROWS, SYNC_SECONDS, Load, ReplicationSet

# Trove's agent_call_high_timeout, and a little.
CALL_SECONDS = 200.0
# When an agent is killed, after a call that takes less than a second was sent.
KILL_AFTER_SECONDS = (0.0, 0.03, 0.06, 0.1, 0.2, 0.4)


def link(server: Server, state: str) -> None:
    """The guest's network cable."""
    run(["ip", "link", "set", f"vb-{server.guest.name}", state])


@pytest.mark.parametrize(
    "engine",
    [MYSQL_BY_GTID, MARIADB_BY_GTID, MYSQL_BY_PLACE, POSTGRESQL_STREAMING],
    ids=["mysql-gtid", "mariadb-gtid", "mysql-binlog", "postgresql"],
)
def test_a_set_is_made_promoted_ejected_and_taken_apart(deployment: Deployment, swift: Swift, engine: Engine) -> None:
    members = ReplicationSet(deployment, swift, engine)
    first, second, third = (members.launch() for _ in range(3))
    members.begin(first)
    load = Load(engine, first, members.password)
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
    members.check_roles(second, [first, third])

    # Out of order: one replica falls behind, then the source is cut off and commits rows that nobody hears of.
    load.wait_for_more()
    engine.stop_receiving(third)
    load.wait_for_more()
    link(second, "down")
    alone = {10_000_001, 10_000_002, 10_000_003}
    for number in alone:
        engine.administrate(second, f"INSERT INTO t VALUES ({number}, 'alone')")
    engine.receive_again(third)
    source, refused = members.eject([third, first])
    assert source is first, "the one that is behind is not promoted"
    assert refused == ([] if engine.aligns else [third])
    load.server = source
    load.wait_for_more()
    on_old = {int(line) for line in engine.administrate(second, ROWS).split()}
    with load.paused():
        lost = on_old - members.rows(source)
        kept = on_old & members.rows(source)
        print(f"{engine.kind.root}: {len(lost)} rows were lost in the failover, {len(alone)} of them written after the cut")
        assert alone <= lost
        assert min(lost) > max(kept), "a row is lost although a later one was sent"
        assert load.committed - members.rows(source) <= lost
        load.committed -= lost

    # The old source comes back: not as it is, but without what it did alone, or made anew, like a replica that was refused.
    link(second, "up")
    deployment.wait_consumed(second)
    second.instance.wait_heartbeat()
    if engine.rewinds:
        members.attach(second, source)
        second.instance.call("demote_replication_master")
    else:
        with pytest.raises(GuestCallFailed, match="anew"):
            members.attach(second, source)
    second.instance.wait_heartbeat()
    assert second.instance.status() == "healthy"
    if not engine.rewinds:
        members.make_anew([second, *refused], source)
    members.check_equal(source, [second, third], load)

    # Restarts, and another base configuration (a resize), keep the roles.
    for server in (source, third):
        server.instance.call("restart")
        server.instance.call("stop_db")
        contents = deployment.controller.render_template(server.instance, 1024)
        server.instance.call("start_db_with_conf_changes", config_contents=contents, ds_version=engine.kind.version)
    load.wait_for_more()
    members.check_equal(source, [second, third], load)
    with pytest.raises(engine.refusal):
        members.read(third, "INSERT INTO t VALUES (20000002, 'to a replica')")

    # A replica becomes an instance of its own.
    third.instance.call("detach_replica", for_failover=False)
    before = members.rows(third)
    members.read(third, "INSERT INTO t VALUES (30000001, 'on its own')")
    load.wait_for_more()
    members.check_equal(source, [second], load)
    members.check_roles(source, [second], alone=[third])
    assert members.rows(third) == before | {30000001}
    assert before < members.rows(source)
    assert engine.identity(third) != engine.identity(source)
    assert engine.accounts(source) == 1, "one account for all replicas, and none of former sources"
    load.stop()


@pytest.mark.parametrize("engine", [MYSQL_BY_GTID, MARIADB_BY_GTID, POSTGRESQL_STREAMING], ids=["mysql", "mariadb", "postgresql"])
def test_an_agent_killed_while_its_role_changes_ends_whole(deployment: Deployment, swift: Swift, engine: Engine) -> None:
    """Where the steps of a change are, is up to the clock here; for MySQL, tests/mysql/replication_kills.rs ends it at every one of them."""
    members = ReplicationSet(deployment, swift, engine)
    source, replica = members.launch(), members.launch()
    members.begin(source)
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
        members.read(source, f"INSERT INTO t VALUES ({number}, 'after a kill')")
        latest = source.instance.call("get_latest_txn_id")
        replica.instance.call("wait_for_txn", txn=latest)
        assert members.read(replica, engine.checksum) == members.read(source, engine.checksum)
        assert engine.accounts(replica) <= 1


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
