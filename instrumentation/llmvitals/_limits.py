"""How much more may be done: a provider's rate limits, as its answers tell them, and the application's own limits."""

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from llmvitals import _work_families as families
from llmvitals._recording import Recorder

RESOURCES = frozenset({"requests", "tokens", "input_tokens", "output_tokens"})

# OpenAI's and most others': x-ratelimit-remaining-tokens, ratelimit-reset, ...; Anthropic's the other way round.
_GENERAL = re.compile(r"(?:x-)?rate-?limit-(limit|remaining|reset)(?:-(.+))?")
_ANTHROPIC = re.compile(r"anthropic-ratelimit-(.+)-(limit|remaining|reset)")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
# A reset beyond this is a point in time, not a number of seconds.
_EPOCH = 1e9


class Limit:
    """What is known of one limit; it counts, and limits nothing. Thread-safe. Made by `Vitals.limit`.

    Give it a provider's response headers, or say what is left of a limit of your own; say what was rejected, and go
    through `queued` where a turn is waited for.
    """

    def __init__(self, recorder: Recorder, name: str, *, clock: Callable[[], float] = time.time) -> None:
        self.name = name
        self._recorder = recorder
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._rejected = 0
        self._queued = 0
        self._lock = threading.Lock()
        recorder.child(families.LIMIT_QUEUED, name).set(0)

    def read(self, headers: Mapping[str, str]) -> None:
        """Take what a response's headers say of limits, those of OpenAI, Anthropic, and the IETF's draft. Never raises.

        Headers that say nothing of limits, or something that cannot be understood, change nothing.
        """
        with self._recorder.guard("limits"):
            for resource, said in _said(headers).items():
                self._learn(resource, said.get("remaining"), said.get("limit"), said.get("reset"))

    def headroom(
        self,
        remaining: float,
        limit: float | None = None,
        *,
        resource: str = "requests",
        reset_seconds: float | None = None,
    ) -> None:
        """Say what is left, of how much, and in how many seconds all of it is there again."""
        with self._recorder.guard("limits"):
            self._learn(resource, remaining, limit, reset_seconds)

    def rejected(self, resource: str = "requests") -> None:
        """One was turned away: by the provider (429) or by the application itself."""
        with self._lock:
            self._rejected += 1
        self._recorder.child(families.LIMIT_REJECTED, self.name, resource).inc()

    @contextmanager
    def queued(self) -> Iterator[None]:
        """Around the wait for a turn, also around an ``await``: counted as queued, and timed."""
        started = time.perf_counter()
        self._queue(1)
        try:
            yield
        finally:
            self._queue(-1)
            self._recorder.child(families.LIMIT_WAIT, self.name).observe(time.perf_counter() - started)

    def summary(self) -> dict[str, Any]:
        """Rejected so far, queued now, and the smallest share that is left of any resource; None when none is known."""
        with self._lock:
            ratios = [ratio for known in self._known.values() if (ratio := known.ratio(self._clock())) is not None]
            return {
                "rejected": self._rejected,
                "queued": self._queued,
                "headroom_ratio": round(min(ratios), 4) if ratios else None,
            }

    def _learn(self, resource: str, remaining: float | None, limit: float | None, reset_seconds: float | None) -> None:
        with self._lock:
            new = resource not in self._known
            if new and len(self._known) >= 20:
                return
            known = self._known.setdefault(resource, _Known())
            if new:
                # From zero, so that the first one turned away is already an increase.
                self._recorder.child(families.LIMIT_REJECTED, self.name, resource)
            known.remaining = known.remaining if remaining is None else max(remaining, 0.0)
            known.limit = known.limit if limit is None else limit
            known.reset_at = None if reset_seconds is None else self._clock() + reset_seconds
        if known.limit is not None:
            self._recorder.child(families.LIMIT_MAXIMUM, self.name, resource).set(known.limit)
        if known.reset_at is not None:
            self._recorder.child(families.LIMIT_RESET, self.name, resource).set(known.reset_at)
        # At the scrape, because what is left grows again when nobody asks.
        if known.remaining is not None and not known.shown:
            known.shown = True
            self._recorder.read_at_scrape(
                families.LIMIT_REMAINING, self.name, resource, read=lambda: known.left(self._clock()) or 0.0
            )
        if known.limit and known.remaining is not None and not known.ratio_shown:
            known.ratio_shown = True
            self._recorder.read_at_scrape(
                families.LIMIT_HEADROOM, self.name, resource, read=lambda: known.ratio(self._clock()) or 0.0
            )

    def _queue(self, step: int) -> None:
        with self._lock:
            self._queued += step
            self._recorder.child(families.LIMIT_QUEUED, self.name).set(self._queued)


class _Known:
    __slots__ = ("limit", "ratio_shown", "remaining", "reset_at", "shown")

    def __init__(self) -> None:
        self.remaining: float | None = None
        self.limit: float | None = None
        self.reset_at: float | None = None
        self.shown = self.ratio_shown = False

    def left(self, now: float) -> float | None:
        if self.reset_at is not None and self.limit is not None and now >= self.reset_at:
            return self.limit
        return self.remaining

    def ratio(self, now: float) -> float | None:
        left = self.left(now)
        return None if left is None or not self.limit else min(left / self.limit, 1.0)


class Limits:
    """The limits that an application has named. Thread-safe."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._limits: dict[str, Limit] = {}
        self._lock = threading.Lock()

    def limit(self, name: str) -> Limit:
        """The limit of this name, made when it is asked for first."""
        with self._lock:
            if name not in self._limits:
                self._limits[name] = Limit(self._recorder, name)
            return self._limits[name]

    def summary(self) -> dict[str, Any]:
        with self._lock:
            limits = list(self._limits.values())
        return {limit.name: limit.summary() for limit in limits}


def _said(headers: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """By resource: remaining, limit, and reset in seconds from now."""
    said: dict[str, dict[str, float]] = {}
    for header, value in headers.items():
        name = str(header).lower()
        if "limit-" not in name:
            continue
        if found := _ANTHROPIC.fullmatch(name):
            resource, what = found[1], found[2]
        elif found := _GENERAL.fullmatch(name):
            what, resource = found[1], found[2] or "requests"
        else:
            continue
        resource = resource.replace("-", "_")
        number = _seconds(str(value)) if what == "reset" else _number(str(value))
        if resource in RESOURCES and number is not None:
            said.setdefault(resource, {})[what] = number
    return said


def _number(text: str) -> float | None:
    # The IETF's earlier draft adds its policy: "100, 100;w=60".
    first = re.match(r"\s*(\d+(?:\.\d+)?)", text)
    return float(first[1]) if first else None


def _seconds(text: str) -> float | None:
    """From now: of "1.5", "6m0s", unix seconds, or a date in RFC 3339."""
    text = text.strip()
    if re.fullmatch(r"\d+(?:\.\d+)?", text):
        number = float(text)
        return max(number - time.time(), 0.0) if number > _EPOCH else number
    parts = _DURATION.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return sum(float(number) * _UNITS[unit] for number, unit in parts)
    try:
        return max(datetime.fromisoformat(text).timestamp() - time.time(), 0.0)
    except ValueError:
        return None
