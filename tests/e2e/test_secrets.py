"""Runs last: the guests that all tests share have lived through everything. Every other guest is searched when it ends (conftest.py)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import secret_search
from bench.deployment import Deployment, Server


@pytest.mark.parametrize("search", [secret_search.search_logs, secret_search.search_files, secret_search.search_processes])
def test_no_secret_is_found(deployment: Deployment, mariadb: Server, mysql: Server, search: Callable[[Server], None]) -> None:
    servers = [server for server in deployment.servers if server.guest.container.running]
    assert mariadb in servers and mysql in servers
    for server in servers:
        assert len(server.secrets) >= 4
        search(server)
