"""One look at everything: performance, providers, users, health; as JSON for programs and for the page."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
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


class Summary:
    """Reads the figures that /metrics shows, so that the two never disagree."""

    def __init__(self, vitals: Vitals, settings: Settings, tuning: Tuning, llm: LLM, chat: Chat) -> None:
        self._vitals = vitals
        self._settings = settings
        self._tuning = tuning
        self._llm = llm
        self._chat = chat
        self._started = time.monotonic()

    async def as_json(self) -> Mapping[str, object]:
        read = await asyncio.to_thread(self._samples)
        breakers = self._llm.breaker_states()
        checks = {labels["check"]: value == 1 for labels, value in read["llmvitals_health_check_status"]}
        users = {"active": self._chat.users, "limit": self._settings.users_max_active}
        operations = _operations(read)
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

    def _samples(self) -> dict[str, list[tuple[dict[str, str], float]]]:
        samples: dict[str, list[tuple[dict[str, str], float]]] = defaultdict(list)
        for family in self._vitals.registry.collect():
            if family.name in _READ:
                for sample in family.samples:
                    samples[sample.name].append((sample.labels, sample.value))
        return samples


def _operations(read: Mapping[str, list[tuple[dict[str, str], float]]]) -> dict[str, dict[str, Any]]:
    operations: dict[str, dict[str, Any]] = {}
    for mode, target in TARGET_SECONDS.items():
        levels = {
            labels["level"]: int(value)
            for labels, value in read["llmvitals_operations_total"]
            if labels["operation"] == mode
        }
        count = sum(levels.values())

        def total(name: str, mode: str = mode) -> float:
            return sum(value for labels, value in read[name] if labels["operation"] == mode)

        seconds = total("llmvitals_operation_duration_seconds_sum")
        counted = total("llmvitals_operation_duration_seconds_count")
        operations[mode] = {
            "target_seconds": target,
            "count": count,
            "mean_seconds": round(seconds / counted, 3) if counted else None,
            "levels": levels,
            "slow_ratio": round((levels.get("slow", 0) + levels.get("critical", 0)) / count, 4) if count else 0.0,
        }
    return operations


def _hit_ratio(read: Mapping[str, list[tuple[dict[str, str], float]]]) -> float | None:
    found = {
        labels["result"]: value
        for labels, value in read["llmvitals_cache_requests_total"]
        if labels["cache"] == "responses"
    }
    asked = found.get("hit", 0) + found.get("miss", 0)
    return round(found.get("hit", 0) / asked, 4) if asked else None


def _first(samples: list[tuple[dict[str, str], float]]) -> float | None:
    return samples[0][1] if samples else None
