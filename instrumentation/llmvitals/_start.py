"""Start: the registry, ``/metrics``, and the agent when there is a remediation service."""

import atexit
import ipaddress
import logging
import os
import platform
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import prometheus_client
from prometheus_client import CollectorRegistry

from llmvitals import _current
from llmvitals._vitals import Vitals

log = logging.getLogger("llmvitals")

HOST = "127.0.0.1"
PORT = 9464


def start(
    service: str | None = None,
    *,
    host: str | None = None,
    port: int | None = None,
    registry: CollectorRegistry | None = None,
    remediation_url: str | None = None,
    agent_token_file: str | Path | None = None,
    profile: str | None = None,
    on_command: Callable[[str, str, str], object] | None = None,
    history_file: str | Path | None = None,
    workers: str | None = None,
    prices: str | Path | None = None,
    inference_usage: bool | None = None,
    pushgateway_url: str | None = None,
) -> Vitals:
    """Show this process's vital signs on ``http://host:port/metrics``; obey the remediation service if there is one.

    Never raises and never waits: what cannot be started is logged with what to set, counted, and left out. A second
    start on the same registry returns what the first one made.

    Args:
        service: The application's name, as in Prometheus' ``job``. ``LLMVITALS_SERVICE``; default ``app``.
        host: Where ``/metrics`` listens. ``LLMVITALS_METRICS_HOST``; default 127.0.0.1.
        port: Its port, 0 for a free one (`Vitals.metrics_port` tells which). ``LLMVITALS_METRICS_PORT``; default 9464.
        registry: Where families are registered; prometheus_client's default one, so that the application's own metrics
            are served too.
        remediation_url: The remediation service. ``LLMVITALS_REMEDIATION_URL``; without it the agent does not start.
        agent_token_file: The file with the token for it. ``LLMVITALS_AGENT_TOKEN_FILE``.
        profile: The profile to put in force once the application has registered it. ``LLMVITALS_PROFILE``. When that
            never happens, the log says so.
        on_command: Called with attempt id, verb and boot id just before an accepted command acts, for a record of the
            application's own; when it raises, the command does not act.
        history_file: Where `Vitals.history` is kept. ``LLMVITALS_HISTORY_FILE``; default: in memory only.
        workers: A name that makes one service of all processes of this user that are started with it, for the same
            service, host and port; ``off``, and each process is scraped by itself. ``LLMVITALS_WORKERS``; by default
            those belong together that one program has forked, or multiprocessing has made.
        prices: The table of prices for `Vitals.prices`. ``LLMVITALS_PRICES``; without it, no cost is counted.
        inference_usage: Whether to count tokens by what they were: `Vitals.inference_usage`.
            ``LLMVITALS_INFERENCE_USAGE``; default: no.
        pushgateway_url: Where `Vitals.push` goes, at `Vitals.close` by itself. ``LLMVITALS_PUSHGATEWAY_URL``.
    """
    stand_in = _current.stand_in()
    if stand_in is not None:
        return stand_in
    registry = prometheus_client.REGISTRY if registry is None else registry
    running = _current.on(registry)
    if running is not None:
        if not running.is_inherited:  # A forked worker calls it as well as who forked it.
            log.warning("llmvitals: start() was called again on the same registry; the first one stays as it is")
        return running
    service = service or os.environ.get("LLMVITALS_SERVICE") or "app"
    vitals = Vitals(
        service=service,
        registry=registry,
        profile=profile or os.environ.get("LLMVITALS_PROFILE") or None,
        on_command=on_command,
        pushgateway_url=pushgateway_url or os.environ.get("LLMVITALS_PUSHGATEWAY_URL") or None,
    )
    _current.push(vitals)
    atexit.register(vitals.close)
    vitals.watch_process()
    vitals.history(history_file or os.environ.get("LLMVITALS_HISTORY_FILE") or None)
    prices = prices or os.environ.get("LLMVITALS_PRICES")
    if prices:
        vitals.prices(prices)
    if _switched("LLMVITALS_INFERENCE_USAGE") if inference_usage is None else inference_usage:
        vitals.inference_usage()
    host = host or os.environ.get("LLMVITALS_METRICS_HOST") or HOST
    port = _port() if port is None else port
    workers = os.environ.get("LLMVITALS_WORKERS", "") if workers is None else workers
    if workers != "off":
        vitals.join_workers(host, port, name=workers)
    vitals.serve_metrics(host, port)
    remediation_url = remediation_url or os.environ.get("LLMVITALS_REMEDIATION_URL")
    if remediation_url:
        token_file = agent_token_file or os.environ.get("LLMVITALS_AGENT_TOKEN_FILE")
        agent_id = f"{service}@{_place(host)}:{vitals.metrics_port or port}"
        vitals.start_agent(remediation_url, token_file, agent_id=agent_id)
    return vitals


def _sweep() -> None:
    """What a forking server leaves that imports us before it forks, and starts us only in its workers."""
    if _current.current() is None and "llmvitals.workers" not in sys.modules:
        with suppress(OSError):
            from llmvitals import workers  # noqa: PLC0415 -- most processes fork nothing

            workers.sweep()


def _after_fork_in_parent() -> None:
    global _forked  # noqa: PLW0603
    if not _forked:
        _forked = True
        atexit.register(_sweep)


_forked = False

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_parent=_after_fork_in_parent)


def _place(host: str) -> str:
    """What tells this instance from the others: 0.0.0.0 and :: are every container's, its host name is its own."""
    try:
        everywhere = ipaddress.ip_address(host).is_unspecified
    except ValueError:  # A name.
        return host
    return platform.node() or host if everywhere else host


def _port() -> int:
    text = os.environ.get("LLMVITALS_METRICS_PORT") or str(PORT)
    try:
        return int(text)
    except ValueError:
        log.warning("llmvitals: LLMVITALS_METRICS_PORT=%r is not a number; using %d", text, PORT)
        return PORT


def _switched(variable: str) -> bool:
    text = os.environ.get(variable, "").strip().lower()
    if text not in ("", "0", "1", "false", "true", "no", "yes", "off", "on"):
        log.warning("llmvitals: %s=%r is neither 1 nor 0; taken as 0", variable, text)
    return text in ("1", "true", "yes", "on")
