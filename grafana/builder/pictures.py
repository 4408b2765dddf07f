"""Panels that are no lines, numbers or tables: heatmaps, states over time, and shares of a whole."""

from collections.abc import Mapping, Sequence
from typing import Any

from grafana.builder.panels import Panel, Query, defaults_of, panel_of


def heatmap(
    ident: int,
    title: str,
    about: str,
    query: Query,
    *,
    unit: str,
    cells: str = "reqps",
    width: int = 8,
    height: int = 8,
    no_value: str = "No data",
) -> Panel:
    """
    A histogram over time. *query* gives buckets' rates by ``le``; *unit* is that of the axis, *cells* that of a cell.

    One hue: how many is told by its depth, and no cell says that it is too slow.
    """
    defaults = defaults_of("", None, no_value=no_value)
    defaults["custom"] = {
        "hideFrom": {"legend": False, "tooltip": False, "viz": False},
        "scaleDistribution": {"type": "linear"},
    }
    options = {
        "calculate": False,
        "cellGap": 1,
        "cellValues": {"unit": cells},
        "color": {
            "exponent": 0.5,
            "fill": "blue",
            "mode": "scheme",
            "reverse": False,
            "scale": "exponential",
            "scheme": "Blues",
            "steps": 64,
        },
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        "showValue": "never",
        "tooltip": {"mode": "single", "showColorScale": False, "yHistogram": False},
        "yAxis": {"axisPlacement": "left", "reverse": False, "unit": unit},
    }
    defaults["unit"] = unit
    asked = Query(query.expr, "{{le}}")
    panel = panel_of(ident, "heatmap", title, about, [asked], defaults=defaults, options=options, size=(width, height))
    for target in panel["targets"]:
        target["format"] = "heatmap"
    return panel


def state_timeline(
    ident: int,
    title: str,
    about: str,
    queries: Sequence[Query],
    *,
    mappings: Sequence[Mapping[str, Any]],
    width: int = 12,
    height: int = 8,
    no_value: str = "No data",
) -> Panel:
    """A band for each series, in the words and colours of *mappings*."""
    defaults = defaults_of("short", None, no_value=no_value, mappings=mappings)
    defaults["color"] = {"mode": "thresholds"}
    defaults["custom"] = {"fillOpacity": 70, "lineWidth": 0, "spanNulls": False}
    options = {
        "alignValue": "left",
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "mergeValues": True,
        "rowHeight": 0.8,
        "showValue": "auto",
        "tooltip": {"mode": "single", "sort": "none"},
    }
    return panel_of(
        ident, "state-timeline", title, about, queries, defaults=defaults, options=options, size=(width, height)
    )


def pie(
    ident: int,
    title: str,
    about: str,
    query: Query,
    *,
    unit: str,
    width: int = 8,
    height: int = 8,
    decimals: int | None = None,
    overrides: Sequence[Mapping[str, Any]] = (),
    no_value: str = "No data",
) -> Panel:
    """Shares of a whole at the end of the range; the legend says how much, and how much of all."""
    defaults = defaults_of(unit, None, no_value=no_value, low=0, decimals=decimals)
    defaults["color"] = {"mode": "palette-classic"}
    options = {
        "displayLabels": [],
        "legend": {
            "displayMode": "table",
            # Beside a narrow ring, the legend has no room for its numbers.
            "placement": "right" if width > 6 else "bottom",
            "showLegend": True,
            "values": ["value", "percent"],
        },
        "pieType": "donut",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "tooltip": {"mode": "single", "sort": "none"},
    }
    now = Query(query.expr, query.legend, now=True)
    return panel_of(
        ident,
        "piechart",
        title,
        about,
        [now],
        defaults=defaults,
        options=options,
        size=(width, height),
        overrides=overrides,
    )
