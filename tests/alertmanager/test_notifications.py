"""A real Alertmanager with a rendered file: who gets what, what they read, and what mutes what."""

import contextlib
import re
import shutil
from collections import Counter
from datetime import UTC, datetime

import pytest
import yaml
from tests.alertmanager.sinks import http_sink, smtp_sink
from tests.servers import eventually, free_port, program, request, server

from llmvitals_remediation.inbox import alertmanagers_fingerprint
from llmvitals_stack import notify_test
from llmvitals_stack.alertmanager import BASE, render
from llmvitals_stack.health import UnhealthyError
from llmvitals_stack.settings import Settings
from llmvitals_stack.terminal import Terminal

pytestmark = pytest.mark.stack

PASSWORD = "correct-horse-battery"
TOKEN = "ingest-token-of-this-test"
MAIL = {
    "LLMVITALS_SMTP_FROM": "llmvitals@example.org",
    "LLMVITALS_SMTP_TO": "on-call@example.org",
    "LLMVITALS_SMTP_USER": "mailer",
    "LLMVITALS_SMTP_PASSWORD": PASSWORD,
}
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
    "runbook_url": "/runbooks/LLMLatencyHigh",
    "dashboard_url": "/d/llmvitals-overview?var-job=companion",
}

# As the console knows it, and as Alertmanager writes it.
INCIDENT = f"http://127.0.0.1:9466/alerts/{alertmanagers_fingerprint(SLOW)}"
RUNBOOK = "http://127.0.0.1:9466/runbooks/LLMLatencyHigh"


@contextlib.contextmanager
def alertmanager(folder, settings, sink, change=lambda *_: None):
    """Alertmanager that logs everything; people are told as quickly as remediation."""
    token_file = folder / "ingest_token"
    token_file.write_text(TOKEN, encoding="utf-8")
    configuration = yaml.safe_load(render(settings, remediation_url=sink.url, ingest_token_file=str(token_file)))
    change(configuration, sink)
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
            "LLMVITALS_REMEDIATION_PORT": "9467",
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
        f"Remediation was told, and may act on it: {INCIDENT.replace('9466', '9467')}",
        "Dashboard: http://127.0.0.1:3300/d/llmvitals-overview?var-job=companion",
        "Runbook:   http://127.0.0.1:9467/runbooks/LLMLatencyHigh",
    ):
        assert part in text
    assert "4.1s &lt;b&gt; above" in page
    assert f'<a href="{INCIDENT.replace("9466", "9467")}">incident</a>' in page
    assert 'href="http://127.0.0.1:3300/d/llmvitals-overview?var-job=companion"' in page
    assert '<a href="http://127.0.0.1:9467/runbooks/LLMLatencyHigh">runbook of LLMLatencyHigh</a>' in page
    assert posts["/api/v1/alerts"].authorization == f"Bearer {TOKEN}"
    assert posts["/api/v1/alerts"].body["version"] == "4"
    assert posts["/hooks/people"].body["alerts"][0]["labels"] == SLOW
    assert posts["/services/T0/B0/slack-secret"].body["attachments"][0]["title"] == mail["Subject"]
    assert "/d/llmvitals-overview" in posts["/services/T0/B0/slack-secret"].body["attachments"][0]["text"]
    # A plain webhook's URL is no secret to Alertmanager 0.25: it logs it when a try fails.
    for secret in (PASSWORD, TOKEN, "slack-secret"):
        assert secret not in log
        assert secret not in status


CHATS = {
    "LLMVITALS_SLACK_WEBHOOK_URL": "/slack",
    "LLMVITALS_DISCORD_WEBHOOK_URL": "/discord",
    "LLMVITALS_NOTIFY_WEBHOOK_URL": "/people",
}
SECRETS = {
    "LLMVITALS_TELEGRAM_BOT_TOKEN": "123456:telegram-secret",
    "LLMVITALS_TELEGRAM_CHAT_ID": "-100123",
    "LLMVITALS_PAGERDUTY_ROUTING_KEY": "pagerduty-secret",
    "LLMVITALS_OPSGENIE_API_KEY": "opsgenie-secret",
}


def everybody(sink):
    """Every way to tell people, all of them to *sink*, but for Teams, which this Alertmanager does not know."""
    by_url = {key: f"{sink.url}{path}" for key, path in CHATS.items()}
    return {**by_url, **SECRETS, "LLMVITALS_OPSGENIE_API_URL": sink.url}


def to_sink(configuration, sink):
    """Services whose addresses `.env` does not say are looked for at *sink*, too."""
    people = next(receiver for receiver in configuration["receivers"] if receiver["name"] == "people")
    people["telegram_configs"][0]["api_url"] = sink.url
    people["pagerduty_configs"][0]["url"] = f"{sink.url}/pagerduty"


def test_chats_and_on_call_services_get_what_they_can_show(tmp_path):
    """Each gets the subject, what is wrong, where, since when, what is done, and the links; no secret is in the log."""
    with http_sink() as sink, alertmanager(tmp_path, everybody(sink), sink, change=to_sink) as started:
        fire(started.url, (SLOW, SLOW_TEXT))
        eventually(lambda: len({d.path for d in sink.deliveries}) == 7, what="all seven posts")
        log = started.log.read_text(encoding="utf-8")

    posts = {delivery.path: delivery for delivery in sink.deliveries}
    telegram = posts["/bot123456:telegram-secret/sendMessage"].body
    opsgenie = posts["/v2/alerts"]
    pagerduty = posts["/pagerduty"].body
    discord = posts["/discord"].body["embeds"][0]
    subject = "[FIRING 1] LLMLatencyHigh on companion"
    assert [subject, subject, subject] == [discord["title"], opsgenie.body["message"], pagerduty["payload"]["summary"]]
    assert telegram["chat_id"] == "-100123"
    assert telegram["text"].startswith(subject)
    for text in (
        posts["/slack"].body["attachments"][0]["text"],
        discord["description"],
        telegram["text"],
        opsgenie.body["description"],
        pagerduty["payload"]["custom_details"]["alerts"],
    ):
        for part in (
            "An operation is slower than its target.",
            "the 95th percentile is 4.1s <b> above the target.",
            "instance=127.0.0.1:9464 job=companion operation=talker",
            f"Remediation was told, and may act on it: {INCIDENT}",
            "http://127.0.0.1:3000/d/llmvitals-overview?var-job=companion",
            RUNBOOK,
        ):
            assert part in text
    assert ("warning", "llm", "companion") == tuple(
        pagerduty["payload"][key] for key in ("severity", "component", "group")
    )
    assert ("trigger", "pagerduty-secret") == (pagerduty["event_action"], pagerduty["routing_key"])
    assert {
        "Incident": INCIDENT,
        "Runbook": RUNBOOK,
        "Dashboard": f"http://127.0.0.1:3000{SLOW_TEXT['dashboard_url']}",
    } == {link["text"]: link["href"] for link in pagerduty["links"]}
    assert [INCIDENT, RUNBOOK] == [opsgenie.body["details"][key] for key in ("incident", "runbook")]
    assert ("P3", ["llmvitals", "llm"]) == (opsgenie.body["priority"], opsgenie.body["tags"])
    assert opsgenie.authorization == "GenieKey opsgenie-secret"
    for secret in ("telegram-secret", "pagerduty-secret", "opsgenie-secret"):
        assert secret not in log


def test_a_chat_is_told_of_ten_at_most(tmp_path):
    """More than ten alerts of one group do not make a message that a chat refuses: the rest is counted."""
    with http_sink() as sink, alertmanager(tmp_path, everybody(sink), sink, change=to_sink) as started:
        many = [({**SLOW, "operation": f"op{number:02}"}, SLOW_TEXT) for number in range(40)]
        for alert in many:
            alert[0].pop("instance")
        # Of somebody else's rule, which has an address of its own.
        many[0] = (many[0][0], {**SLOW_TEXT, "runbook_url": "https://example.org/runbook"})
        fire(started.url, *many)
        eventually(lambda: [d for d in sink.deliveries if d.path == "/discord"], what="the chat's post")
        (post,) = [d for d in sink.deliveries if d.path == "/discord"][:1]

    text = post.body["embeds"][0]["description"]
    assert 10 == text.count("since ")
    assert "and more, 40 in all: " in text
    assert [1, 9] == [text.count(f"Runbook: {url}\n") for url in ("https://example.org/runbook", RUNBOOK)]


def test_notify_test_says_who_was_reached(tmp_path, monkeypatch, capsys):
    """`make notify-test` sends one of each kind that is set, and says which did not arrive."""
    settings = {**MAIL, "LLMVITALS_NOTIFY_WEBHOOK_URL": "http://127.0.0.1:1/nobody-listens"}
    with http_sink() as sink, smtp_sink(free_port()) as mailbox:
        settings["LLMVITALS_SMTP_HOST"] = mailbox.address
        with alertmanager(tmp_path, settings, sink) as started:
            place = Settings(tmp_path, {**settings, "LLMVITALS_ALERTMANAGER_PORT": str(started.port)})
            code = notify_test.run(place, Terminal(), patience_seconds=6)
            mails = len(mailbox.mails)
    told = capsys.readouterr().out

    assert (1, 1) == (code, mails)
    assert mailbox.mails[0][1]["Subject"] == "[FIRING 1] NotificationTest on notify-test"
    text = mailbox.mails[0][1].get_body("plain").get_content()
    assert "  Runbook:   http://127.0.0.1:9466/runbooks/" in text.splitlines()
    assert "  Action:    Nothing acts on this alert by itself. Incidents: http://127.0.0.1:9466/" in text.splitlines()
    assert re.search(r"mail +delivered", told)
    assert re.search(r"webhook +failed +see LLMVITALS_NOTIFY_WEBHOOK_URL", told)


def test_notify_test_without_anybody_to_tell(tmp_path):
    """Without a receiver the person is told where to set one."""
    with pytest.raises(UnhealthyError, match="Nobody is told of anything"):
        notify_test.run(Settings(tmp_path, {}), Terminal())


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
    assert f"What remediation did about it: {INCIDENT}" in mail.get_body("plain").get_content()
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
