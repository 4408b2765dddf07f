"""The companion's settings: a flag for each, an environment variable behind each flag, a default behind both."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import llmvitals

__all__ = ["Settings", "add_flags", "settings_of"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What `python -m companion serve` was told. Durations in seconds."""

    port: int
    metrics_port: int
    host: str
    llm_url: str
    backup_url: str | None
    data_dir: Path
    redis_url: str | None
    remediation_url: str | None
    agent_token_file: Path | None
    demo_faults: bool
    llm_timeout_seconds: float
    llm_connect_timeout_seconds: float
    llm_stall_seconds: float
    llm_connections: int
    retries: int
    retry_base_seconds: float
    breaker_failures: int
    breaker_reset_seconds: float
    health_interval_seconds: float
    users_max_active: int
    users_idle_seconds: float
    requests_per_second: float
    requests_burst: int
    thoughts_seconds: float
    journal_max_documents: int
    history_days: float
    websocket_max: int
    websocket_idle_seconds: float
    numbers: llmvitals.Settings
    """Of batches, pools, caches and clean-ups: what differs between a laptop and a rush hour."""
    llm_api_key: str
    """From the environment only: a command line can be read by everybody on the machine."""


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise ValueError("must be a port, a whole number from 0 to 65535")
    return int(text)


def _number(low: float, high: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        problem = f"must be a number from {low:g} to {high:g}"
        try:
            value = float(text)
        except ValueError:
            raise ValueError(problem) from None
        if not low <= value <= high:
            raise ValueError(problem)
        return value

    return read


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text)

    return read


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be a URL such as http://127.0.0.1:8081/v1")
    return text.rstrip("/")


def _redis_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"redis", "rediss"} or not parts.hostname:
        raise ValueError("must be a URL such as redis://127.0.0.1:6379/0")
    return text


@dataclass(frozen=True, slots=True)
class _Option:
    default: str | None
    read: Callable[[str], Any]
    metavar: str
    help: str
    env: str | None = None
    demo: str | None = None
    """The default with --demo-faults, where that differs."""


_OPTIONS: Mapping[str, _Option] = {
    "port": _Option("8080", _port, "PORT", "where the companion answers", "LLMVITALS_COMPANION_PORT"),
    "metrics_port": _Option("9464", _port, "PORT", "where /metrics is", "LLMVITALS_COMPANION_METRICS_PORT"),
    "host": _Option("127.0.0.1", str, "ADDRESS", "address to listen on; leave it unless in a container"),
    "llm_url": _Option("http://127.0.0.1:8081/v1", _url, "URL", "any OpenAI-compatible server: provider `primary`"),
    "backup_url": _Option(None, _url, "URL", "another one, for when the first fails: provider `backup`"),
    "data_dir": _Option("companion-data", Path, "DIRECTORY", "where the database and the effect ledger live"),
    "redis_url": _Option(None, _redis_url, "URL", "a Redis to share answers by; none: each companion has its own"),
    "remediation_url": _Option(
        None, _url, "URL", "where commands are pulled from; none: no agent", "LLMVITALS_REMEDIATION_URL"
    ),
    "agent_token_file": _Option(None, Path, "FILE", "the token to pull commands with", "LLMVITALS_AGENT_TOKEN_FILE"),
    "llm_timeout_seconds": _Option("60", _number(0.1, 3600), "S", "longest wait for a plain answer"),
    "llm_connect_timeout_seconds": _Option("5", _number(0.1, 600), "S", "longest wait for a connection"),
    "llm_stall_seconds": _Option("15", _number(0.1, 3600), "S", "longest silence inside a stream"),
    "llm_connections": _Option("20", _whole(1, 1000), "N", "connections to one provider at most"),
    "retries": _Option("3", _whole(0, 10), "N", "further tries after a failed one"),
    "retry_base_seconds": _Option("2", _number(0, 60), "S", "wait before a retry; doubles each time", demo="0.2"),
    "breaker_failures": _Option("5", _whole(1, 1000), "N", "failures in a row that open a provider's breaker"),
    "breaker_reset_seconds": _Option("30", _number(0.1, 3600), "S", "until an open breaker tries again", demo="10"),
    "health_interval_seconds": _Option("5", _number(0.1, 3600), "S", "between background health checks", demo="2"),
    "users_max_active": _Option("10", _whole(1, 100_000), "N", "user profiles that are right to keep in memory"),
    "users_idle_seconds": _Option("86400", _number(1, 1e9), "S", "when a profile counts as idle"),
    "requests_per_second": _Option("30", _number(0.1, 10_000), "N", "requests a second that are answered, all users"),
    "requests_burst": _Option("30", _whole(1, 10_000), "N", "requests that may come at once, after a quiet time"),
    "thoughts_seconds": _Option("15", _number(0.1, 86_400), "S", "between two runs of a background module"),
    "journal_max_documents": _Option("100000", _whole(1, 10_000_000), "N", "documents kept in the journal"),
    "history_days": _Option("30", _number(0.001, 36_500), "D", "exchanges older than this are deleted"),
    "websocket_max": _Option(None, _whole(1, 10_000), "N", "WebSocket connections at once; none: by environment"),
    "websocket_idle_seconds": _Option(
        None, _number(1, 86_400), "S", "until a silent WebSocket is closed; none: by environment"
    ),
}

_API_KEY = "COMPANION_LLM_API_KEY"


def add_flags(parser: argparse.ArgumentParser) -> None:
    for name, option in _OPTIONS.items():
        told = "none" if option.default is None else option.default
        if option.demo is not None:
            told += f", {option.demo} with --demo-faults"
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            metavar=option.metavar,
            help=f"{option.help} (${_env(name)}; default: {told})",
        )
    parser.add_argument(
        "--demo-faults", action="store_true", help="open /demo/*, by which anybody who reaches the port can break this"
    )


def settings_of(options: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> Settings:
    """Read flags, then environment, then defaults. Raises ValueError that names every mistake."""
    values: dict[str, Any] = {"demo_faults": options.demo_faults, "llm_api_key": environ.get(_API_KEY) or "none"}
    problems: list[str] = []
    for name, option in _OPTIONS.items():
        flag = f"--{name.replace('_', '-')}"
        text, source = getattr(options, name), flag
        if text is None and environ.get(_env(name)):
            text, source = environ[_env(name)], f"${_env(name)}"
        if text is None:
            text = option.demo if options.demo_faults and option.demo is not None else option.default
        try:
            values[name] = None if text is None else option.read(text)
        except ValueError as error:
            problems.append(f"{source} {error}, not {text!r}")
    try:
        values["numbers"] = numbers = llmvitals.settings(environ=environ)
    except llmvitals.SettingsError as error:
        problems += str(error).splitlines()
    if problems:
        raise ValueError("\n".join(problems))
    values["websocket_max"] = values["websocket_max"] or numbers.pool_max_size
    values["websocket_idle_seconds"] = values["websocket_idle_seconds"] or numbers.pool_idle_seconds
    return Settings(**{field.name: values[field.name] for field in fields(Settings)})


def _env(name: str) -> str:
    return _OPTIONS[name].env or f"COMPANION_{name.upper()}"
