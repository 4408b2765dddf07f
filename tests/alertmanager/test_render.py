"""What `.env` sets becomes a receiver; what it sets wrongly is told, all of it."""

import subprocess

import pytest
import yaml

from llmvitals_stack import compose
from llmvitals_stack.alertmanager import BASE, render
from llmvitals_stack.receivers import RECEIVERS

MAIL = {
    "LLMVITALS_SMTP_HOST": "mail.example.org:587",
    "LLMVITALS_SMTP_FROM": "llmvitals@example.org",
    "LLMVITALS_SMTP_TO": "on-call@example.org, second@example.org",
}
TELEGRAM = {"LLMVITALS_TELEGRAM_BOT_TOKEN": "123456:secret", "LLMVITALS_TELEGRAM_CHAT_ID": "-100123"}
REMEDIATION = {"remediation_url": "http://127.0.0.1:9466", "ingest_token_file": "/run/secrets/ingest_token"}


def rendered(settings):
    return yaml.safe_load(render(settings, **REMEDIATION))


def receiver(configuration, name):
    return next(found for found in configuration["receivers"] if found["name"] == name)


def test_without_settings_nobody_but_remediation_is_told():
    """No mail or chat until a person sets one; empty means not set."""
    configuration = rendered({"LLMVITALS_SMTP_HOST": "", "LLMVITALS_SLACK_WEBHOOK_URL": ""})

    assert receiver(configuration, "people") == {"name": "people"}
    assert receiver(configuration, "remediation")["webhook_configs"] == [
        {
            "url": "http://127.0.0.1:9466/api/v1/alerts",
            "send_resolved": True,
            "max_alerts": 1000,
            "http_config": {
                "authorization": {"type": "Bearer", "credentials_file": "/run/secrets/ingest_token"},
                "follow_redirects": False,
            },
        }
    ]


def test_routes_and_inhibition_are_those_of_the_base():
    """Rendering fills receivers and touches nothing else."""
    base = yaml.safe_load(BASE.read_text(encoding="utf-8"))
    configuration = rendered(MAIL)

    assert configuration["route"] == base["route"]
    assert configuration["inhibit_rules"] == base["inhibit_rules"]


def test_each_kind_of_receiver_exists_when_it_is_set():
    """Mail, Slack and a webhook can be had together."""
    people = receiver(
        rendered(
            {
                **MAIL,
                "LLMVITALS_SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/T/B/x",
                "LLMVITALS_NOTIFY_WEBHOOK_URL": "http://127.0.0.1:5001/alerts",
            }
        ),
        "people",
    )

    assert people["email_configs"][0]["to"] == MAIL["LLMVITALS_SMTP_TO"]
    assert people["slack_configs"][0]["api_url"] == "https://hooks.slack.com/services/T/B/x"
    assert people["webhook_configs"][0]["url"] == "http://127.0.0.1:5001/alerts"
    assert all(kind[0]["send_resolved"] for name, kind in people.items() if name != "name")


@pytest.mark.parametrize(
    ("host", "tls"),
    [("mail.example.org:587", True), ("127.0.0.1:25", False), ("localhost:25", False), ("[::1]:25", False)],
)
def test_mail_is_encrypted_unless_it_stays_on_this_machine(host, tls):
    """A password never crosses a network in clear."""
    people = receiver(rendered({**MAIL, "LLMVITALS_SMTP_HOST": host}), "people")

    assert people["email_configs"][0]["require_tls"] is tls


def test_links_lead_to_the_ports_that_were_set():
    """A mail's links open what runs on this machine."""
    people = receiver(
        rendered({**MAIL, "LLMVITALS_GRAFANA_PORT": "3300", "LLMVITALS_REMEDIATION_PORT": "9999"}), "people"
    )

    assert "http://127.0.0.1:3300" in people["email_configs"][0]["html"]
    assert "http://127.0.0.1:9999" in people["email_configs"][0]["text"]


@pytest.mark.parametrize(
    ("settings", "mistake"),
    [
        (
            {**MAIL, "LLMVITALS_SMTP_HOST": "mail.example.org"},
            "LLMVITALS_SMTP_HOST is 'mail.example.org': give host:port",
        ),
        ({**MAIL, "LLMVITALS_SMTP_HOST": "mail:99999"}, "LLMVITALS_SMTP_HOST is 'mail:99999': give host:port"),
        ({**MAIL, "LLMVITALS_SMTP_TO": ""}, "LLMVITALS_SMTP_TO is empty: mail needs it"),
        ({**MAIL, "LLMVITALS_SMTP_FROM": "nobody"}, "LLMVITALS_SMTP_FROM holds 'nobody', which is no mail address"),
        ({**MAIL, "LLMVITALS_SMTP_TO": "a@b.c, d"}, "LLMVITALS_SMTP_TO holds 'd', which is no mail address"),
        ({"LLMVITALS_SMTP_TO": "a@b.c"}, "LLMVITALS_SMTP_HOST is empty, so LLMVITALS_SMTP_TO would do nothing"),
        ({**MAIL, "LLMVITALS_SMTP_USER": "me"}, "LLMVITALS_SMTP_USER and LLMVITALS_SMTP_PASSWORD go together"),
        ({"LLMVITALS_SLACK_WEBHOOK_URL": "hooks.slack.com/T"}, "LLMVITALS_SLACK_WEBHOOK_URL is no URL"),
        ({"LLMVITALS_NOTIFY_WEBHOOK_URL": "http://127.0.0.1:eighty/"}, "LLMVITALS_NOTIFY_WEBHOOK_URL is no URL"),
        ({"LLMVITALS_NOTIFY_WEBHOOK_URL": "ftp://host/x"}, "LLMVITALS_NOTIFY_WEBHOOK_URL is no URL"),
        ({"LLMVITALS_DISCORD_WEBHOOK_URL": "discord"}, "LLMVITALS_DISCORD_WEBHOOK_URL is no URL"),
        ({**TELEGRAM, "LLMVITALS_TELEGRAM_BOT_TOKEN": "token"}, "LLMVITALS_TELEGRAM_BOT_TOKEN is no token of a bot"),
        ({**TELEGRAM, "LLMVITALS_TELEGRAM_CHAT_ID": "@me"}, "LLMVITALS_TELEGRAM_CHAT_ID is not a chat's number"),
        ({"LLMVITALS_TELEGRAM_CHAT_ID": "1"}, "LLMVITALS_TELEGRAM_BOT_TOKEN is empty, so LLMVITALS_TELEGRAM_CHAT_ID"),
        ({"LLMVITALS_PAGERDUTY_ROUTING_KEY": "a b"}, "LLMVITALS_PAGERDUTY_ROUTING_KEY has a blank in it"),
        ({"LLMVITALS_OPSGENIE_API_KEY": "a\x07b"}, "LLMVITALS_OPSGENIE_API_KEY holds a character"),
        (
            {"LLMVITALS_OPSGENIE_API_KEY": "k", "LLMVITALS_OPSGENIE_API_URL": "eu"},
            "LLMVITALS_OPSGENIE_API_URL is no URL",
        ),
        (
            {"LLMVITALS_TEAMS_WEBHOOK_URL": "https://host/x"},
            "LLMVITALS_TEAMS_WEBHOOK_URL needs Alertmanager 0.28 or newer; here is 0.25",
        ),
    ],
)
def test_a_mistake_is_told_with_its_key_and_what_to_do(settings, mistake):
    """One mistake, one line."""
    with pytest.raises(ValueError, match="LLMVITALS") as raised:
        render(settings, **REMEDIATION)

    assert [line.startswith(mistake) for line in str(raised.value).splitlines()] == [True]


def test_all_mistakes_are_told_at_once_and_no_secret_with_them():
    """Nobody mends a file line by line, and a log may keep the message."""
    settings = {
        "LLMVITALS_SMTP_HOST": "mail",
        "LLMVITALS_SMTP_PASSWORD": "hunter2-password",
        "LLMVITALS_SLACK_WEBHOOK_URL": "slack/T000/secret-path",
        "LLMVITALS_NOTIFY_WEBHOOK_URL": "nowhere/secret-path",
    }

    with pytest.raises(ValueError, match="LLMVITALS") as raised:
        render(settings, remediation_url="http://127.0.0.1:9466/api/v1/alerts", ingest_token_file="")

    message = str(raised.value)
    assert len(message.splitlines()) == 8
    assert "hunter2" not in message
    assert "secret-path" not in message


def test_odd_characters_in_a_password_survive():
    """Quotes, colons, braces and hashes reach the mail server as they were typed."""
    password = """p"a's: {{ #x\\ %y"""

    people = receiver(rendered({**MAIL, "LLMVITALS_SMTP_USER": "me", "LLMVITALS_SMTP_PASSWORD": password}), "people")

    assert people["email_configs"][0]["auth_password"] == password


def test_alertmanager_takes_the_base_and_what_is_rendered(tmp_path):
    """`amtool check-config`, templates included."""
    everything = tmp_path / "alertmanager.yml"
    (tmp_path / "templates").symlink_to(BASE.parent / "templates")
    settings = {
        **MAIL,
        "LLMVITALS_SMTP_USER": "me",
        "LLMVITALS_SMTP_PASSWORD": "secret",
        "LLMVITALS_SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/T/B/x",
        "LLMVITALS_NOTIFY_WEBHOOK_URL": "http://127.0.0.1:5001/alerts",
    }
    everything.write_text(render(settings, **REMEDIATION), encoding="utf-8")

    for path in (BASE, everything):
        finished = subprocess.run(["amtool", "check-config", path], capture_output=True, text=True, check=False)
        assert finished.returncode == 0, finished.stderr


def test_teams_can_be_had_from_the_version_on_that_has_it():
    """What an old Alertmanager would refuse to start with is refused before."""
    settings = {"LLMVITALS_TEAMS_WEBHOOK_URL": "https://example.org/workflow"}
    people = receiver(yaml.safe_load(render(settings, **REMEDIATION, version=(0, 28))), "people")

    assert people["msteamsv2_configs"][0]["webhook_url"] == "https://example.org/workflow"


def test_the_version_that_compose_pins_is_known():
    """The receivers that Compose offers are those of the Alertmanager that it starts."""
    services = yaml.safe_load((BASE.parents[1] / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    major, minor = compose._ALERTMANAGER

    assert services["alertmanager"]["image"].startswith(f"prom/alertmanager:v{major}.{minor}.")


def test_every_key_of_a_receiver_is_in_the_example():
    """`.env.example` lists what can be set."""
    example = (BASE.parents[1] / ".env.example").read_text(encoding="utf-8").splitlines()

    assert [] == [key for known in RECEIVERS for key in known.keys if f"{key}=" not in example]
