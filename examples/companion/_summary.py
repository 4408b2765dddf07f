"""One look at everything: performance, providers, users, health; as JSON for programs and for the page."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from companion._chat import TARGET_SECONDS, Chat
from companion._llm import LLM
from companion._settings import Settings
from companion._tuning import Tuning
from llmvitals import Vitals

__all__ = ["Summary"]

_READ = {
    "llmvitals_operations",
    "llmvitals_operation_duration_seconds",
    "llmvitals_cache_requests",
    "llmvitals_health_check_status",
    "llmvitals_memory_baseline_ratio",
    "process_resident_memory_bytes",
    "llmvitals_pool_connections",
}


_Read = Mapping[str, list[tuple[dict[str, str], float]]]

_WINDOW_SECONDS = 60.0


class Summary:
    """Reads the figures that /metrics shows, so that the two never disagree."""

    def __init__(self, vitals: Vitals, settings: Settings, tuning: Tuning, llm: LLM, chat: Chat) -> None:
        self._vitals = vitals
        self._settings = settings
        self._tuning = tuning
        self._llm = llm
        self._chat = chat
        self._started = time.monotonic()
        self._operations = {mode: _Operation(target) for mode, target in TARGET_SECONDS.items()}

    async def as_json(self) -> Mapping[str, object]:
        read = await asyncio.to_thread(self._samples)
        breakers = self._llm.breaker_states()
        checks = {labels["check"]: value == 1 for labels, value in read["llmvitals_health_check_status"]}
        users = {"active": self._chat.users, "limit": self._settings.users_max_active}
        now = time.monotonic()
        operations = {mode: kept.look(_counts(mode, now, read)) for mode, kept in self._operations.items()}
        slow = any(operation["slow_ratio"] > 0.05 for operation in operations.values())
        down = [provider for provider in breakers if not checks.get(f"llm_{provider}", True)]
        if len(down) == len(breakers) or not checks.get("database", True):
            status = "red"
        elif down or slow or users["active"] > users["limit"] or any(state != "closed" for state in breakers.values()):
            status = "yellow"
        else:
            status = "green"
        return {
            "status": status,
            "uptime_seconds": round(time.monotonic() - self._started, 1),
            "operations": operations,
            "cache_hit_ratio": _hit_ratio(read),
            "breakers": breakers,
            "checks": checks,
            "users": users,
            "websockets": sum(
                value
                for labels, value in read["llmvitals_pool_connections"]
                if labels == {"pool": "websocket", "state": "used"}
            ),
            "memory_bytes": _first(read["process_resident_memory_bytes"]),
            "memory_baseline_ratio": _first(read["llmvitals_memory_baseline_ratio"]),
            "tunables": asdict(self._tuning),
        }

    def _samples(self) -> _Read:
        samples: dict[str, list[tuple[dict[str, str], float]]] = defaultdict(list)
        for family in self._vitals.registry.collect():
            if family.name in _READ:
                for sample in family.samples:
                    samples[sample.name].append((sample.labels, sample.value))
        return samples


@dataclass(frozen=True, slots=True)
class _Counts:
    """What an operation had come to at one moment since the start."""

    at: float
    count: float = 0.0
    seconds: float = 0.0
    slow: float = 0.0


class _Operation:
    """One operation's last minute, told by counts that were kept at earlier looks."""

    def __init__(self, target_seconds: float) -> None:
        self._target_seconds = target_seconds
        self._looks: deque[_Counts] = deque([_Counts(time.monotonic())])

    def look(self, now: _Counts) -> dict[str, Any]:
        self._looks.append(now)
        # The oldest that is kept is the newest of those a minute old: from there to now is the last minute.
        while len(self._looks) > 1 and self._looks[1].at <= now.at - _WINDOW_SECONDS:
            self._looks.popleft()
        before = self._looks[0]
        count = now.count - before.count
        return {
            "target_seconds": self._target_seconds,
            "count": int(now.count),
            "recent": int(count),
            "mean_seconds": round((now.seconds - before.seconds) / count, 3) if count else None,
            "slow_ratio": round((now.slow - before.slow) / count, 4) if count else 0.0,
        }


def _counts(mode: str, at: float, read: _Read) -> _Counts:
    def total(name: str, levels: frozenset[str] | None = None) -> float:
        return sum(
            value
            for labels, value in read[name]
            if labels["operation"] == mode and (levels is None or labels["level"] in levels)
        )

    return _Counts(
        at,
        total("llmvitals_operation_duration_seconds_count"),
        total("llmvitals_operation_duration_seconds_sum"),
        total("llmvitals_operations_total", frozenset({"slow", "critical"})),
    )


def _hit_ratio(read: _Read) -> float | None:
    found = {
        labels["result"]: value
        for labels, value in read["llmvitals_cache_requests_total"]
        if labels["cache"] == "responses"
    }
    asked = found.get("hit", 0) + found.get("miss", 0)
    return round(found.get("hit", 0) / asked, 4) if asked else None


def _first(samples: list[tuple[dict[str, str], float]]) -> float | None:
    return samples[0][1] if samples else None
