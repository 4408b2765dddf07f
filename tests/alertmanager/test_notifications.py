"""A real Alertmanager with a rendered file: who gets what, what they read, and what mutes what."""

import contextlib
import shutil
from collections import Counter
from datetime import UTC, datetime

import pytest
import yaml
from tests.alertmanager.sinks import http_sink, smtp_sink
from tests.servers import eventually, free_port, program, request, server

from llmvitals_stack.alertmanager import BASE, render

pytestmark = pytest.mark.stack

PASSWORD = "correct-horse-battery"
TOKEN = "ingest-token-of-this-test"
SLOW = {
    "alertname": "LLMLatencyHigh",
    "severity": "warning",
    "component": "llm",
    "remediate": "true",
    "job": "companion",
    "instance": "127.0.0.1:9464",
    "operation": "talker",
}
SLOW_TEXT = {
    "summary": "An operation is slower than its target.",
    "description": "Operation talker: the 95th percentile is 4.1s <b> above the target.",
    "runbook_url": "docs/runbooks/LLMLatencyHigh.md",
    "dashboard_url": "/d/llmvitals-overview?var-job=companion",
}


@contextlib.contextmanager
def alertmanager(folder, settings, sink):
    """Alertmanager that logs everything; people are told as quickly as remediation."""
    token_file = folder / "ingest_token"
    token_file.write_text(TOKEN, encoding="utf-8")
    configuration = yaml.safe_load(render(settings, remediation_url=sink.url, ingest_token_file=str(token_file)))
    for route in (configuration["route"], *configuration["route"]["routes"]):
        route.update(group_wait="300ms", group_interval="1s")
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(configuration), encoding="utf-8")
    shutil.copytree(BASE.parent / "templates", folder / "templates")
    port = free_port()
    command = [
        program("alertmanager", "prometheus-alertmanager"),
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
        "--log.level=debug",
    ]
    with server(command, port=port, log=folder / "alertmanager.log", ready="/-/ready") as started:
        yield started


def fire(alertmanager_url, *alerts, ends=None):
    """Post alerts, each its labels and annotations, that begin now.

    Not earlier: an alert older than group_wait is notified at once, before what would mute it is seen.
    """
    data = [
        {
            "labels": labels,
            "annotations": annotations,
            **({"endsAt": ends.isoformat()} if ends else {}),
            "generatorURL": "http://127.0.0.1:9090/graph?g0.expr=up",
        }
        for labels, annotations in alerts
    ]
    assert request(f"{alertmanager_url}/api/v2/alerts", data=data).status == 200


def test_mail_slack_webhook_and_remediation_are_told_of_the_same_alert(tmp_path):
    """Each gets it once and can read it; a failed first try is repeated; no secret is in the log."""
    with http_sink(failures=1) as sink, smtp_sink(free_port()) as mailbox:
        settings = {
            "LLMVITALS_SMTP_HOST": mailbox.address,
            "LLMVITALS_SMTP_FROM": "llmvitals@example.org",
            "LLMVITALS_SMTP_TO": "on-call@example.org, second@example.org",
            "LLMVITALS_SMTP_USER": "mailer",
            "LLMVITALS_SMTP_PASSWORD": PASSWORD,
            "LLMVITALS_SLACK_WEBHOOK_URL": f"{sink.url}/services/T0/B0/slack-secret",
            "LLMVITALS_NOTIFY_WEBHOOK_URL": f"{sink.url}/hooks/people",
            "LLMVITALS_GRAFANA_PORT": "3300",
        }
        with alertmanager(tmp_path, settings, sink) as started:
            fire(started.url, (SLOW, SLOW_TEXT))
            eventually(lambda: mailbox.mails, what="the mail")
            eventually(lambda: len({d.path for d in sink.deliveries}) == 3, what="all three posts")
            log = started.log.read_text(encoding="utf-8")
            status = request(f"{started.url}/api/v2/status").text

    recipients, mail = mailbox.mails[0]
    text = mail.get_body("plain").get_content()
    page = mail.get_body("html").get_content()
    posts = {delivery.path: delivery for delivery in sink.deliveries}
    assert mailbox.logins == [("mailer", PASSWORD)]
    assert recipients == ["on-call@example.org", "second@example.org"]
    assert mail["Subject"] == "[FIRING 1] LLMLatencyHigh on companion"
    for part in (
        "FIRING (warning) An operation is slower than its target.",
        "the 95th percentile is 4.1s <b> above the target.",
        "Where:     instance=127.0.0.1:9464 job=companion operation=talker",
        "Remediation was told, and may act on it: http://127.0.0.1:9466/",
        "Dashboard: http://127.0.0.1:3300/d/llmvitals-overview?var-job=companion",
        "Runbook:   docs/runbooks/LLMLatencyHigh.md",
    ):
        assert part in text
    assert "4.1s &lt;b&gt; above" in page
    assert 'href="http://127.0.0.1:3300/d/llmvitals-overview?var-job=companion"' in page
    assert posts["/api/v1/alerts"].authorization == f"Bearer {TOKEN}"
    assert posts["/api/v1/alerts"].body["version"] == "4"
    assert posts["/hooks/people"].body["alerts"][0]["labels"] == SLOW
    assert posts["/services/T0/B0/slack-secret"].body["attachments"][0]["title"] == mail["Subject"]
    assert "/d/llmvitals-overview" in posts["/services/T0/B0/slack-secret"].body["attachments"][0]["text"]
    # A plain webhook's URL is no secret to Alertmanager 0.25: it logs it when a try fails.
    for secret in (PASSWORD, TOKEN, "slack-secret"):
        assert secret not in log
        assert secret not in status


def test_a_resolved_alert_says_until_when_it_lasted(tmp_path):
    """The end of trouble is told to the same people, under the same subject."""
    with http_sink() as sink, smtp_sink(free_port()) as mailbox:
        settings = {
            "LLMVITALS_SMTP_HOST": mailbox.address,
            "LLMVITALS_SMTP_FROM": "llmvitals@example.org",
            "LLMVITALS_SMTP_TO": "on-call@example.org",
            "LLMVITALS_SMTP_USER": "mailer",
            "LLMVITALS_SMTP_PASSWORD": PASSWORD,
        }
        with alertmanager(tmp_path, settings, sink) as started:
            fire(started.url, (SLOW, SLOW_TEXT))
            eventually(lambda: mailbox.mails, what="the first mail")
            fire(started.url, (SLOW, SLOW_TEXT), ends=datetime.now(UTC))
            eventually(lambda: len(mailbox.mails) == 2, what="the second mail")

    mail = mailbox.mails[1][1]
    assert mail["Subject"] == "[RESOLVED] LLMLatencyHigh on companion"
    assert " until " in mail.get_body("plain").get_content()
    assert [a["status"] for _, a in sink.alerts("/api/v1/alerts")] == ["firing", "resolved"]


def test_a_cause_mutes_its_symptoms_on_the_same_target_only(tmp_path):
    """Target down mutes all of it; provider down mutes errors, retries, waits and breaker; critical mutes warning."""

    def alert(name, severity="warning", /, instance="a:1", **more):
        labels = {"alertname": name, "severity": severity, "job": "companion", "instance": instance, **more}
        return labels, SLOW_TEXT

    posted = [
        alert("LLMProviderDown", "critical", gen_ai_provider_name="primary"),
        alert("LLMLatencyHigh", operation="talker"),
        alert("LLMErrorRatioHigh", provider="primary"),
        alert("LLMRetryStorm", name="llm"),
        alert("LLMCircuitBreakerOpen", name="llm_primary"),
        alert("LLMUserProfilesHigh"),
        alert("LLMUserProfilesHigh", "critical"),
        alert("GPUTemperatureHigh", "critical", uuid="GPU-1"),
        alert("GPUTemperatureHigh", uuid="GPU-1"),
        alert("GPUTemperatureHigh", uuid="GPU-2"),
        alert("RemediationFailing", "critical", condition="inbox_old"),
        alert("RemediationFailing", condition="breaker_open"),
        alert("LLMLatencyHigh", instance="b:1", operation="talker"),
        alert("TargetDown", "critical", instance="c:1"),
        alert("LLMMemoryAboveBaseline", instance="c:1"),
        alert("LLMProviderDown", "critical", instance="c:1"),
    ]
    with http_sink() as sink:
        settings = {"LLMVITALS_NOTIFY_WEBHOOK_URL": f"{sink.url}/people"}
        with alertmanager(tmp_path, settings, sink) as started:
            fire(started.url, *posted)

            def told():
                return Counter(
                    f"{a['labels']['alertname']} {a['labels']['instance']} {a['labels']['severity']}"
                    for _, a in sink.alerts("/people")
                )

            eventually(lambda: len(told()) >= 8, what="eight notifications")
            muted = request(f"{started.url}/api/v2/alerts?active=false&inhibited=true&silenced=false").json()

    assert sorted(told()) == [
        "GPUTemperatureHigh a:1 critical",
        "GPUTemperatureHigh a:1 warning",
        "LLMLatencyHigh b:1 warning",
        "LLMProviderDown a:1 critical",
        "LLMUserProfilesHigh a:1 critical",
        "RemediationFailing a:1 critical",
        "RemediationFailing a:1 warning",
        "TargetDown c:1 critical",
    ]
    assert sorted(f"{a['labels']['alertname']} {a['labels']['instance']}" for a in muted) == [
        "GPUTemperatureHigh a:1",
        "LLMCircuitBreakerOpen a:1",
        "LLMErrorRatioHigh a:1",
        "LLMLatencyHigh a:1",
        "LLMMemoryAboveBaseline c:1",
        "LLMProviderDown c:1",
        "LLMRetryStorm a:1",
        "LLMUserProfilesHigh a:1",
    ]
