"""What a panel must show, asked of Prometheus itself, and whether a text says it."""

import re
from collections.abc import Mapping
from typing import Any

import requests
from tests.grafana.queries import interpolate

WINDOW_SECONDS = 300
# The data source's own time between two scrapes, and what Grafana makes of it.
SCRAPE_SECONDS = 5
_DURATION = re.compile(r"(\d+)(s|m|h)")
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_CLOCK = re.compile(r"(\d+):(\d\d):(\d\d)")
_NUMBER = re.compile(r"(?P<sign>[-\N{MINUS SIGN}]?)(?P<number>\d[\d,]*(?:\.\d+)?)\s*(?P<unit>[^\s\d]*)")
# What one of a unit is in the base unit of a metric.
_UNITS = {
    "%": 0.01, "µs": 1e-6, "ms": 1e-3, "min": 60, "mins": 60, "hour": 3600, "hours": 3600, "day": 86400, "days": 86400,
    "K": 1e3, "Mil": 1e6, "Bil": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "kB": 1e3, "MB": 1e6,
    "GB": 1e9, "kW": 1e3, "week": 604800, "weeks": 604800, "year": 31557600, "years": 31557600,
}  # fmt: skip


def recomputed(prometheus_url: str, panel: Mapping[str, Any], end: int) -> list[float]:
    """The last value of each series that the panel's queries give over five minutes until *end*."""
    match = _DURATION.fullmatch(panel.get("interval", ""))
    step = max(SCRAPE_SECONDS, int(match[1]) * _SECONDS[match[2]] if match else 0)
    found: list[float] = []
    for target in panel["targets"]:
        expr = target["expr"].replace("$__range_s", str(WINDOW_SECONDS)).replace("$__range", f"{WINDOW_SECONDS}s")
        expr = expr.replace("$__interval", f"{step}s")
        query = interpolate(expr, window=f"{max(step + SCRAPE_SECONDS, 4 * SCRAPE_SECONDS)}s")
        if target.get("instant"):
            found += _ask(prometheus_url, "query", query=query, time=end)
        else:
            start = (end - WINDOW_SECONDS) // step * step
            found += _ask(prometheus_url, "query_range", query=query, start=start, end=end // step * step, step=step)
    return found


def _ask(prometheus_url: str, endpoint: str, **parameters: Any) -> list[float]:
    answer = requests.post(f"{prometheus_url}/api/v1/{endpoint}", data=parameters, timeout=10).json()
    assert "success" == answer["status"], answer
    data = answer["data"]
    if data["resultType"] == "scalar":
        series = [[data["result"]]]
    else:
        series = [s["values"] if "values" in s else [s["value"]] for s in data["result"]]
    values = [[float(text) for _, text in samples if text != "NaN"] for samples in series]
    return [v[-1] for v in values if v]


def says(text: str, value: float) -> bool:
    """Whether *text*, as a tile shows it, rounds *value*. Words of a mapping are another test's business."""
    if clock := _CLOCK.fullmatch(text.strip()):
        hours, minutes, seconds = map(int, clock.groups())
        # Whole seconds that are over.
        return hours * 3600 + minutes * 60 + seconds == int(value)
    match = _NUMBER.search(text)
    if match is None:
        return bool(text.strip())
    digits = match["number"].replace(",", "")
    decimals = len(digits.partition(".")[2])
    number = float(digits) * (-1 if match["sign"] else 1)
    scale = _UNITS.get(match["unit"].removesuffix("/s"), 1)
    # Half of the last digit that is shown, and what binary fractions add.
    return abs(number * scale - value) <= scale * 10**-decimals * 0.51 + abs(value) * 1e-6
