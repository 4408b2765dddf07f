"""Alertmanager's configuration: the committed file, with the receivers that `.env` sets."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from llmvitals_stack.receivers import RECEIVERS, configured, url_mistakes

BASE = Path(__file__).parents[2] / "alertmanager" / "alertmanager.yml"
"""Routes and inhibition, with receivers for people left empty."""

_HEADER = "# Made by `make up` from alertmanager/alertmanager.yml and .env: change those. May hold a password.\n"
OLDEST = (0, 25)
"""The version that is assumed where none can be asked: the oldest that the base file is written for."""


def render(
    settings: Mapping[str, str],
    *,
    remediation_url: str,
    ingest_token_file: str,
    version: tuple[int, int] = OLDEST,
    base: Path = BASE,
) -> str:
    """The text of ``alertmanager.yml``.

    Args:
        settings: The keys of `.env`; a receiver for people exists when its keys are set.
        remediation_url: The remediation service's base URL, without a path.
        ingest_token_file: Its token, as a path that Alertmanager can read.
        version: Alertmanager's, of which some receivers need a newer one.
        base: The file to start from.

    Raises:
        ValueError: With every mistake in the settings, one a line. Passwords and webhook URLs are not repeated in it.
    """
    mistakes = [*_mistakes(settings, version), *url_mistakes("remediation_url", remediation_url)]
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
    # Defined here and not in the template's file, which is the same for everybody and cannot know the ports.
    addresses = (
        f'{{{{ define "llmvitals.dashboards" }}}}{_local(settings, "GRAFANA", 3000)}{{{{ end }}}}'
        f'{{{{ define "llmvitals.console" }}}}{_local(settings, "REMEDIATION", 9466)}{{{{ end }}}}'
    )
    return {
        f"{receiver.section}_configs": [{**receiver.configure(settings, addresses), "send_resolved": True}]
        for receiver in configured(settings)
    }


def _mistakes(settings: Mapping[str, str], version: tuple[int, int]) -> Iterator[str]:
    for receiver in RECEIVERS:
        yield from receiver.problems(settings)
        if receiver.is_on(settings) and version < receiver.since:
            here, needed = (".".join(map(str, each)) for each in (version, receiver.since))
            yield f"{receiver.keys[0]} needs Alertmanager {needed} or newer; here is {here}"


def _local(settings: Mapping[str, str], name: str, default: int) -> str:
    return f"http://127.0.0.1:{settings.get(f'LLMVITALS_{name}_PORT') or default}"
