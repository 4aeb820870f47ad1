"""What is offered for watching guests: the alert rules, as Prometheus reads and tries them, and the dashboard, whose queries it reads."""

from __future__ import annotations

import json
import re

import yaml
from bench.command import run
from bench.session import REPOSITORY, Session

MONITORING = REPOSITORY / "docs/monitoring"


def test_prometheus_alerts_when_something_is_wrong_and_only_then() -> None:
    (group,) = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    names = [rule["alert"] for rule in group["rules"]]
    assert f"SUCCESS: {len(names)} rules found" in run(["promtool", "check", "rules", str(MONITORING / "alerts.yml")])
    trial = MONITORING / "alerts.test.yml"
    assert "SUCCESS" in run(["promtool", "test", "rules", str(trial)])
    tried = {test["alertname"] for case in yaml.safe_load(trial.read_text())["tests"] for test in case["alert_rule_test"] if test.get("exp_alerts")}
    assert tried == set(names), "each of them fires in the trial"
    described = re.findall(r"^\| `(TroveGuest\w+)` \|", (REPOSITORY / "docs/monitoring.md").read_text(), re.MULTILINE)
    assert described == names


def test_prometheus_reads_every_query_of_the_dashboard(session: Session) -> None:
    panels = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    rules = [{"record": f"query_{number}", "expr": target["expr"]} for number, target in enumerate(target for panel in panels for target in panel["targets"])]
    assert len(rules) >= len(panels)
    file = session.directory / "queries.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"SUCCESS: {len(rules)} rules found" in run(["promtool", "check", "rules", str(file)])
