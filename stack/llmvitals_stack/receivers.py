"""How people can be told: what each way needs of `.env`, and what Alertmanager needs of it.

Everything here is understood by Alertmanager 0.25 and 0.34, but for Teams, which 0.25 does not know.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parseaddr
from typing import Any
from urllib.parse import urlsplit

Values = Mapping[str, str]
"""The keys of `.env`."""

SUBJECT = '{{ template "llmvitals.subject" . }}'
# Of a group's first alert: what shows one link can lead to one incident.
_INCIDENT = '{{ template "llmvitals.incident" (index .Alerts 0) }}'
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class Receiver:
    """One way to tell people.

    Attributes:
        integration: As Alertmanager's own metrics call it.
        name: As a person calls it.
        keys: Those of `.env`; the first switches it on.
        configure: Makes the entry below ``<section>_configs`` of the settings and of the templates' addresses.
        mistakes: What is wrong with the settings when it is on, each a sentence that names its key and no secret.
        since: The first version of Alertmanager that has it.
    """

    integration: str
    section: str
    name: str
    keys: tuple[str, ...]
    configure: Callable[[Values, str], dict[str, Any]]
    mistakes: Callable[[Values], Iterator[str]]
    since: tuple[int, int] = (0, 25)

    def is_on(self, settings: Values) -> bool:
        return bool(settings.get(self.keys[0]))

    def problems(self, settings: Values) -> Iterator[str]:
        """What is wrong with its settings, on or off."""
        if self.is_on(settings):
            for key in self.keys:
                if any(not character.isprintable() for character in settings.get(key, "")):
                    yield f"{key} holds a character that cannot be printed"
            yield from self.mistakes(settings)
        elif unused := [key for key in self.keys if settings.get(key)]:
            yield f"{self.keys[0]} is empty, so {', '.join(unused)} would do nothing: set it, or empty them"


def configured(settings: Values) -> list[Receiver]:
    """The receivers that `.env` switches on."""
    return [receiver for receiver in RECEIVERS if receiver.is_on(settings)]


# --- Mail -------------------------------------------------------------------------------------------------------------


def _mail(settings: Values, addresses: str) -> dict[str, Any]:
    host = settings["LLMVITALS_SMTP_HOST"].rpartition(":")[0].strip("[]").lower()
    mail: dict[str, Any] = {
        "to": settings["LLMVITALS_SMTP_TO"],
        "from": settings["LLMVITALS_SMTP_FROM"],
        "smarthost": settings["LLMVITALS_SMTP_HOST"],
        # A password goes over the wire in clear to this machine only.
        "require_tls": host not in _LOOPBACK,
        "headers": {"Subject": SUBJECT},
        "text": addresses + '{{ template "llmvitals.text" . }}',
        "html": addresses + '{{ template "llmvitals.html" . }}',
    }
    if settings.get("LLMVITALS_SMTP_USER"):
        mail["auth_username"] = settings["LLMVITALS_SMTP_USER"]
        mail["auth_password"] = settings["LLMVITALS_SMTP_PASSWORD"]
    return mail


def _mail_mistakes(settings: Values) -> Iterator[str]:
    host = settings["LLMVITALS_SMTP_HOST"]
    name, _, port = host.rpartition(":")
    if not name or not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65_535):
        yield f"LLMVITALS_SMTP_HOST is {host!r}: give host:port, such as mail.example.org:587"
    for key in ("LLMVITALS_SMTP_FROM", "LLMVITALS_SMTP_TO"):
        if not settings.get(key):
            yield f"{key} is empty: mail needs it, because LLMVITALS_SMTP_HOST is set"
        for address in filter(None, settings.get(key, "").split(",")):
            if "@" not in parseaddr(address)[1]:
                yield f"{key} holds {address.strip()!r}, which is no mail address: give name@example.org"
    if bool(settings.get("LLMVITALS_SMTP_USER")) != bool(settings.get("LLMVITALS_SMTP_PASSWORD")):
        yield "LLMVITALS_SMTP_USER and LLMVITALS_SMTP_PASSWORD go together: set both, or neither"


# --- Chat -------------------------------------------------------------------------------------------------------------


def _slack(settings: Values, addresses: str) -> dict[str, Any]:
    url = settings["LLMVITALS_SLACK_WEBHOOK_URL"]
    return {"api_url": url, "title": SUBJECT, "text": addresses + '{{ template "llmvitals.chat" . }}'}


def _discord(settings: Values, addresses: str) -> dict[str, Any]:
    url = settings["LLMVITALS_DISCORD_WEBHOOK_URL"]
    return {"webhook_url": url, "title": SUBJECT, "message": addresses + '{{ template "llmvitals.chat" . }}'}


def _telegram(settings: Values, addresses: str) -> dict[str, Any]:
    return {
        "bot_token": settings["LLMVITALS_TELEGRAM_BOT_TOKEN"],
        "chat_id": int(settings["LLMVITALS_TELEGRAM_CHAT_ID"]),
        # Plain text: a value of an alert's own must not be taken for markup, which Telegram would refuse.
        "parse_mode": "",
        "message": addresses + SUBJECT + '\n{{ template "llmvitals.chat" . }}',
    }


def _telegram_mistakes(settings: Values) -> Iterator[str]:
    number, _, rest = settings["LLMVITALS_TELEGRAM_BOT_TOKEN"].partition(":")
    if not (number.isascii() and number.isdigit() and rest):
        yield "LLMVITALS_TELEGRAM_BOT_TOKEN is no token of a bot: BotFather gives one like 123456:ABC..."
    try:
        chat = int(settings.get("LLMVITALS_TELEGRAM_CHAT_ID", ""))
    except ValueError:
        chat = 0
    if not chat:
        yield "LLMVITALS_TELEGRAM_CHAT_ID is not a chat's number, such as -1001234567890: Telegram needs it"


def _teams(settings: Values, addresses: str) -> dict[str, Any]:
    url = settings["LLMVITALS_TEAMS_WEBHOOK_URL"]
    return {"webhook_url": url, "title": SUBJECT, "text": addresses + '{{ template "llmvitals.chat" . }}'}


# --- On call ----------------------------------------------------------------------------------------------------------


def _pagerduty(settings: Values, addresses: str) -> dict[str, Any]:
    severity = '{{ with .CommonLabels.severity }}{{ if match "^(critical|info)$" . }}{{ . }}{{ else }}warning{{ end }}'
    return {
        "routing_key": settings["LLMVITALS_PAGERDUTY_ROUTING_KEY"],
        "description": SUBJECT,
        "severity": severity + "{{ else }}warning{{ end }}",
        "client": "llmvitals",
        "client_url": addresses + '{{ template "llmvitals.console" . }}/',
        "component": "{{ .CommonLabels.component }}",
        "group": "{{ .GroupLabels.job }}",
        "details": {"alerts": addresses + '{{ template "llmvitals.text" . }}'},
        "links": [
            {"href": addresses + _INCIDENT, "text": "Incident"},
            *(
                {"href": addresses + f'{{{{ template "llmvitals.{name.lower()}" .CommonAnnotations }}}}', "text": name}
                for name in ("Runbook", "Dashboard")
            ),
        ],
    }


def _opsgenie(settings: Values, addresses: str) -> dict[str, Any]:
    priority = (
        '{{ if eq .CommonLabels.severity "critical" }}P1{{ else if eq .CommonLabels.severity "info" }}P5{{ else }}P3'
    )
    opsgenie = {
        "api_key": settings["LLMVITALS_OPSGENIE_API_KEY"],
        "message": SUBJECT,
        "description": addresses + '{{ template "llmvitals.text" . }}',
        "priority": priority + "{{ end }}",
        "source": "llmvitals",
        "entity": "{{ .GroupLabels.job }}",
        "tags": "llmvitals,{{ .CommonLabels.component }}",
        "details": {
            "incident": addresses + _INCIDENT,
            "runbook": addresses + '{{ template "llmvitals.runbook" .CommonAnnotations }}',
        },
    }
    if url := settings.get("LLMVITALS_OPSGENIE_API_URL"):
        opsgenie["api_url"] = url if url.endswith("/") else f"{url}/"
    return opsgenie


def _key_mistakes(key: str) -> Callable[[Values], Iterator[str]]:
    def mistakes(settings: Values) -> Iterator[str]:
        if any(character.isspace() for character in settings[key]):
            yield f"{key} has a blank in it, which no key has"

    return mistakes


def _opsgenie_mistakes(settings: Values) -> Iterator[str]:
    yield from _key_mistakes("LLMVITALS_OPSGENIE_API_KEY")(settings)
    if settings.get("LLMVITALS_OPSGENIE_API_URL"):
        yield from url_mistakes("LLMVITALS_OPSGENIE_API_URL", settings["LLMVITALS_OPSGENIE_API_URL"])


# --- Any other --------------------------------------------------------------------------------------------------------


def _webhook(settings: Values, _: str) -> dict[str, Any]:
    # Alertmanager 0.25 knows no secret URLs here: it logs this one when a try fails.
    return {
        "url": settings["LLMVITALS_NOTIFY_WEBHOOK_URL"],
        "max_alerts": 100,
        "http_config": {"follow_redirects": False},
    }


def url_mistakes(key: str, url: str) -> Iterator[str]:
    """What keeps *url* from being posted to."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none, a bracket left open
        usable = False
    if not usable or any(character.isspace() for character in url):
        # The URL of a webhook is a secret itself.
        yield f"{key} is no URL that can be posted to: give one that starts with http:// or https:// and names a host"


def _url(key: str) -> Callable[[Values], Iterator[str]]:
    return lambda settings: url_mistakes(key, settings[key])


_SMTP = ("HOST", "FROM", "TO", "USER", "PASSWORD")
_TELEGRAM = ("LLMVITALS_TELEGRAM_BOT_TOKEN", "LLMVITALS_TELEGRAM_CHAT_ID")
_PAGERDUTY = "LLMVITALS_PAGERDUTY_ROUTING_KEY"
_OPSGENIE = ("LLMVITALS_OPSGENIE_API_KEY", "LLMVITALS_OPSGENIE_API_URL")


def _by_url(integration: str, name: str, key: str, configure: Callable[[Values, str], dict[str, Any]]) -> Receiver:
    return Receiver(integration, integration, name, (key,), configure, _url(key))


RECEIVERS: tuple[Receiver, ...] = (
    Receiver("email", "email", "mail", tuple(f"LLMVITALS_SMTP_{key}" for key in _SMTP), _mail, _mail_mistakes),
    _by_url("slack", "Slack", "LLMVITALS_SLACK_WEBHOOK_URL", _slack),
    _by_url("discord", "Discord", "LLMVITALS_DISCORD_WEBHOOK_URL", _discord),
    Receiver("telegram", "telegram", "Telegram", _TELEGRAM, _telegram, _telegram_mistakes),
    Receiver(
        "msteamsv2",
        "msteamsv2",
        "Teams",
        ("LLMVITALS_TEAMS_WEBHOOK_URL",),
        _teams,
        _url("LLMVITALS_TEAMS_WEBHOOK_URL"),
        since=(0, 28),
    ),
    Receiver("pagerduty", "pagerduty", "PagerDuty", (_PAGERDUTY,), _pagerduty, _key_mistakes(_PAGERDUTY)),
    Receiver("opsgenie", "opsgenie", "Opsgenie", _OPSGENIE, _opsgenie, _opsgenie_mistakes),
    _by_url("webhook", "webhook", "LLMVITALS_NOTIFY_WEBHOOK_URL", _webhook),
)
