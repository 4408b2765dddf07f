"""Alertmanager's configuration: the committed file, with the receivers that `.env` sets."""

from collections.abc import Iterator, Mapping
from email.utils import parseaddr
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

BASE = Path(__file__).parents[2] / "alertmanager" / "alertmanager.yml"
"""Routes and inhibition, with receivers for people left empty."""

_HEADER = "# Made by `make up` from alertmanager/alertmanager.yml and .env: change those. May hold a password.\n"
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_SMTP = ("LLMVITALS_SMTP_FROM", "LLMVITALS_SMTP_TO", "LLMVITALS_SMTP_USER", "LLMVITALS_SMTP_PASSWORD")


def render(settings: Mapping[str, str], *, remediation_url: str, ingest_token_file: str, base: Path = BASE) -> str:
    """The text of ``alertmanager.yml``.

    Args:
        settings: The keys of `.env`; a receiver for people exists when its keys are set.
        remediation_url: The remediation service's base URL, without a path.
        ingest_token_file: Its token, as a path that Alertmanager can read.
        base: The file to start from.

    Raises:
        ValueError: With every mistake in the settings, one a line. Passwords and webhook URLs are not repeated in it.
    """
    mistakes = [*_mistakes(settings), *_url_mistakes("remediation_url", remediation_url)]
    if urlsplit(remediation_url).path.strip("/"):
        mistakes.append("remediation_url has a path: give the service's base URL, such as http://127.0.0.1:9466")
    if not ingest_token_file:
        mistakes.append("ingest_token_file is empty: name the file that holds the ingest token")
    if mistakes:
        raise ValueError("\n".join(mistakes))

    configuration = yaml.safe_load(base.read_text(encoding="utf-8"))
    receivers = {receiver["name"]: receiver for receiver in configuration["receivers"]}
    webhook = receivers["remediation"]["webhook_configs"][0]
    webhook["url"] = f"{remediation_url.rstrip('/')}/api/v1/alerts"
    webhook["http_config"]["authorization"]["credentials_file"] = ingest_token_file
    receivers["people"].update(_people(settings))
    return _HEADER + yaml.safe_dump(configuration, sort_keys=False, allow_unicode=True, width=120)


def _people(settings: Mapping[str, str]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    # Defined here and not in the template's file, which is the same for everybody and cannot know the ports.
    addresses = (
        f'{{{{ define "llmvitals.dashboards" }}}}{_local(settings, "GRAFANA", 3000)}{{{{ end }}}}'
        f'{{{{ define "llmvitals.console" }}}}{_local(settings, "REMEDIATION", 9466)}{{{{ end }}}}'
    )
    if settings.get("LLMVITALS_SMTP_HOST"):
        found["email_configs"] = [_mail(settings, addresses)]
    if url := settings.get("LLMVITALS_SLACK_WEBHOOK_URL"):
        found["slack_configs"] = [
            {
                "api_url": url,
                "send_resolved": True,
                "title": '{{ template "llmvitals.subject" . }}',
                "text": addresses + '{{ template "llmvitals.text" . }}',
            }
        ]
    if url := settings.get("LLMVITALS_NOTIFY_WEBHOOK_URL"):
        # Alertmanager 0.25 knows no secret URLs here: it logs this one when a try fails.
        found["webhook_configs"] = [
            {"url": url, "send_resolved": True, "max_alerts": 100, "http_config": {"follow_redirects": False}}
        ]
    return found


def _mail(settings: Mapping[str, str], addresses: str) -> dict[str, Any]:
    mail: dict[str, Any] = {
        "to": settings["LLMVITALS_SMTP_TO"],
        "from": settings["LLMVITALS_SMTP_FROM"],
        "smarthost": settings["LLMVITALS_SMTP_HOST"],
        # A password goes over the wire in clear to this machine only.
        "require_tls": _host(settings["LLMVITALS_SMTP_HOST"]) not in _LOOPBACK,
        "send_resolved": True,
        "headers": {"Subject": '{{ template "llmvitals.subject" . }}'},
        "text": addresses + '{{ template "llmvitals.text" . }}',
        "html": addresses + '{{ template "llmvitals.html" . }}',
    }
    if settings.get("LLMVITALS_SMTP_USER"):
        mail["auth_username"] = settings["LLMVITALS_SMTP_USER"]
        mail["auth_password"] = settings["LLMVITALS_SMTP_PASSWORD"]
    return mail


def _mistakes(settings: Mapping[str, str]) -> Iterator[str]:
    if host := settings.get("LLMVITALS_SMTP_HOST", ""):
        name, _, port = host.rpartition(":")
        if not name or not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65_535):
            yield f"LLMVITALS_SMTP_HOST is {host!r}: give host:port, such as mail.example.org:587"
        for key in ("LLMVITALS_SMTP_FROM", "LLMVITALS_SMTP_TO"):
            if not settings.get(key):
                yield f"{key} is empty: mail needs it, because LLMVITALS_SMTP_HOST is set"
    elif unused := [key for key in _SMTP if settings.get(key)]:
        yield f"LLMVITALS_SMTP_HOST is empty, so {', '.join(unused)} would do nothing: set it, or empty them"
    yield from _address_mistakes(settings)
    if bool(settings.get("LLMVITALS_SMTP_USER")) != bool(settings.get("LLMVITALS_SMTP_PASSWORD")):
        yield "LLMVITALS_SMTP_USER and LLMVITALS_SMTP_PASSWORD go together: set both, or neither"
    for key in ("LLMVITALS_SLACK_WEBHOOK_URL", "LLMVITALS_NOTIFY_WEBHOOK_URL"):
        if url := settings.get(key):
            yield from _url_mistakes(key, url)


def _address_mistakes(settings: Mapping[str, str]) -> Iterator[str]:
    for key in ("LLMVITALS_SMTP_FROM", "LLMVITALS_SMTP_TO"):
        for address in filter(None, settings.get(key, "").split(",")):
            if "@" not in parseaddr(address)[1]:
                yield f"{key} holds {address.strip()!r}, which is no mail address: give name@example.org"


def _url_mistakes(key: str, url: str) -> Iterator[str]:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none, a bracket left open
        usable = False
    if not usable or any(c.isspace() for c in url):
        # The URL of a webhook is a secret itself.
        yield f"{key} is no URL that can be posted to: give one that starts with http:// or https:// and names a host"


def _host(address: str) -> str:
    return address.rpartition(":")[0].strip("[]").lower()


def _local(settings: Mapping[str, str], name: str, default: int) -> str:
    return f"http://127.0.0.1:{settings.get(f'LLMVITALS_{name}_PORT') or default}"
