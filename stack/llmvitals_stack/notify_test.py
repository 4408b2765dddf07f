"""`make notify-test`: one alert that is none, to everybody who is told, and whether it arrived."""

import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import requests
from prometheus_client.parser import text_string_to_metric_families

from llmvitals_stack.health import UnhealthyError
from llmvitals_stack.receivers import Receiver, configured
from llmvitals_stack.settings import Settings
from llmvitals_stack.terminal import Terminal

_PATIENCE_SECONDS = 30.0
# Alertmanager tries again and again; who refused this often is not going to take it.
_TRIES = 3
_LASTS_SECONDS = 60

# Of each try. `alertmanager_notifications_total` counts a notification before it is one.
_TOTAL = "alertmanager_notification_requests_total"
_FAILED = "alertmanager_notification_requests_failed_total"


def run(settings: Settings, terminal: Terminal, *, patience_seconds: float = _PATIENCE_SECONDS) -> int:
    """Send one of each kind that `.env` switches on; the exit code is 0 when all arrived.

    Raises:
        UnhealthyError: When nothing is switched on, or Alertmanager does not answer.
    """
    receivers = configured(settings.values)
    if not receivers:
        raise UnhealthyError(
            "Nobody is told of anything: .env switches no receiver on. Set one of those below 'Who is told' there, "
            "then `make up` and `make notify-test`."
        )
    url = settings.url("ALERTMANAGER")
    before = _counts(url)
    _post(url)
    terminal.say(f"A test alert is on its way to {', '.join(receiver.name for receiver in receivers)}.")
    with terminal.step("waiting for the answers"):
        told = _told(url, receivers, before, patience_seconds)
    terminal.table(("", "", ""), [(receiver.name, *told[receiver.integration]) for receiver in receivers])
    bad = [receiver.name for receiver in receivers if told[receiver.integration][0] != "delivered"]
    if bad:
        terminal.say("Why is in Alertmanager's log: [bold]make logs PROGRAM=alertmanager[/].")
    return int(bool(bad))


def _told(
    url: str, receivers: list[Receiver], before: Mapping[tuple[str, str], float], patience_seconds: float
) -> dict[str, tuple[str, str]]:
    deadline = time.monotonic() + patience_seconds
    while True:
        now = _counts(url)
        told, decided = {}, True
        for receiver in receivers:
            tried, failed = (
                now.get((name, receiver.integration), 0.0) - before.get((name, receiver.integration), 0.0)
                for name in (_TOTAL, _FAILED)
            )
            if tried > failed:
                told[receiver.integration] = ("delivered", "")
                continue
            decided = decided and failed >= _TRIES
            told[receiver.integration] = (
                ("failed", f"see {receiver.keys[0]}")
                if failed
                else ("not sent", "Alertmanager may not have read .env's change yet: make up")
            )
        if decided or time.monotonic() > deadline:
            return told
        time.sleep(0.2)


def _counts(url: str) -> dict[tuple[str, str], float]:
    """Notifications tried and failed since Alertmanager's start, by metric and integration."""
    found: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(_ask("GET", f"{url}/metrics")):
        for sample in family.samples:
            if sample.name in (_TOTAL, _FAILED):
                key = sample.name, sample.labels["integration"]
                # Newer versions tell failures by reason, and both by receiver, too.
                found[key] = found.get(key, 0.0) + sample.value
    return found


def _post(url: str) -> None:
    now = datetime.now(UTC)
    alert = {
        "labels": {
            "alertname": "NotificationTest",
            "severity": "info",
            "component": "stack",
            "job": "notify-test",
            # A group of its own: a test is told again however soon it is repeated.
            "run": secrets.token_hex(4),
        },
        "annotations": {
            "summary": "This is a test: nothing is wrong.",
            "description": "Somebody typed `make notify-test` to see whether notifications arrive. They do.",
            "runbook_url": "/runbooks/",
            "dashboard_url": "/d/llmvitals-overview",
        },
        "startsAt": now.isoformat(),
        "endsAt": (now + timedelta(seconds=_LASTS_SECONDS)).isoformat(),
    }
    _ask("POST", f"{url}/api/v2/alerts", [alert])


def _ask(method: str, url: str, body: object = None) -> str:
    try:
        answer = requests.request(method, url, json=body, timeout=5)
        answer.raise_for_status()
    except requests.RequestException as error:
        raise UnhealthyError(
            f"Alertmanager does not answer at {url}: {error}. Is the stack up? Type: make up"
        ) from None
    return answer.text
