"""The binaries that are not ours: found on PATH, or installed from Debian's packages when that is possible."""

import re
import shutil
import subprocess
from pathlib import Path

from llmvitals_stack.programs import Tools
from llmvitals_stack.terminal import Terminal

_ALERTMANAGER = ("alertmanager", "prometheus-alertmanager")  # upstream's name, Debian's name
_GRAFANA = ("grafana",)
_REDIS = ("redis-server", "valkey-server")


class ToolMissingError(RuntimeError):
    """A binary cannot be had; the text says which, and the command to type."""


def find(root: Path, terminal: Terminal) -> Tools:
    """Find Prometheus and Alertmanager, install them where they are missing, and choose what shows the dashboards.

    Raises:
        ToolMissingError: With the command to type.
    """
    prometheus, alertmanager = _which("prometheus"), _which(*_ALERTMANAGER)
    if prometheus is None or alertmanager is None:
        with terminal.step("installing Prometheus and Alertmanager"):
            _install(root)
        prometheus, alertmanager = _which("prometheus"), _which(*_ALERTMANAGER)
    if prometheus is None or alertmanager is None:
        raise ToolMissingError("Prometheus or Alertmanager is still not on PATH after its package was installed.")
    grafana = _which(*_GRAFANA)
    viewer = None if grafana else _viewer(root, terminal)
    return Tools(prometheus, alertmanager, grafana, viewer, _redis(root, terminal))


def version(program: Path) -> tuple[int, int] | None:
    """The first two numbers of what ``--version`` tells of Prometheus and its like; None when it does not tell."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    told = re.search(r"version (\d+)\.(\d+)", done.stdout + done.stderr)
    return (int(told[1]), int(told[2])) if told else None


def _viewer(root: Path, terminal: Terminal) -> Path | None:
    # Not at the top: who has Grafana, or only asks for the status, needs none of it.
    from llmvitals_stack.viewer_build import ensure_built, kept  # noqa: PLC0415

    if built := kept(root):
        return built
    with terminal.step("building the dashboard viewer (this once; a minute or two)"):
        made = ensure_built(root)
    if isinstance(made, Path):
        return made
    terminal.warn(f"No dashboards will be shown: {made}")
    return None


def _redis(root: Path, terminal: Terminal) -> Path | None:
    """Redis, for the demo's cache that goes on without it: not to have one is no reason not to start."""
    if found := _which(*_REDIS):
        return found
    try:
        with terminal.step("installing Redis"):
            _packages(root, "redis-server=redis-server")
    except ToolMissingError as error:
        terminal.warn(f"The demo's answers are kept by one process only, for there is no Redis: {error}")
    return _which(*_REDIS)


def _which(*names: str) -> Path | None:
    for name in names:
        if found := shutil.which(name):
            return Path(found)
    return None


def _install(root: Path) -> None:
    wanted = ["prometheus=prometheus"]
    if _which(*_ALERTMANAGER) is None:
        wanted.append("prometheus-alertmanager=prometheus-alertmanager")
    _packages(root, *wanted)


def _packages(root: Path, *wanted: str) -> None:
    done = subprocess.run(
        ["sh", str(root / "stack" / "packages.sh"), *wanted], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise ToolMissingError(done.stderr.strip() or done.stdout.strip())
