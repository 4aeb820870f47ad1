"""Every method of the real guest API classes of Trove 2026.1 and of 12.1.0, against both guests.

What must come is in `docs/rpc.md`, which is made from the agent's own table of methods; what an answer looks like is in
`conformance.py`. Methods are found in the code of the API classes: one that is not in the table fails a test.
"""

from __future__ import annotations

from typing import Any

import pytest
from bench.deployment import MYSQL, Deployment, Server
from bench.swift import Swift
from bench.waiting import wait_until
from bench.worker import GuestCallFailed, Worker
from conformance import ANSWERS, CASES, CLUSTER_PASSWORD, Case, documented, log_count, refusal
from helpers import CAST_SECONDS, account, schema, user, user_names, wait_for_fault

TABLE = documented()
CURRENT, TRAIN = "2026.1", "train"
# What is sent by no test here, and why.
ELSEWHERE = {
    # It makes the guests of all these tests; of 12.1.0, see below.
    ("base", "prepare"),
}
# In the table, and in no API class: oslo.messaging's own, which Trove never sends.
NOT_IN_AN_API = {"oslo_rpc_server_ping"}


@pytest.fixture(scope="session")
def surfaces(deployment: Deployment, train: Worker) -> dict[str, dict[tuple[str, str], dict[str, Any]]]:
    """What the API classes of each release send, by API class and wire name."""
    found = {CURRENT: deployment.controller.ask("surface"), TRAIN: train.ask("surface")}
    return {release: {(entry["api"], entry["sends"]): entry for entry in entries} for release, entries in found.items()}


def test_every_method_the_classes_send_is_in_the_table_and_has_a_case(surfaces: dict[str, dict[tuple[str, str], Any]]) -> None:
    assert set(surfaces[CURRENT]) == set(CASES) | ELSEWHERE
    assert set(surfaces[TRAIN]) == {key for key, case in CASES.items() if case.in_train} | ELSEWHERE
    sent = {method for surface in surfaces.values() for _, method in surface}
    assert sent | NOT_IN_AN_API == set(TABLE)


def outcomes() -> list[Any]:
    return [
        pytest.param(release, api, method, id=f"{release}-{api}-{method}")
        for (api, method), case in CASES.items()
        for release in (CURRENT, TRAIN)
        if release == CURRENT or case.in_train
    ]


@pytest.mark.parametrize(("release", "api", "method"), outcomes())
def test_the_outcome_is_the_documented_one(
    deployment: Deployment,
    train: Worker,
    surfaces: dict[str, dict[tuple[str, str], dict[str, Any]]],
    swift: Swift,
    server: Server,
    release: str,
    api: str,
    method: str,
) -> None:
    case, entry, outcome = CASES[api, method], surfaces[release][api, method], TABLE[method][server.kind.manager]
    worker = deployment.controller if release == CURRENT else train
    if CLUSTER_PASSWORD not in server.secrets:
        server.secrets.append(CLUSTER_PASSWORD)
    if outcome != ANSWERS:
        return refused(worker, server, case, entry, outcome)
    assert case.answers or case.fails, "docs/rpc.md says that it answers: say in conformance.py what an answer looks like"
    storage = account(swift, deployment) if case.storage else None
    case.before(server)
    try:
        if case.answers is None:
            with pytest.raises(GuestCallFailed, match=case.fails):
                send(worker, server, case, entry, storage)
            return None
        case.answers(server, send(worker, server, case, entry, storage))
    finally:
        case.after(server)


def send(worker: Any, server: Server, case: Case, entry: dict[str, Any], storage: dict[str, str] | None = None) -> Any:
    given = case.arguments(server) if callable(case.arguments) else case.arguments
    arguments = {name: given[name] for name in entry["arguments"] if name in given}
    asked = {"method": entry["method"], "arguments": arguments, "event": case.event, "api": entry["api"], "storage": storage}
    return worker.ask("call", instance_id=server.instance.id, **asked)


def refused(worker: Any, server: Server, case: Case, entry: dict[str, Any], outcome: str) -> None:
    remote, text = refusal(outcome, entry["sends"], server.kind.manager)
    if entry["is_call"]:
        with pytest.raises(GuestCallFailed) as caught:
            send(worker, server, case, entry)
        assert (caught.value.kind, caught.value.remote) == ("GuestError", remote)
        # oslo.messaging appends the (empty) traceback to the text of an exception that it builds again.
        end = "\n." if remote.endswith("_Remote") else "."
        assert caught.value.message == f"An error occurred communicating with the guest: {text}{end}"
        return
    before, fault = log_count(server, text), server.instance.fault()
    assert send(worker, server, case, entry) is None
    wait_until(f"the log to have {text!r} once more", lambda: log_count(server, text) > before, CAST_SECONDS)
    if case.event:
        assert wait_for_fault(server, fault).message == text


def test_an_instance_is_prepared_by_train(deployment: Deployment, train: Worker) -> None:
    """The real `prepare` of 12.1.0, encrypted with the instance's key: what it leaves out must not be missed."""
    server = deployment.launch(MYSQL, secure=True)
    owner = user("owner", server.secret(), databases=("first",))
    arguments = {
        "memory_mb": 512,
        "packages": MYSQL.packages,
        "databases": [schema("first", "utf8mb4", "utf8mb4_bin")],
        "users": [owner],
        "device_path": "/dev/vdb",
        "mount_point": "/var/lib/mysql",
        "config_contents": deployment.controller.render_template(server.instance),
        "overrides": {"max_connections": 88},
    }
    asked = {"method": "prepare", "arguments": arguments, "event": "DBaaSInstanceCreate"}
    train.ask("call", instance_id=server.instance.id, **asked)
    server.wait_active(180)
    assert user_names(server) == ["owner"]
    assert server.query("owner", owner["_password"], "SELECT @@max_connections") == [(88,)]
