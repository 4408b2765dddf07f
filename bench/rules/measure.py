"""How long rule groups take, and the panels of a dashboard over a day."""

import json
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.rules.instances import ROOT

# What a browser 1,440 pixels wide asks for.
POINTS = 720
DASHBOARDS = ROOT / "grafana" / "dashboards"
OVERVIEW = "llmvitals-overview"


def quantile(values: Sequence[float], q: float) -> float:
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * q) - 1)]


@dataclass(slots=True)
class Group:
    """A rule group's evaluations, by the time of each."""

    name: str
    interval: float
    by_time: dict[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> list[float]:
        return list(self.by_time.values())

    @property
    def p95(self) -> float:
        return quantile(self.seconds, 0.95)


class Groups:
    """All groups, as /api/v1/rules told of them again and again."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], Group] = {}

    def look(self, answer: Sequence[Mapping[str, Any]]) -> None:
        for told in answer:
            key = (told["file"], told["name"])
            group = self._groups.setdefault(key, Group(told["name"], float(told["interval"])))
            if not told["lastEvaluation"].startswith("0001"):
                group.by_time[told["lastEvaluation"]] = float(told["evaluationTime"])

    def slowest(self) -> list[Group]:
        measured = [group for group in self._groups.values() if group.by_time]
        return sorted(measured, key=lambda group: -group.p95 / group.interval)


@dataclass(frozen=True, slots=True)
class Panel:
    title: str
    seconds: Sequence[float]
    series: int
    raw: bool
    """Whether it reads what nobody records: of that there is less than a day here."""

    @property
    def p50(self) -> float:
        return quantile(self.seconds, 0.5)

    @property
    def p95(self) -> float:
        return quantile(self.seconds, 0.95)


def panels(
    ask: Callable[..., Any], uid: str, hours: int, *, scrape_seconds: int, rounds: int, progress: Callable[[str], None]
) -> list[Panel]:
    """Each panel's queries, one after the other, *rounds* times; every value chosen in every variable."""
    dashboard = json.loads((DASHBOARDS / f"{uid}.json").read_text(encoding="utf-8"))
    drawn = [
        panel
        for outer in dashboard["panels"]
        for panel in (outer.get("panels", []) if outer["type"] == "row" else [outer])
        if panel.get("targets")
    ]
    # They are drawn on every chart, and asked for once.
    marks = dashboard["annotations"]["list"]
    drawn += [{"title": f"marks: {mark['name']}", "targets": [mark["target"]]} for mark in marks]
    found = []
    for number, panel in enumerate(drawn, 1):
        progress(f"{uid}: panel {number} of {len(drawn)}: {panel['title']}")
        times = []
        series = 0
        for _ in range(rounds):
            started = time.perf_counter()
            series = sum(_asked(ask, target, hours, scrape_seconds) for target in panel["targets"])
            times.append(time.perf_counter() - started)
        names = {name for target in panel["targets"] for name in re.findall(r"([\w:]+)\{", target["expr"])}
        raw = not all(target.get("instant") for target in panel["targets"])
        raw &= any(":" not in name and name != "ALERTS" for name in names)
        found.append(Panel(panel["title"], times, series, raw))
    return found


def _asked(ask: Callable[..., Any], target: Mapping[str, Any], hours: int, scrape_seconds: int) -> int:
    """How many series came."""
    step = hours * 3600 // POINTS
    windows = {"__rate_interval": f"{max(step + scrape_seconds, 4 * scrape_seconds)}s", "__interval": f"{step}s"}
    expr = target["expr"]
    for name, window in {**windows, "__range": f"{hours}h"}.items():
        expr = expr.replace(f"${name}", window)
    expr = re.sub(r"\$\w+", ".+", expr)
    now = time.time()
    if target.get("instant"):
        return len(ask("query", query=expr, time=now)["result"])
    return len(ask("query_range", query=expr, start=now - hours * 3600, end=now, step=step)["result"])
