"""The stack in containers, where a Docker engine answers and can have the images."""

import os
import shutil
import subprocess

from llmvitals_stack import health, llm_servers, ports, render
from llmvitals_stack.settings import Settings
from llmvitals_stack.terminal import Terminal

_PULLED = ("prometheus", "alertmanager", "grafana", "redis")
_HEALTHY_WITHIN = 240
#: As docker-compose.yml pins it.
_ALERTMANAGER = (0, 34)


class ComposeUnusableError(RuntimeError):
    """Compose cannot run here; the text says why."""


def command() -> tuple[str, ...]:
    """The Compose command of this machine.

    Raises:
        ComposeUnusableError: No client, no engine that answers, or no Compose.
    """
    if shutil.which("docker") is None:
        raise ComposeUnusableError("there is no docker command")
    if (reason := _fails("docker", "info", "--format", "{{.ServerVersion}}")) is not None:
        raise ComposeUnusableError(f"no Docker engine answers ({reason})")
    if _fails("docker", "compose", "version") is None:
        return ("docker", "compose")
    if shutil.which("docker-compose"):
        return ("docker-compose",)
    raise ComposeUnusableError("the Docker engine answers, but there is no Compose; install docker-compose-plugin")


def up(settings: Settings, terminal: Terminal) -> None:
    """Have the images, start the containers, wait until all is healthy.

    Raises:
        ComposeUnusableError: Before anything was started.
        UnhealthyError, PortsTakenError: As natively.
    """
    compose = command()
    with terminal.step("pulling the images"):
        _have_images(compose, settings)
    if not running(settings):
        ports.check(settings)
    render.secret_files(settings)
    render.compose_targets_folder(settings)
    render.dashboards_folder(settings)
    render.alertmanager_file(
        settings,
        remediation_url="http://remediation:9466",
        ingest_token_file="/run/secrets/ingest_token",  # noqa: S106 -- a path
        version=_ALERTMANAGER,
    )
    _let_containers_read(settings)
    with terminal.step("starting the containers"):
        if (reason := _fails(*compose, "up", "--detach", cwd=settings, timeout=600)) is not None:
            raise health.UnhealthyError(f"docker compose up failed: {reason}")
    urls = {
        "prometheus": f"{settings.url('PROMETHEUS')}/-/ready",
        "alertmanager": f"{settings.url('ALERTMANAGER')}/-/ready",
        "grafana": f"{settings.url('GRAFANA')}/api/health",
        "remediation": f"{settings.url('REMEDIATION')}/readyz",
        "companion": f"{settings.url('COMPANION')}/healthz",
    }
    checks = [health.Check(name, health.answers(url)) for name, url in urls.items()]
    checks.append(health.Check("all targets scraped", health.targets_up(settings.url("PROMETHEUS"), ours=True)))
    health.wait(checks, timeout=_HEALTHY_WITHIN, on_healthy=terminal.healthy)


def down(settings: Settings) -> bool:
    """Stop and remove the containers; the volumes stay. False if none ran."""
    if not running(settings):
        return False
    if (reason := _fails(*command(), "down", cwd=settings, timeout=120)) is not None:
        raise health.UnhealthyError(f"docker compose down failed: {reason}")
    return True


def running(settings: Settings) -> bool:
    """Whether containers of this project run."""
    try:
        compose = command()
    except ComposeUnusableError:
        return False
    done = _run(*compose, "ps", "--quiet", cwd=settings)
    return done.returncode == 0 and bool(done.stdout.strip())


def _let_containers_read(settings: Settings) -> None:
    """Containers run as users of their own, so the mounted files must be readable by all; the wall is `.run` itself.

    Only its owner gets into `.run`; a mount leads into a container past it.
    """
    settings.run.chmod(0o700)
    for path in (settings.run / "secrets").iterdir():
        path.chmod(0o444)
    for folder in (settings.run / "alertmanager", settings.run / "targets", settings.run / "grafana"):
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o444)


def _have_images(compose: tuple[str, ...], settings: Settings) -> None:
    """Pull what is pinned and not here yet, and build our own image."""
    if (reason := _fails(*compose, "pull", *_PULLED, cwd=settings, timeout=900)) is not None and not _all_local(
        compose, settings
    ):
        raise ComposeUnusableError(f"the engine cannot pull the images ({reason})")
    if (reason := _fails(*compose, "build", cwd=settings, timeout=900)) is not None:
        raise ComposeUnusableError(f"the engine cannot build our image ({reason})")


def _all_local(compose: tuple[str, ...], settings: Settings) -> bool:
    done = _run(*compose, "config", cwd=settings)
    images = [line.split()[-1] for line in done.stdout.splitlines() if line.strip().startswith("image:")]
    # Ours is built, not pulled.
    images = [image for image in images if not image.startswith("llmvitals:")]
    return bool(images) and all(_fails("docker", "image", "inspect", image) is None for image in images)


def _fails(*arguments: str, cwd: Settings | None = None, timeout: float = 20) -> str | None:
    """None if a command ends well, else the last line it said."""
    try:
        done = _run(*arguments, cwd=cwd, timeout=timeout)
    except subprocess.TimeoutExpired:
        return f"no answer within {timeout:.0f} s"
    if done.returncode == 0:
        return None
    said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()
    return said[-1][:300]


def _environment(settings: Settings) -> dict[str, str]:
    # Without values there is nothing to name: what only stops containers reads no settings.
    asked = {key: llm_servers.listed(settings.values.get(key, "")) for key in llm_servers.ASKED}
    return {key: ",".join(map(llm_servers.for_containers, urls)) for key, urls in asked.items() if urls}


def _run(*arguments: str, cwd: Settings | None = None, timeout: float = 20) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments,
        cwd=cwd.root if cwd else None,
        # `.env` gives the rest; what is given here goes before it.
        env={**os.environ, **(_environment(cwd) if cwd else {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
