"""The whole way over TLS: the real controller, a broker that demands certificates, and a guest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bench.deployment import MARIADB, Deployment
from bench.roots import base_root
from bench.session import Session
from bench.waiting import wait_until
from conftest import prepared
from secret_search import search_and_end


@pytest.fixture(params=["RabbitMQ 3", "RabbitMQ 4"])
def secured(session: Session, request: pytest.FixtureRequest) -> Iterator[Deployment]:
    """A deployment without any plain connection to its broker."""
    root = base_root("rabbitmq-4") if request.param == "RabbitMQ 4" else None
    deployment = Deployment(session, tls=True, rabbit_root=root).start()
    yield deployment
    search_and_end(*deployment.servers)
    deployment.rabbit.close()


def test_an_instance_is_prepared_and_called_over_tls(secured: Deployment) -> None:
    server = prepared(secured, MARIADB, True)
    assert server.instance.status() == "healthy"
    assert server.instance.call("rpc_ping") is True
    assert [user["_name"] for user in server.instance.call("list_users")[0]] == ["owner"]
    server.instance.wait_heartbeat()
    protocols = secured.rabbit.ctl("-q", "list_connections", "ssl", "ssl_protocol", "peer_cert_subject").splitlines()[1:]
    assert protocols and all(line.startswith("true\ttlsv1.") and line.endswith("CN=client") for line in protocols), protocols


def test_a_certificate_of_another_authority_is_refused_and_said(secured: Deployment) -> None:
    server = secured.place(MARIADB, secure=False, init=False)
    certificate = secured.rabbit.client_files["ssl_cert_file"]
    # The guest trusts somebody else: a certificate that signed nothing.
    server.guest.inject({str(secured.rabbit.client_files["ssl_ca_file"]): certificate.read_text()})
    server.guest.boot()
    wait_until("the refusal", lambda: "is not signed by an authority in ssl_ca_file" in server.guest.agent_log(), 60)
    assert secured.consumers(f"guestagent.{server.instance.id}") == 0
