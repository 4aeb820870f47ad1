"""Logs of a guest, switched and published through the real API of both eras, and read by python-troveclient's own code."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from bench.deployment import Deployment, Server
from bench.swift import Swift
from bench.worker import Worker
from helpers import account

KEYS = {"name", "type", "status", "published", "pending", "container", "prefix", "metafile"}


def test_the_general_log_is_published_and_read(deployment: Deployment, train: Worker, swift: Swift, server: Server) -> None:
    storage = account(swift, deployment)
    server.secrets.append(storage["token"])

    def act(worker: Any, **flags: int) -> dict[str, Any]:
        # The REST API passes on what its user has sent, and null for the rest.
        arguments = {"log_name": "general", "enable": None, "disable": None, "publish": None, "discard": None} | flags
        return worker.ask("call", instance_id=server.instance.id, method="guest_log_action", arguments=arguments, storage=storage)

    seen = deployment.controller.ask("call", instance_id=server.instance.id, method="guest_log_list", arguments={}, storage=storage)
    assert [log["name"] for log in seen] == ["general", "slow_query", "error", "guest"]
    assert all(set(log) == KEYS for log in seen)
    assert act(deployment.controller, enable=1)["status"] in ("Enabled", "Ready")
    server.query("owner", server.owner_password, "SELECT 'first mark in the log'")
    details = act(train, publish=1)
    assert (details["status"], details["container"]) in (("Published", "database_logs"), ("Partial", "database_logs"))

    # After the agent's end the state is what it was.
    server.guest.run(["systemctl", "restart", "trove-guestagent"])
    deployment.wait_consumed(server)
    server.query("owner", server.owner_password, "SELECT 'second mark in the log'")
    details = act(deployment.controller, publish=1)
    text = read(swift, details)
    assert text.index("first mark") < text.index("second mark")
    assert text.count("SELECT 'first mark in the log'") == 1
    assert act(train, disable=1, discard=1)["status"] == "Disabled"
    assert swift.client().get_container("database_logs", prefix=details["prefix"])[1] == []


def read(swift: Swift, details: dict[str, Any]) -> str:
    """The whole log, by the code of `log save`."""
    from troveclient.v1.instances import Instances

    api = SimpleNamespace(client=SimpleNamespace(post=lambda url, body: (SimpleNamespace(status_code=200), {"log": details})))
    return "".join(Instances(api).log_generator("instance", details["name"], lines=0, swift=swift.client())())
