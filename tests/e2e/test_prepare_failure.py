"""A `prepare` that cannot succeed ends in FAILED with a reason, never in silence."""

from __future__ import annotations

from typing import Any

import pytest
from bench.deployment import MARIADB, PREPARE_SECONDS, Deployment, Server
from helpers import wait_for_fault

# The server refuses to start with it, whatever its version.
BAD_CONFIGURATION = """\
[mysqld]
datadir = /var/lib/mysql/data
socket = /run/mysqld/mysqld.sock
innodb_data_home_dir = /nowhere/at/all
innodb_buffer_pool_size = 64M
"""

FAILURES: dict[str, dict[str, Any]] = {
    "configuration": {"config_contents": BAD_CONFIGURATION},
    "package": {"packages": "no-such-package-at-all"},
    "device": {"device_path": "/dev/vdz"},
    "backup": {"backup_info": {"id": "b", "location": "http://192.0.2.1/v1/a/c/o", "type": "x", "checksum": "c"}},
    "database": {"databases": [{"_name": "it's", "_character_set": None, "_collate": None}]},
    "user": {"users": [{"_name": "x" * 300, "_password": "p", "_host": "%", "_databases": []}]},
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES.keys())
def test_a_failed_step_fails_the_instance_with_its_reason(deployment: Deployment, failure: dict[str, Any]) -> None:
    server: Server = deployment.launch(MARIADB, secure=True)
    server.instance.prepare(**failure)
    server.instance.wait_status("failed to spawn", PREPARE_SECONDS, server.guest.agent_log)
    fault = wait_for_fault(server, None)
    assert fault.message.strip()
    # Heartbeats must not paint over the failure.
    server.instance.call("rpc_ping")
    assert server.instance.status() == "failed to spawn"
    server.guest.run(["systemctl", "restart", "trove-guestagent.service"])
    deployment.wait_consumed(server)
    assert server.instance.call("rpc_ping") is True
    assert server.instance.status() == "failed to spawn"
