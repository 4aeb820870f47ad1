"""The operator changes the key of an instance's messages while its agent runs."""

from __future__ import annotations

import pytest
from bench.controller import GuestCallFailed
from bench.deployment import MARIADB, Deployment
from bench.waiting import wait_until
from conftest import prepared
from helpers import CAST_SECONDS

INFO = "/etc/trove/conf.d/guest_info.conf"


def test_a_rotated_key_is_taken_over_without_a_restart(deployment: Deployment) -> None:
    server = prepared(deployment, MARIADB, True)
    guest, instance = server.guest, server.instance
    agent, old = guest.agent_pid(), instance.key
    assert old is not None
    new = deployment.controller.rotate_key(instance)
    server.secrets.append(new)
    # Between the two places that know the key, the guest refuses what it cannot read, and says why.
    with pytest.raises(GuestCallFailed, match="another key"):
        instance.call("rpc_ping")
    text = guest.read(INFO)
    # Half a file first, as a copy that was cut off leaves it.
    guest.run(["tee", INFO], stdin=text[: text.index(old)])
    stays = "the instance_rpc_encr_key in force stays"
    wait_until("the agent to look", lambda: stays in guest.agent_log(), CAST_SECONDS, guest.agent_log)
    guest.run(["tee", INFO], stdin=text.replace(old, new))
    assert instance.call("rpc_ping") is True
    assert "first" in [entry["_name"] for entry in instance.call("list_databases")[0]]
    # The conductor knows the new key alone.
    instance.wait_heartbeat()
    assert instance.status() == "healthy"
    assert guest.agent_pid() == agent
    log = guest.everything_logged()
    assert log.count(stays) == 1
    assert old not in log and new not in log
