"""What `make up` writes under `.run/`: nothing there is a source, all of it can be deleted."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import yaml

from llmvitals_stack import alertmanager, dashboards, llm_servers
from llmvitals_stack.settings import Settings, SettingsError, write_private

_HEADER = "# Made by `make up` from .env: change that.\n"


def secret_files(settings: Settings) -> None:
    """Each token as a file, for programs that must not have it on their command line."""
    folder = settings.run / "secrets"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in ("admin", "ingest", "agent"):
        write_private(settings.secret_file(name), settings[f"LLMVITALS_{name.upper()}_TOKEN"])
    write_private(folder / "grafana_admin_password", settings["LLMVITALS_GRAFANA_ADMIN_PASSWORD"])


def alertmanager_file(
    settings: Settings, *, remediation_url: str, ingest_token_file: str, version: tuple[int, int] | None
) -> Path:
    """Alertmanager's file: it expands no variables, so its receivers are filled in here.

    Args:
        version: Alertmanager's; None when it is not known.

    Raises:
        SettingsError: With every receiver's mistake.
    """
    folder = settings.run / "alertmanager"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        text = alertmanager.render(
            settings.values,
            remediation_url=remediation_url,
            ingest_token_file=ingest_token_file,
            version=version or alertmanager.OLDEST,
        )
    except ValueError as error:
        raise SettingsError(settings.root / ".env", str(error).splitlines()) from None
    shutil.copytree(settings.root / "alertmanager" / "templates", folder / "templates", dirs_exist_ok=True)
    # It may hold a password for mail.
    write_private(folder / "alertmanager.yml", text)
    return folder / "alertmanager.yml"


def prometheus_folder(settings: Settings, *, drawn: bool = True) -> None:
    """Prometheus's configuration and rules as committed, with this machine's targets beside them.

    Args:
        drawn: Whether Grafana or the viewer runs here.
    """
    source = settings.root / "prometheus"
    files = {Path("prometheus.yml"): (source / "prometheus.yml").read_text(encoding="utf-8")}
    for path in (source / "rules").rglob("*.yml"):
        files[path.relative_to(source)] = path.read_text(encoding="utf-8")
    for job, targets in _targets(settings, drawn=drawn).items():
        files[Path("targets", job, "native.yml")] = yaml.safe_dump(targets, sort_keys=False)
    files[Path("targets", "env", "llm-servers.yml")] = _llm_servers(settings)
    _mirror(settings.run / "prometheus", files)


def compose_targets_folder(settings: Settings) -> Path:
    """The folder of targets that `.env` names, as containers reach them."""
    folder = settings.run / "targets"
    _mirror(folder, {Path("llm-servers.yml"): _llm_servers(settings, from_container=True)})
    return folder


def _llm_servers(settings: Settings, *, from_container: bool = False) -> str:
    groups = llm_servers.target_groups(settings.values, from_container=from_container)
    return _HEADER + yaml.safe_dump(groups, sort_keys=False)


def _mirror(folder: Path, files: Mapping[Path, str]) -> None:
    """Make a folder hold these files and no others, leaving alone what is right already: a server watches it."""
    for name, text in files.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(f".{path.name}.new")
            draft.write_text(text, encoding="utf-8")
            draft.replace(path)
    for path in [path for path in folder.rglob("*") if path.is_file() and path.relative_to(folder) not in files]:
        path.unlink()


def _targets(settings: Settings, *, drawn: bool) -> dict[str, list[dict[str, object]]]:
    def group(port: str, **labels: str) -> dict[str, object]:
        return {"targets": [f"127.0.0.1:{settings.port(port)}"], **({"labels": labels} if labels else {})}

    return {
        "apps": [group("COMPANION_METRICS", job="companion")],
        "exporter": [group("EXPORTER")],
        "remediation": [group("REMEDIATION")],
        "prometheus": [group("PROMETHEUS")],
        "alertmanager": [group("ALERTMANAGER")],
        "dashboards": [group("GRAFANA", job="dashboards")] if drawn else [],
        # None of its own; without the folder, Prometheus would complain of it for ever. Yours are in targets/env.
        "llm-servers": [],
    }


def grafana_folder(settings: Settings) -> None:
    """Grafana's provisioning with this machine's addresses in place of Compose's."""
    source = settings.root / "grafana" / "provisioning"
    files = {}
    for path in source.rglob("*.yml"):
        text = path.read_text(encoding="utf-8").replace("http://prometheus:9090", settings.url("PROMETHEUS"))
        text = text.replace("/var/lib/grafana/dashboards", str(settings.run / "grafana" / "dashboards"))
        files[path.relative_to(source)] = text
    _mirror(settings.run / "grafana" / "provisioning", files)


def dashboards_folder(settings: Settings) -> Path:
    """The dashboards for Grafana, whose panels lead to the runbooks of this machine's console."""
    found = dashboards.read(settings.root / "grafana" / "dashboards", console_url=settings.url("REMEDIATION"))
    folder = settings.run / "grafana" / "dashboards"
    _mirror(folder, {Path(f"{uid}.json"): f"{json.dumps(content)}\n" for uid, content in found.items()})
    return folder
