"""The stack as native processes under a supervisor, where there is no Docker engine."""

import os
from collections.abc import Mapping
from pathlib import Path

from llmvitals_stack import health, ports, render
from llmvitals_stack.programs import Program, programs, supervisor_socket
from llmvitals_stack.settings import Settings
from llmvitals_stack.supervision import Supervisor, configuration
from llmvitals_stack.terminal import Terminal
from llmvitals_stack.tools import find, version

_HEALTHY_WITHIN = 120


def supervisor(settings: Settings) -> Supervisor:
    return Supervisor(settings.run, supervisor_socket(settings))


def up(settings: Settings, terminal: Terminal) -> None:
    """Start everything, or bring what runs up to date, and wait until all is healthy.

    Raises:
        PortsTakenError, ToolMissingError, SupervisorError, UnhealthyError: Each says what to do.
    """
    _folders(settings)
    keeper = supervisor(settings)
    if keeper.orphaned():
        with terminal.step("stopping what a killed supervisor left"):
            keeper.stop()
    ours = frozenset(keeper.pids().values()) if keeper.running() else frozenset()
    ports.check(settings, ours=ours)
    tools = find(settings.root, terminal)
    wanted = programs(settings, tools)

    render.secret_files(settings)
    render.prometheus_folder(settings, drawn=bool(tools.grafana or tools.viewer))
    render.grafana_folder(settings)
    render.dashboards_folder(settings)
    render.alertmanager_file(
        settings,
        remediation_url=settings.url("REMEDIATION"),
        ingest_token_file=str(settings.secret_file("ingest")),
        version=version(tools.alertmanager),
    )
    (settings.run / "supervisord.conf").write_text(
        configuration(wanted, root=settings.root, run=settings.run, socket=supervisor_socket(settings)),
        encoding="utf-8",
    )
    keeper.start()
    if ours:
        _reload(settings)
    _wait(settings, wanted, keeper, terminal)


def down(settings: Settings) -> bool:
    """Stop everything, and see that no process is left. False if nothing ran."""
    return supervisor(settings).stop()


def states(settings: Settings) -> Mapping[str, str]:
    """Each program's state as the supervisor sees it; empty when nothing runs natively."""
    return supervisor(settings).states()


def _folders(settings: Settings) -> None:
    for name in ("logs", "prometheus-data", "alertmanager-data", "remediation", "companion", "grafana-data"):
        (settings.run / name).mkdir(parents=True, exist_ok=True)
    # Private, because who can write to the socket can start any program.
    folder = supervisor_socket(settings).parent
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user; remove it, or move the checkout to a shorter path")


def _reload(settings: Settings) -> None:
    """Make what ran before read the files that may have changed; the rest reads its own again by itself."""
    for name in ("PROMETHEUS", "ALERTMANAGER"):
        if (reason := health.reload(f"{settings.url(name)}/-/reload")) is not None:
            raise health.UnhealthyError(reason)


def _wait(settings: Settings, wanted: tuple[Program, ...], keeper: Supervisor, terminal: Terminal) -> None:
    checks = [health.Check(program.name, health.answers(program.health)) for program in wanted if program.health]
    checks.append(health.Check("all targets scraped", health.targets_up(settings.url("PROMETHEUS"), ours=True)))
    try:
        health.wait(checks, timeout=_HEALTHY_WITHIN, on_healthy=terminal.healthy, states=keeper.states)
    except health.UnhealthyError:
        for name, state in keeper.states().items():
            if state != "RUNNING":
                terminal.plain(f"{name} is {state}; the end of its log:")
                terminal.plain(tail(settings.run / "logs" / f"{name}.log"))
        raise


def tail(path: Path, lines: int = 15) -> str:
    """The last lines of a log."""
    if not path.exists():
        return "(no log)"
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
