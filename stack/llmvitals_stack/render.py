"""What `make up` writes under `.run/`: nothing there is a source, all of it can be deleted."""

import shutil
from pathlib import Path

import yaml

from llmvitals_stack import alertmanager
from llmvitals_stack.settings import Settings, SettingsError, write_private


def secret_files(settings: Settings) -> None:
    """Each token as a file, for programs that must not have it on their command line."""
    folder = settings.run / "secrets"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in ("admin", "ingest", "agent"):
        write_private(settings.secret_file(name), settings[f"LLMVITALS_{name.upper()}_TOKEN"])
    write_private(folder / "grafana_admin_password", settings["LLMVITALS_GRAFANA_ADMIN_PASSWORD"])


def alertmanager_file(settings: Settings, *, remediation_url: str, ingest_token_file: str) -> Path:
    """Alertmanager's file: it expands no variables, so its receivers are filled in here.

    Raises:
        SettingsError: With every receiver's mistake.
    """
    folder = settings.run / "alertmanager"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        text = alertmanager.render(
            settings.values, remediation_url=remediation_url, ingest_token_file=ingest_token_file
        )
    except ValueError as error:
        raise SettingsError(settings.root / ".env", str(error).splitlines()) from None
    shutil.copytree(settings.root / "alertmanager" / "templates", folder / "templates", dirs_exist_ok=True)
    # It may hold a password for mail.
    write_private(folder / "alertmanager.yml", text)
    return folder / "alertmanager.yml"


def prometheus_folder(settings: Settings) -> None:
    """Prometheus's configuration and rules as committed, with this machine's targets beside them."""
    source, folder = settings.root / "prometheus", settings.run / "prometheus"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("targets", "tests"))
    for job, targets in _targets(settings).items():
        path = folder / "targets" / job / "native.yml"
        path.parent.mkdir(parents=True)
        path.write_text(yaml.safe_dump(targets, sort_keys=False), encoding="utf-8")


def _targets(settings: Settings) -> dict[str, list[dict[str, object]]]:
    def group(port: str, **labels: str) -> dict[str, object]:
        return {"targets": [f"127.0.0.1:{settings.port(port)}"], **({"labels": labels} if labels else {})}

    return {
        "apps": [group("COMPANION_METRICS", job="companion")],
        "exporter": [group("EXPORTER")],
        "remediation": [group("REMEDIATION")],
        "prometheus": [group("PROMETHEUS")],
        "alertmanager": [group("ALERTMANAGER")],
        # None of its own; without the folder, Prometheus would complain of it for ever.
        "llm-servers": [],
    }


def grafana_folder(settings: Settings) -> None:
    """Grafana's provisioning with this machine's addresses in place of Compose's."""
    folder = settings.run / "grafana" / "provisioning"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(settings.root / "grafana" / "provisioning", folder)
    for path in folder.rglob("*.yml"):
        text = path.read_text(encoding="utf-8")
        text = text.replace("http://prometheus:9090", settings.url("PROMETHEUS"))
        text = text.replace("/var/lib/grafana/dashboards", str(settings.root / "grafana" / "dashboards"))
        path.write_text(text, encoding="utf-8")
