"""Who is told of each alert, by `amtool config routes test`; the table is made from the rule files."""

import subprocess
from pathlib import Path

import pytest
import yaml

from llmvitals_stack.alertmanager import BASE

RULES = Path(__file__).parents[2] / "prometheus" / "rules"
ALERTS = [
    rule
    for path in sorted(RULES.glob("*/*.yml"))
    for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
    if "alert" in rule
]


def receivers(**labels):
    command = ["amtool", "config", "routes", "test", f"--config.file={BASE}", *(f"{k}={v}" for k, v in labels.items())]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().split(",")


def expected(rule):
    if rule["alert"] == "Watchdog":
        return ["remediation"]
    if rule["labels"].get("remediate") == "true":
        return ["remediation", "people"]
    return ["people"]


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: "-".join([rule["alert"], *sorted(rule["labels"].values())]))
def test_each_alert_reaches_whom_it_should(rule):
    """What a handler may answer goes to remediation and people; the Watchdog to remediation; the rest to people."""
    labels = {**rule["labels"], "alertname": rule["alert"], "job": "companion", "instance": "127.0.0.1:9464"}

    assert receivers(**labels) == expected(rule)


@pytest.mark.parametrize(
    ("labels", "who"),
    [
        ({"alertname": "Mine", "severity": "info"}, ["people"]),
        ({"alertname": "Mine", "severity": "none"}, ["nobody"]),
        ({"alertname": "Mine"}, ["people"]),
        ({"alertname": "Mine", "remediate": "true"}, ["remediation", "people"]),
        ({"alertname": "Mine", "remediate": "false", "severity": "warning"}, ["people"]),
    ],
)
def test_alerts_of_others_are_not_lost(labels, who):
    """A rule of the user's own, with or without our labels, reaches somebody."""
    assert receivers(**labels) == who


def test_remediation_is_told_at_once_and_again_every_minute():
    """The figures that the ten seconds from fault to handler rest on."""
    routes = yaml.safe_load(BASE.read_text(encoding="utf-8"))["route"]["routes"]
    watchdog, remediate = routes[:2]

    assert remediate == {
        "receiver": "remediation",
        "matchers": ['remediate="true"'],
        "continue": True,
        "group_by": ["alertname", "job", "instance"],
        "group_wait": "1s",
        "group_interval": "2s",
        "repeat_interval": "1m",
    }
    assert watchdog["matchers"] == ['alertname="Watchdog"']
    assert watchdog["repeat_interval"] == "1m"
