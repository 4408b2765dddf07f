"""The numbers that differ between a laptop, a server and a rush hour, as data; each may be set by a variable."""

import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from llmvitals._errors import SettingsError

PREFIX = "LLMVITALS_"
ENVIRONMENT_VARIABLE = "LLMVITALS_ENVIRONMENT"
# Variables of these families belong to settings: one of them that is none is a mistake.
_OWN = tuple(f"{PREFIX}{family}_" for family in ("BATCH", "POOL", "CACHE", "CLEANUP"))

Read = Callable[[str], Any]


def _whole(low: int, high: int) -> Read:
    def read(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text)

    return read


def _seconds(low: float, high: float) -> Read:
    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise ValueError(f"must be a number of seconds from {low:g} to {high:g}")
        return value

    return read


def _number(default: Any, read: Read) -> Any:
    return field(default=default, metadata={"read": read})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Numbers for batches, pools, caches and clean-ups; made by `llmvitals.settings`. Durations in seconds.

    The variable of each is its name in capitals after ``LLMVITALS_``: ``LLMVITALS_BATCH_MAX_ITEMS``.
    """

    environment: str = "development"

    batch_max_items: int = _number(10, _whole(1, 100_000))
    batch_max_wait_seconds: float = _number(0.1, _seconds(0, 60))

    pool_max_size: int = _number(100, _whole(1, 100_000))
    pool_idle_seconds: float = _number(300.0, _seconds(1, 86_400))
    pool_connect_timeout_seconds: float = _number(30.0, _seconds(0.1, 600))
    pool_retries: int = _number(3, _whole(0, 100))

    cache_max_entries: int = _number(1000, _whole(1, 10_000_000))
    cache_state_ttl_seconds: float = _number(5.0, _seconds(0.1, 86_400))
    cache_modules_ttl_seconds: float = _number(60.0, _seconds(0.1, 86_400))
    cache_messages_ttl_seconds: float = _number(300.0, _seconds(0.1, 86_400))

    cleanup_cache_seconds: float = _number(60.0, _seconds(1, 86_400))
    cleanup_connections_seconds: float = _number(300.0, _seconds(1, 86_400))
    cleanup_batches_seconds: float = _number(30.0, _seconds(1, 86_400))


ENVIRONMENTS: Mapping[str, Mapping[str, Any]] = {
    "development": {},
    "production": {"batch_max_items": 20, "batch_max_wait_seconds": 0.2},
    "high_load": {
        "batch_max_items": 50,
        "batch_max_wait_seconds": 0.5,
        "pool_max_size": 500,
        "cache_max_entries": 2000,
    },
}
"""What each environment has other than `Settings` says."""


def settings(environment: str | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """The numbers of *environment*, or of ``LLMVITALS_ENVIRONMENT`` (default: development), with every variable's
    value in place of its own.

    Raises SettingsError, which tells all mistakes at once: values out of bounds, names that are none.
    """
    name = environment or environ.get(ENVIRONMENT_VARIABLE) or "development"
    problems: list[str] = []
    if name not in ENVIRONMENTS:
        source = "environment" if environment else ENVIRONMENT_VARIABLE
        problems.append(f"{source} must be one of {', '.join(ENVIRONMENTS)}, not {name!r}")
    values: dict[str, Any] = {"environment": name, **ENVIRONMENTS.get(name, {})}
    known: set[str] = set()
    for each in fields(Settings):
        if "read" not in each.metadata:
            continue
        variable = f"{PREFIX}{each.name.upper()}"
        known.add(variable)
        text = environ.get(variable, "").strip()
        if not text:
            continue
        try:
            values[each.name] = each.metadata["read"](text)
        except ValueError as error:
            problems.append(f"{variable} {error}, not {text!r}")
    problems += [_unknown(variable, known) for variable in sorted(environ) if _is_ours(variable, known)]
    if problems:
        raise SettingsError(problems)
    return Settings(**values)


def _is_ours(variable: str, known: set[str]) -> bool:
    return variable.startswith(_OWN) and variable not in known


def _unknown(variable: str, known: set[str]) -> str:
    near = difflib.get_close_matches(variable, sorted(known), n=1, cutoff=0.8)
    return f"{variable} is no setting" + (f"; did you mean {near[0]}?" if near else "")
