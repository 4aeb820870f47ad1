"""Fixtures: one deployment for the run, and guests that are prepared once and shared by the tests that do not break them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "dev"))

from bench.deployment import MARIADB, MYSQL, Deployment, Kind, Server  # noqa: E402
from bench.oslo_peer import OsloPeer  # noqa: E402
from bench.session import Session  # noqa: E402
from bench.swift import Swift  # noqa: E402
from bench.train import train_worker  # noqa: E402
from bench.worker import Worker  # noqa: E402
from built_packages import Packages  # noqa: E402
from secret_search import search_and_end  # noqa: E402

# How much of a guest's log goes under a failed test.
LOG_LINES = 60


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The search for secrets comes last, when the guests have lived through everything else."""
    items.sort(key=lambda item: item.path.name == "test_secrets.py")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Puts the end of the agent's log under the report of a failed test."""
    outcome: Any = yield
    report = outcome.get_result()
    if not report.failed:
        return
    for name, value in getattr(item, "funcargs", {}).items():
        # A fixture is a server, or something around one.
        server = getattr(value, "server", value)
        if isinstance(server, Server) and server.guest.container.running:
            report.sections.append(log_section(server, f" of {name}"))


def launched_since(deployments: list[Deployment], before: list[int]) -> list[Server]:
    started = [deployment.servers[count:] for deployment, count in zip(deployments, before, strict=True)]
    return [server for servers in started for server in servers if server.guest.container.running]


def log_section(server: Server, role: str = "") -> tuple[str, str]:
    """Heading and end of a guest's log, for a report."""
    lines = server.guest.agent_log().splitlines()[-LOG_LINES:]
    return f"agent{role} ({server.guest.name})", "\n".join(lines)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """A guest that the body of a test launches ends with it, that of a fixture with the fixture: few are alive at once."""
    deployments = [value for value in getattr(item, "funcargs", {}).values() if isinstance(value, Deployment)]
    before = [len(deployment.servers) for deployment in deployments]
    try:
        return (yield)
    except (Exception, pytest.fail.Exception):
        for server in launched_since(deployments, before):
            item.add_report_section("call", *log_section(server))
        raise
    finally:
        search_and_end(*launched_since(deployments, before))


@pytest.fixture(scope="session")
def session() -> Iterator[Session]:
    if os.geteuid() != 0:
        pytest.exit("the guests need root", returncode=1)
    with Session() as session:
        yield session


@pytest.fixture(scope="session")
def packages(session: Session) -> Packages:
    return Packages(session.subdirectory("packages"))


@pytest.fixture(scope="session")
def deployment(session: Session) -> Deployment:
    return Deployment(session).start()


@pytest.fixture(scope="session")
def peer(deployment: Deployment) -> Iterator[OsloPeer]:
    """A raw oslo.messaging client on the broker of the deployment."""
    peer = OsloPeer(deployment.rabbit.url())
    yield peer
    peer.close()


@pytest.fixture(scope="session")
def train(deployment: Deployment) -> Worker:
    """Trove 12.1.0 on the same broker and database."""
    return train_worker(deployment.controller)


def prepared(deployment: Deployment, kind: Kind, secure: bool, **options: Any) -> Server:
    """A guest with two databases and one user, called healthy by the controller."""
    server = deployment.launch(kind, secure=secure, **options)
    databases = [{"name": "first"}, {"name": "second", "character_set": "utf8mb4", "collate": "utf8mb4_bin"}]
    users = [{"name": "owner", "password": server.secret(), "host": "%", "databases": [{"name": "first"}]}]
    server.owner_password = users[0]["password"]
    server.prepare(databases, users)
    return server


@pytest.fixture(scope="session")
def mariadb(deployment: Deployment) -> Server:
    """MariaDB 10.11 under systemd; the RPC is encrypted."""
    return prepared(deployment, MARIADB, secure=True)


@pytest.fixture(scope="session")
def mysql(deployment: Deployment) -> Server:
    """MySQL 9.7 under systemd; the RPC is in the clear."""
    return prepared(deployment, MYSQL, secure=False)


@pytest.fixture(scope="session", params=["mariadb", "mysql"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each of the two shared guests in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def swift(deployment: Deployment) -> Iterator[Swift]:
    """A Swift that guests reach; the controller's requests carry a token of it."""
    swift = Swift(deployment.session, hosts=("127.0.0.1", deployment.host)).start()
    token, _ = swift.login()
    deployment.controller.ask("use_token", token=token)
    yield swift
    deployment.controller.ask("use_token", token=deployment.controller.auth_token)
