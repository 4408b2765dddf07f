"""`make doctor`: look for what is wrong, and say what to do."""

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from llmvitals_stack import compose, health, native, ports
from llmvitals_stack.settings import SettingsError, load
from llmvitals_stack.terminal import Terminal

_DISK_WANTED_BYTES = 2 * 1024**3


def examine(root: Path, terminal: Terminal) -> bool:
    """Print each finding; True if nothing is wrong."""
    well = True
    for name, finding in _findings(root):
        terminal.say(f"[{'green' if finding is None else 'red'}]{'✓' if finding is None else '✗'}[/] {name}")
        if finding is not None:
            well = False
            terminal.plain(f"    {finding}")
    return well


def _findings(root: Path) -> Iterator[tuple[str, str | None]]:
    yield f"Python {sys.version.split()[0]}", None
    free = shutil.disk_usage(root).free
    yield (
        f"disk: {free / 1024**3:.1f} GiB free",
        None if free >= _DISK_WANTED_BYTES else "Prometheus wants 2 GiB; free some, or lower LLMVITALS_RETENTION_SIZE",
    )
    try:
        settings = load(root)
    except SettingsError as error:
        yield ".env", str(error)
        return
    yield ".env", None
    mode = (root / ".env").stat().st_mode & 0o777 if (root / ".env").exists() else 0o600
    yield ".env is private", None if mode == 0o600 else f"its mode is {mode:o}; type: chmod 600 .env"
    try:
        compose.command()
        yield "a Docker engine answers", None
    except compose.ComposeUnusableError as error:
        yield f"native processes, because {error}", None
        yield from _binaries()
    if native.supervisor(settings).orphaned():
        yield "a supervisor keeps the programs", "it was killed, and they go on alone; type: make up"
        return
    running = native.states(settings)
    if not running and not compose.running(settings):
        yield "ports are free", _problem(lambda: ports.check(settings))
        yield "nothing runs (make up starts it)", None
        return
    for name, state in running.items():
        yield f"{name} is {state.lower()}", None if state == "RUNNING" else f"see .run/logs/{name}.log; then make up"
    yield "remediation is ready", health.answers(f"{settings.url('REMEDIATION')}/readyz")()
    yield "Prometheus sees every target", health.targets_up(settings.url("PROMETHEUS"))()


def _binaries() -> Iterator[tuple[str, str | None]]:
    for name, others in (("prometheus", ()), ("alertmanager", ("prometheus-alertmanager",)), ("node", ("grafana",))):
        found = next((n for n in (name, *others) if shutil.which(n)), None)
        hint = {
            "node": "no dashboards without Grafana or Node.js 20; type: apt-get install nodejs npm",
        }.get(name, f"type: apt-get install {'prometheus-' if name == 'alertmanager' else ''}{name}")
        yield f"{found or name} is installed", None if found else hint


def _problem(check: Callable[[], None]) -> str | None:
    try:
        check()
    except ports.PortsTakenError as error:
        return str(error)
    return None
