"""Words and colours for single values and single series."""

from collections.abc import Mapping
from typing import Any

# Darker as it gets rarer, and apart in both themes; the same on every panel.
QUANTILE_COLORS = {"p50": "super-light-blue", "p95": "blue", "p99": "dark-purple"}
# What is scraped everywhere; an application's own line has what the palette gives.
STACK_COLORS = {
    "prometheus": "orange",
    "alertmanager": "purple",
    "exporter": "super-light-blue",
    "remediation": "dark-blue",
}


def value_map(texts: Mapping[int | str, tuple[str, str]]) -> list[Mapping[str, Any]]:
    """Words, and named colours, in place of values: ``{1: ("Up", "green")}``."""
    options = {str(v): {"color": c, "index": i, "text": t} for i, (v, (t, c)) in enumerate(texts.items())}
    return [{"type": "value", "options": options}]


def color_by_name(colors: Mapping[str, str]) -> list[Mapping[str, Any]]:
    """A fixed, named colour for each series whose name starts with the given word."""
    return [
        {
            "matcher": {"id": "byRegexp", "options": f"/^{word}/"},
            "properties": [{"id": "color", "value": {"fixedColor": color, "mode": "fixed"}}],
        }
        for word, color in colors.items()
    ]


def dashed(name: str, color: str) -> Mapping[str, Any]:
    """A line that is a limit, not a measurement."""
    return {
        "matcher": {"id": "byRegexp", "options": f"/^{name}/"},
        "properties": [
            {"id": "color", "value": {"fixedColor": color, "mode": "fixed"}},
            {"id": "custom.lineStyle", "value": {"dash": [8, 6], "fill": "dash"}},
            {"id": "custom.fillOpacity", "value": 0},
        ],
    }
