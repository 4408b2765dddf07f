"""Runs every query of the dashboards against a Prometheus that watches a running stack."""

import time
from collections.abc import Collection
from pathlib import Path

import requests
from tests.grafana.queries import FOLDER, interpolate, load, queries
from tests.grafana.rightly_empty import RIGHTLY_EMPTY

GPU_PANELS = frozenset({"GPU utilisation", "GPU memory", "GPU temperature", "GPU power"})
# Panels that are rightly empty on a machine without the thing, or while nothing has gone wrong.
MAY_BE_EMPTY = GPU_PANELS | frozenset(
    {
        "Pressure",
        "Failed calls by error",
        "Retries",
        "Alerts",
        "Pool use",
        "To action p95",
        "To proof p95",
        "Proven actions",
        "Closed incidents by outcome",
        "Attempts by verdict",
        "From alert to action",
        "From action to proof",
        "By handler",
        "Breakers and slots",
        "Refusals by gate",
        "Errors inside",
    }
    | set(RIGHTLY_EMPTY)
)


def check_live(
    prometheus_url: str, dashboards: Path = FOLDER, *, may_be_empty: Collection[str] = MAY_BE_EMPTY
) -> list[str]:
    """
    What is wrong, a sentence each: a query that Prometheus refuses, a panel without any data, an impossible value.

    A panel is empty when all of its queries are. *may_be_empty* has titles, and titles with their dashboard before.
    """
    found: list[str] = []
    for dashboard in load(dashboards).values():
        series: dict[str, int] = {}
        for query in queries(dashboard):
            answer = _ask(prometheus_url, interpolate(query.expr))
            if isinstance(answer, str):
                found.append(f"{query.where}: {answer}")
                continue
            if query.panel is None:
                continue
            title = str(query.panel["title"])
            series[title] = series.get(title, 0) + len(answer)
            found += [f"{query.where}: {problem}" for problem in _impossible(answer, query.panel)]
        uid = dashboard["uid"]
        empty = [title for title, n in series.items() if n == 0]
        found += [f"{uid} / {t}: no data" for t in empty if not {t, f"{uid} / {t}"} & set(may_be_empty)]
    return found


def _ask(prometheus_url: str, expr: str) -> list[list[float]] | str:
    """The values of each series over the last minute, or what Prometheus said against the query."""
    now = time.time()
    response = requests.post(
        f"{prometheus_url}/api/v1/query_range",
        data={"query": expr, "start": now - 60, "end": now, "step": 5},
        timeout=10,
    )
    body = response.json()
    if body["status"] != "success":
        return str(body["error"])
    return [[float(v) for _, v in series["values"]] for series in body["data"]["result"]]


def _impossible(answer: list[list[float]], panel: object) -> list[str]:
    assert isinstance(panel, dict)
    defaults = panel["fieldConfig"]["defaults"]
    values = [v for series in answer for v in series]
    found = []
    if any(v != v for v in values):  # noqa: PLR0124 - NaN is the one value that differs from itself
        found.append("NaN")
    # Averages that Prometheus makes may pass a bound by rounding.
    if "min" in defaults and any(v < defaults["min"] - 1e-9 for v in values):
        found.append(f"{min(values)} is below {defaults['min']}")
    if "max" in defaults and any(v > defaults["max"] + 1e-9 for v in values):
        found.append(f"{max(values)} is above {defaults['max']}")
    return found
