"""What in a summary a person should look at, and how urgently: red, yellow, or nothing: green."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

Colour = Literal["green", "yellow", "red"]

# As the alerts have them.
MEMORY_RATIO = 1.5
POOL_RATIO = 0.8
HIT_RATIO = 0.7
HEADROOM_RATIO = 0.1
# Fewer say nothing yet.
LEAST_LOOKUPS = 100
LEAST_RUNS = 5


def concerns(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    """Each with ``colour``, ``part``, ``name`` and ``why``; the red ones first."""
    found = [*_checks(summary), *_limits(summary), *_speed(summary), *_upkeep(summary)]
    return sorted(
        ({"colour": colour, "part": part, "name": name, "why": why} for colour, part, name, why in found),
        key=lambda concern: concern["colour"] != "red",
    )


def colour_of(found: list[dict[str, str]]) -> Colour:
    """Red when anything is, else yellow when anything is, else green."""
    colours = {concern["colour"] for concern in found}
    return "red" if "red" in colours else "yellow" if colours else "green"


_Found = Iterator[tuple[Colour, str, str, str]]


def _checks(summary: Mapping[str, Any]) -> _Found:
    for name, check in summary.get("checks", {}).items():
        if check["healthy"] is False:
            yield "red", "checks", name, check["error"] or "it takes too long"
    for name, state in summary.get("breakers", {}).items():
        if state != "closed":
            yield "yellow", "breakers", name, f"the breaker is {state}"


def _limits(summary: Mapping[str, Any]) -> _Found:
    users = summary.get("users")
    if users and users["active"] > users["limit"]:
        yield "yellow", "users", "profiles", f"{users['active']} are active, {users['limit']} are wanted"
    ratio = summary.get("memory", {}).get("baseline_ratio")
    if ratio is not None and ratio > MEMORY_RATIO:
        yield "yellow", "memory", "resident", f"{ratio:.2f} times its baseline"
    for name, pool in summary.get("pools", {}).items():
        if pool["used"] > POOL_RATIO * pool["max_size"]:
            yield "yellow", "pools", name, f"{pool['used']} of {pool['max_size']} are used"
    for name, cache in summary.get("caches", {}).items():
        if cache["hits"] + cache["misses"] >= LEAST_LOOKUPS and cache["hit_ratio"] < HIT_RATIO:
            yield "yellow", "caches", name, f"{cache['hit_ratio']:.0%} of the look-ups hit"
    for name, limit in summary.get("limits", {}).items():
        headroom = limit["headroom_ratio"]
        if headroom is not None and headroom < HEADROOM_RATIO:
            yield "yellow", "limits", name, f"{headroom:.0%} is left"


def _speed(summary: Mapping[str, Any]) -> _Found:
    startup = summary.get("startup")
    if startup and startup["total_seconds"] is None:
        yield "yellow", "startup", "phases", f"{startup['progress_ratio']:.0%} are done"
    for name, operation in summary.get("operations", {}).items():
        target, p95 = operation["target_seconds"], operation["p95_seconds"]
        if target is not None and operation["runs"] >= LEAST_RUNS and p95 > target:
            yield "yellow", "operations", name, f"p95 is {p95:.2f} s, the target {target:g} s"
    for name, memory in summary.get("semantic_memories", {}).items():
        p95, target = memory["search_p95_seconds"], memory["search_target_seconds"]
        if memory["searches"] >= LEAST_RUNS and p95 > target:
            yield "yellow", "semantic_memories", name, f"p95 of searches is {p95:.2f} s, the target {target:g} s"


def _upkeep(summary: Mapping[str, Any]) -> _Found:
    for name, module in summary.get("modules", {}).items():
        if module["overdue"]:
            yield "yellow", "modules", name, f"{module['overdue']} runs are overdue"
    for name, voice in summary.get("voices", {}).items():
        ratio = voice["success_ratio"]
        if voice["recent"] >= LEAST_RUNS and ratio < voice["target_ratio"]:
            yield "yellow", "voices", name, f"{ratio:.1%} of the turns succeed, {voice['target_ratio']:.1%} should"
    for name, cleanup in summary.get("cleanups", {}).items():
        if cleanup["error"] is not None:
            yield "yellow", "cleanups", name, cleanup["error"]
