"""The broker goes away and comes back; another one stands in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bench.deployment import MARIADB, MYSQL, Deployment, Server
from bench.oslo_peer import OsloPeer
from bench.rabbit import Rabbit
from bench.session import Session
from bench.waiting import wait_until
from conftest import prepared
from secret_search import search_and_end

# Reconnecting backs off up to `rabbit_interval_max`, 30 s.
RECONNECT_SECONDS = 90.0


@pytest.fixture
def own(session: Session) -> Iterator[Deployment]:
    """A deployment of its own, whose broker may be killed."""
    deployment = Deployment(session).start()
    yield deployment
    search_and_end(*deployment.servers)
    deployment.rabbit.close()


def answers(peer: OsloPeer, server: Server) -> bool:
    try:
        return peer.call(server.instance.id, "rpc_ping", server.instance.key, timeout=3) is True
    except Exception:  # noqa: BLE001 - whatever a client sees of a broker that is not there
        return False


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_the_agent_consumes_again_after_the_broker_is_back(own: Deployment, end: str) -> None:
    server = prepared(own, MARIADB, True)
    agent = server.guest.agent_pid()
    getattr(own.rabbit, end)()
    wait_until("the agent to notice", lambda: "consuming" in server.guest.agent_log(), 30)
    own.rabbit.start()
    own.wait_consumed(server, RECONNECT_SECONDS)
    server.instance.wait_heartbeat(RECONNECT_SECONDS)
    assert server.instance.call("rpc_ping") is True
    assert server.instance.status() == "healthy"
    assert server.guest.agent_pid() == agent, "the agent must outlive its broker"


def test_the_agent_waits_for_a_broker_that_is_not_there_yet(own: Deployment) -> None:
    server = own.place(MYSQL, secure=False, init=False)
    own.rabbit.stop()
    server.guest.boot()
    wait_until("the agent to run", lambda: server.guest.agent_pid() != 0, 30)
    own.rabbit.start()
    own.wait_consumed(server, RECONNECT_SECONDS)
    assert server.instance.call("rpc_ping") is True


def test_the_agent_moves_to_another_broker(session: Session, own: Deployment) -> None:
    """Two brokers that know nothing of each other: the queue is declared anew on the second."""
    other = Rabbit(session, ("127.0.0.1", own.host))
    other.start()
    credentials = [broker.url(own.host).removeprefix("rabbit://").rstrip("/") for broker in (own.rabbit, other)]
    options = {"transport_url": f"rabbit://{','.join(credentials)}/"}
    server = own.place(MYSQL, secure=False, init=False, guest_options=options)
    server.guest.boot()
    peers = [OsloPeer(own.rabbit.url()), OsloPeer(other.url())]
    brokers = [own.rabbit, other]
    try:
        wait_until("one of two brokers", lambda: any(answers(peer, server) for peer in peers), RECONNECT_SECONDS)
        for _ in range(2):
            used = 0 if answers(peers[0], server) else 1
            brokers[used].kill()
            spare = peers[1 - used]
            wait_until("the other broker", lambda peer=spare: answers(peer, server), RECONNECT_SECONDS)
            brokers[used].start()
    finally:
        for peer in peers:
            peer.close()
        other.close()
