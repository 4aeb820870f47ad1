"""The other ways to be a guest: without an init, and under another manager's name."""

from __future__ import annotations

import pytest
from bench.deployment import MARIADB, MYSQL, PERCONA_ON_MYSQL, Deployment, Kind
from bench.waiting import wait_until
from conftest import prepared


@pytest.mark.parametrize(("kind", "secure"), [(MARIADB, True), (MYSQL, False)], ids=["mariadb", "mysql"])
def test_the_agent_runs_the_server_itself_in_a_root_without_an_init(deployment: Deployment, kind: Kind, secure: bool) -> None:
    server = prepared(deployment, kind, secure, init=False)
    assert server.can_log_in("owner", server.owner_password)
    server.instance.call("restart")
    assert server.can_log_in("owner", server.owner_password)
    server.instance.call("stop_db")
    server.instance.wait_status("shutdown", 60, server.guest.agent_log)
    contents = deployment.controller.render_template(server.instance, 1024)
    server.instance.call("start_db_with_conf_changes", config_contents=contents, ds_version=kind.version)
    ((connections,),) = server.query("owner", server.owner_password, "SELECT @@max_connections")
    assert connections == 200
    server.wait_active()


def test_percona_manager_on_mysql_because_debian_has_no_percona_server(deployment: Deployment) -> None:
    server = prepared(deployment, PERCONA_ON_MYSQL, True)
    assert server.can_log_in("owner", server.owner_password)
    root = server.instance.call("enable_root")
    server.secrets.append(root["_password"])
    assert server.can_log_in("root", root["_password"])
    server.instance.call("restart")
    wait_until("the server after its restart", lambda: server.can_log_in("owner", server.owner_password), 30)
