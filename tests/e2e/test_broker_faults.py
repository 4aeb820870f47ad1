"""Whatever befalls the broker: no accepted operation is lost or run twice, and heartbeats are there again in two intervals."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from bench.controller import GuestCallFailed
from bench.deployment import MARIADB, Deployment, Server
from bench.session import Session
from bench.waiting import wait_until
from conftest import prepared
from faults import (
    FAULTS,
    HEARTBEAT_THRESHOLD,
    NOTICE_SECONDS,
    Database,
    Fault,
    HalfOpen,
    MemoryAlarm,
    sign_of,
    wait_heartbeat,
    wait_noticed,
)
from helpers import CAST_SECONDS, database_names, journalled, schema
from secret_search import search_and_end

REPORT_INTERVAL = 5


@pytest.fixture(scope="module")
def own(session: Session) -> Iterator[Deployment]:
    """A deployment of its own, whose broker may be killed."""
    deployment = Deployment(session)
    deployment.controller.report_interval = REPORT_INTERVAL
    deployment.start()
    yield deployment
    search_and_end(*deployment.servers)
    deployment.rabbit.close()


@pytest.fixture(scope="module")
def guest(own: Deployment) -> Server:
    url = f"{own.rabbit.url(own.host)}?heartbeat_timeout_threshold={HEARTBEAT_THRESHOLD}"
    return prepared(own, MARIADB, True, guest_options={"transport_url": url})


@pytest.fixture(scope="module")
def database(guest: Server) -> Database:
    return Database(guest)


def cast_create(server: Server, name: str) -> None:
    server.instance.cast("create_database", "DBaaSDatabaseCreate", databases=[schema(name)])


def pings(server: Server) -> bool:
    """Whether controller and guest reach each other."""
    try:
        return server.instance.call("rpc_ping") is True
    except GuestCallFailed:
        return False


@pytest.mark.parametrize("kind", FAULTS, ids=lambda kind: kind.__name__)
def test_nothing_accepted_is_lost_or_run_twice(own: Deployment, guest: Server, database: Database, kind: type[Fault]) -> None:
    fault = kind(own, guest)
    agent = guest.guest.agent_pid()
    names = [f"{fault}_{role}".lower() for role in ("held", "behind", "meanwhile")]
    signs = guest.guest.agent_log().count(sign_of(fault))
    with database.held_up():
        for name in names[:2]:
            cast_create(guest, name)
        # The first is in the database's hands, the second is accepted: the broker has nothing left.
        wait_until("the first to be under way", lambda: database.creations(names[0]) == 1, CAST_SECONDS, guest.guest.agent_log)
        wait_until("the second to be accepted", lambda: journalled(guest, "accepted") == 1, CAST_SECONDS, guest.guest.agent_log)
        fault.strike()
        wait_noticed(guest, sign_of(fault), signs)
        if kind is HalfOpen:
            # The controller's broker is well.
            cast_create(guest, names[2])
    if kind is MemoryAlarm:
        # What ended has nobody to tell yet.
        wait_until("both to have ended", lambda: journalled(guest, "ended") == 2, CAST_SECONDS, guest.guest.agent_log)
    fault.mend()
    mended = time.monotonic()
    wait_heartbeat(own, guest, mended)
    own.wait_consumed(guest, NOTICE_SECONDS)
    wait_until("the controller to reach the guest", lambda: pings(guest), NOTICE_SECONDS, guest.guest.agent_log)
    if kind is not HalfOpen:
        cast_create(guest, names[2])
    wait_until(f"databases {names}", lambda: set(names) <= set(database_names(guest)), CAST_SECONDS, guest.guest.agent_log)
    wait_until("all to be told", lambda: journalled(guest, "ended") == 0, CAST_SECONDS, guest.guest.agent_log)
    assert {name: database.creations(name) for name in names} == dict.fromkeys(names, 1)
    assert guest.guest.agent_pid() == agent, "the agent must outlive its broker"


def test_a_message_the_broker_kept_while_the_agent_was_killed_runs_once(
    own: Deployment, guest: Server, database: Database
) -> None:
    """The agent dies with a change under way and one behind it; another waits in the broker meanwhile."""
    names = ["killed_held", "killed_behind", "killed_queued"]
    with database.held_up():
        for name in names[:2]:
            cast_create(guest, name)
        wait_until("the second to be accepted", lambda: journalled(guest, "accepted") == 1, CAST_SECONDS, guest.guest.agent_log)
        guest.guest.run(["systemctl", "kill", "--signal=SIGKILL", "trove-guestagent.service"])
        cast_create(guest, names[2])
    own.wait_consumed(guest, NOTICE_SECONDS)
    wait_until(f"databases {names}", lambda: set(names) <= set(database_names(guest)), CAST_SECONDS, guest.guest.agent_log)
    # The first was in the database's hands. Asked for again, it does no harm.
    assert [database.creations(name) for name in names[1:]] == [1, 1]
