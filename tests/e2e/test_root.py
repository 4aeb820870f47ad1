"""Root access: off, on, on with a chosen password, off again."""

from __future__ import annotations

import pytest
from bench.controller import GuestCallFailed
from bench.deployment import Deployment, Server


def test_root_is_enabled_and_disabled(deployment: Deployment, server: Server) -> None:
    assert server.instance.call("is_root_enabled") is False
    root = server.instance.call("enable_root")
    server.secrets.append(root["_password"])
    assert (root["_name"], root["_host"], root["_is_root"]) == ("root", "%", True)
    assert server.instance.call("is_root_enabled") is True
    grants = server.query("root", root["_password"], "SHOW GRANTS")
    assert "WITH GRANT OPTION" in str(grants)
    reported = deployment.controller.query("SELECT COUNT(*) FROM root_enabled_history WHERE id = ?", server.instance.id)
    assert reported in ([(0,)], [(1,)])

    chosen = server.secret()
    again = server.instance.call("enable_root_with_password", root_password=chosen)
    assert again["_password"] == chosen
    assert server.can_log_in("root", chosen)
    assert not server.can_log_in("root", root["_password"])

    server.instance.call("disable_root")
    assert server.instance.call("is_root_enabled") is False
    assert not server.can_log_in("root", chosen)


def test_the_root_password_is_not_given_away(server: Server) -> None:
    with pytest.raises(GuestCallFailed, match="not supported"):
        server.instance.call("get_root_password")
