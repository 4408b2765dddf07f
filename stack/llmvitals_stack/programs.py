"""What runs natively: each program's command, where it says that it is healthy, and how it is restarted."""

import hashlib
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from llmvitals_stack import llm_servers
from llmvitals_stack.settings import EXPORTER, Settings

KOBOLDCPP = "LLMVITALS_EXPORTER_KOBOLDCPP"
NVIDIA = "LLMVITALS_EXPORTER_NVIDIA"


@dataclass(frozen=True, slots=True)
class Program:
    """One process under the supervisor.

    Attributes:
        health: A URL that answers 200 once the program can do its work; empty for one that serves nothing.
        restart: Whether the supervisor starts it again when it ends. Not for the companion: to do that, and to prove
            that it helped, is remediation's act in the demo.
    """

    name: str
    command: tuple[str, ...]
    health: str = ""
    restart: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tools:
    """The binaries that are not ours, and what shows the dashboards: Grafana's home, or the viewer's built files.

    Without Redis the demo's companion keeps its answers to itself.
    """

    prometheus: Path
    alertmanager: Path
    grafana: Path | None = None
    viewer: Path | None = None
    redis: Path | None = None


def programs(settings: Settings, tools: Tools) -> tuple[Program, ...]:
    """All programs, those that others need first."""
    return (
        _prometheus(settings, tools.prometheus),
        _alertmanager(settings, tools.alertmanager),
        _exporter(settings),
        _remediation(settings),
        *(_redis(settings, redis) for redis in (tools.redis,) if redis is not None),
        *_demo(settings, redis=tools.redis is not None),
        *_dashboards(settings, tools),
    )


def supervisor_socket(settings: Settings) -> Path:
    """The supervisor's control socket. A Unix socket's path has 107 bytes at most: a deep checkout gets a short one."""
    path = settings.run / "supervisor.sock"
    if len(bytes(path)) <= 100:
        return path
    name = hashlib.sha256(bytes(settings.run)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"llmvitals-{os.getuid()}" / f"{name}.sock"


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *arguments)


def _prometheus(settings: Settings, binary: Path) -> Program:
    port = settings.port("PROMETHEUS")
    return Program(
        "prometheus",
        (
            str(binary),
            f"--config.file={settings.run / 'prometheus' / 'prometheus.yml'}",
            f"--storage.tsdb.path={settings.run / 'prometheus-data'}",
            f"--storage.tsdb.retention.time={settings['LLMVITALS_RETENTION_TIME']}",
            f"--storage.tsdb.retention.size={settings['LLMVITALS_RETENTION_SIZE']}",
            f"--web.listen-address=127.0.0.1:{port}",
            f"--web.external-url={settings.url('PROMETHEUS')}",
            "--web.enable-lifecycle",
            # An alert that Alertmanager missed while it started comes again after this, not after a minute.
            "--rules.alert.resend-delay=10s",
            # From a slow bucket to a trace that was in it.
            "--enable-feature=exemplar-storage",
        ),
        health=f"{settings.url('PROMETHEUS')}/-/ready",
    )


def _alertmanager(settings: Settings, binary: Path) -> Program:
    return Program(
        "alertmanager",
        (
            str(binary),
            f"--config.file={settings.run / 'alertmanager' / 'alertmanager.yml'}",
            f"--storage.path={settings.run / 'alertmanager-data'}",
            f"--web.listen-address=127.0.0.1:{settings.port('ALERTMANAGER')}",
            f"--web.external-url={settings.url('ALERTMANAGER')}",
            # One node: no gossip, no second port.
            "--cluster.listen-address=",
        ),
        health=f"{settings.url('ALERTMANAGER')}/-/ready",
    )


def _exporter(settings: Settings) -> Program:
    return Program(
        "exporter",
        _python(
            "llmvitals_exporter",
            f"--port={settings.port('EXPORTER')}",
            "--watch=companion=-m companion serve",
            "--watch=remediation=-m llmvitals_remediation",
            "--watch=prometheus=prometheus .*--storage.tsdb",
        ),
        health=f"{settings.url('EXPORTER')}/-/healthy",
        environment=_exporter_environment(settings),
    )


def _exporter_environment(settings: Settings) -> dict[str, str]:
    """What `.env` says to the exporter, and the demo's own server with it: a flag would go before the variable."""
    said = {key: settings[key] for key in EXPORTER}
    demo = f"http://127.0.0.1:{settings.port('FAULTY_LLM')}"
    said[KOBOLDCPP] = ",".join([demo, *llm_servers.listed(said[KOBOLDCPP])])
    if said[NVIDIA] == "demo":
        said[f"{NVIDIA}_DEMO_FAULTS"] = str(settings.run / "gpu-faults")
    return {key: value for key, value in said.items() if value}


def _remediation(settings: Settings) -> Program:
    return Program(
        "remediation",
        _python(
            "llmvitals_remediation",
            "serve",
            f"--port={settings.port('REMEDIATION')}",
            f"--database={settings.run / 'remediation' / 'remediation.db'}",
            f"--policy={settings.policy}",
            f"--prometheus-url={settings.url('PROMETHEUS')}",
            f"--alertmanager-url={settings.url('ALERTMANAGER')}",
            f"--ingest-token-file={settings.secret_file('ingest')}",
            f"--admin-token-file={settings.secret_file('admin')}",
            f"--agent-token-file={settings.secret_file('agent')}",
            f"--supervisor-url=unix://{supervisor_socket(settings)}",
            f"--runbooks={settings.root / 'docs' / 'runbooks'}",
            f"--dashboards-url={settings.url('GRAFANA')}",
        ),
        health=f"{settings.url('REMEDIATION')}/readyz",
    )


def _redis(settings: Settings, binary: Path) -> Program:
    return Program(
        "redis",
        (
            str(binary),
            *("--port", str(settings.port("REDIS")), "--bind", "127.0.0.1", "--dir", str(settings.run)),
            # A cache: nothing of it is worth a place on disk.
            *("--save", "", "--appendonly", "no", "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"),
            # What a cache needs. Everything else, such as CONFIG, would let whoever reaches the port write files as us.
            *("--user", "default", "on", "nopass", "~*", "-@all"),
            *("+ping", "+hello", "+client", "+get", "+set", "+pttl", "+del"),
        ),
    )


def _demo(settings: Settings, *, redis: bool) -> tuple[Program, ...]:
    primary, backup = settings.port("FAULTY_LLM"), settings.port("FAULTY_LLM_BACKUP")
    control = settings.port("FAULTY_LLM_CONTROL")
    return (
        Program(
            "faulty_llm",
            _python(
                "faulty_llm",
                f"--listen=primary={primary}",
                f"--listen=backup={backup}",
                f"--control-port={control}",
            ),
            health=f"http://127.0.0.1:{control}/dials/primary",
        ),
        Program(
            "companion",
            _python(
                "companion",
                "serve",
                f"--port={settings.port('COMPANION')}",
                f"--metrics-port={settings.port('COMPANION_METRICS')}",
                f"--llm-url=http://127.0.0.1:{primary}/v1",
                f"--backup-url=http://127.0.0.1:{backup}/v1",
                f"--data-dir={settings.run / 'companion'}",
                f"--remediation-url={settings.url('REMEDIATION')}",
                f"--agent-token-file={settings.secret_file('agent')}",
                *((f"--redis-url=redis://127.0.0.1:{settings.port('REDIS')}/0",) if redis else ()),
                "--demo-faults",
            ),
            health=f"{settings.url('COMPANION')}/healthz",
            restart=False,
            environment={
                # Enough for imports and the first requests to settle; the default minute is for real start-ups.
                "LLMVITALS_MEMORY_BASELINE_AFTER_SECONDS": "20",
                "LLMVITALS_PRICES": str(settings.root / "examples" / "prices.json"),
            },
        ),
        Program("load", _python("companion", "load", f"--url={settings.url('COMPANION')}")),
    )


def _dashboards(settings: Settings, tools: Tools) -> tuple[Program, ...]:
    port = settings.port("GRAFANA")
    if tools.grafana is not None:
        home = Path("/usr/share/grafana")
        return (
            Program(
                "grafana",
                (str(tools.grafana), "server", *((f"--homepath={home}",) if home.is_dir() else ())),
                health=f"http://127.0.0.1:{port}/api/health",
                environment={
                    "GF_SERVER_HTTP_ADDR": "127.0.0.1",
                    "GF_SERVER_HTTP_PORT": str(port),
                    "GF_PATHS_DATA": str(settings.run / "grafana-data"),
                    "GF_PATHS_PROVISIONING": str(settings.run / "grafana" / "provisioning"),
                    "GF_SECURITY_ADMIN_PASSWORD__FILE": str(settings.run / "secrets" / "grafana_admin_password"),
                    # Who reaches this port of this machine reaches Prometheus too; changing needs the password.
                    "GF_AUTH_ANONYMOUS_ENABLED": "true",
                    "GF_AUTH_ANONYMOUS_ORG_ROLE": "Viewer",
                    "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH": str(
                        settings.run / "grafana" / "dashboards" / "llmvitals-overview.json"
                    ),
                    "GF_ANALYTICS_REPORTING_ENABLED": "false",
                    "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
                },
            ),
        )
    if tools.viewer is not None:
        return (
            Program(
                "viewer",
                _python(
                    "llmvitals_stack.viewer",
                    f"--port={port}",
                    f"--prometheus-url={settings.url('PROMETHEUS')}",
                    f"--dashboards={settings.root / 'grafana' / 'dashboards'}",
                    f"--dist={tools.viewer}",
                    f"--console-url={settings.url('REMEDIATION')}",
                ),
                health=f"http://127.0.0.1:{port}/",
            ),
        )
    return ()
