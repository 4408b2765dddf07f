"""
Panels of Classic dashboards, one function a kind.

Each returns the panel as Grafana stores it, with a size and no place: `layout` gives it one. Ids are written by hand
where the panel is, because links and alert annotations point at them: a panel that moves keeps its id.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grafana.builder.promql import metric_names
from grafana.builder.thresholds import Limit, line_steps, steps

Panel = dict[str, Any]

# A legend takes at most a third of its panel: in the higher one, four lines of a table have room.
HEIGHT = 8
TABLE_HEIGHT = 10
# The line of a limit is not the axis' end.
LINE_IN_VIEW = 1.1

# A number that multiplies a baseline: "1.50 \u00d7".
MULTIPLE = "suffix:\u00d7"

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

# The remediation service's console, which has the runbooks. A deployment writes its own address into the variable.
CONSOLE = "${console:raw}"

_ALERTED = re.compile(r"\bAlerts?: (\w+(?:, \w+)*)\.")


@dataclass(frozen=True, slots=True)
class Query:
    """One expression of a panel. A *now* query asks for one moment (tables), otherwise for the whole range."""

    expr: str
    legend: str = ""
    now: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: the *source* field, its title, and how its cells are drawn."""

    source: str
    title: str
    unit: str = ""
    decimals: int | None = None
    limit: Limit | None = None
    mappings: Sequence[Mapping[str, Any]] = ()
    width: int | None = None
    no_value: str = ""


def alerted(*alerts: str) -> str:
    """A sentence for a description: which alerts watch what the panel shows. Their runbooks are the panel's links."""
    return f"{'Alert' if len(alerts) == 1 else 'Alerts'}: {', '.join(alerts)}."


def runbook_link(title: str, path: str = "") -> dict[str, Any]:
    """A panel's link to a runbook, or to the list of all."""
    return {"title": title, "url": f"{CONSOLE}/runbooks/{path}", "targetBlank": True}


def timeseries(
    ident: int,
    title: str,
    about: str,
    queries: Sequence[Query],
    *,
    unit: str,
    width: int = 8,
    height: int | None = None,
    limit: Limit | None = None,
    stacked: bool = False,
    bars: bool = False,
    stepped: bool = False,
    low: float | None = 0,
    high: float | None = None,
    decimals: int | None = None,
    legend_table: bool = False,
    no_value: str = "No data",
    mappings: Sequence[Mapping[str, Any]] = (),
    overrides: Sequence[Mapping[str, Any]] = (),
    interval: str = "",
    soft_high: float | None = None,
    single: bool = False,
) -> Panel:
    """
    Lines, steps or bars over time.

    *soft_high* is how far the axis reaches at least, so that a flat zero does not stand under "100"; it reaches the
    line of a *limit*. A *legend_table* is for what is often more than three lines, and has a higher panel. A *single*
    kind of line is blue, and several of it are shades of blue: a palette would give them the green, yellow and red that
    mean "well" and "act" elsewhere.
    """
    custom: dict[str, Any] = {
        "axisBorderShow": False,
        "axisPlacement": "auto",
        "drawStyle": "bars" if bars else "line",
        "fillOpacity": 60 if bars else 25 if stacked else 8 if single else 0,
        "lineInterpolation": "stepAfter" if stepped else "linear",
        "lineWidth": 1,
        "pointSize": 4,
        "showPoints": "never" if bars or stacked or stepped else "auto",
        "spanNulls": False,
        "stacking": {"group": "A", "mode": "normal" if stacked else "none"},
        "thresholdsStyle": {"mode": "dashed" if limit else "off"},
    }
    defaults = defaults_of(unit, limit, no_value=no_value, low=low, high=high, decimals=decimals, mappings=mappings)
    if limit is not None:
        soft_high = max(soft_high or 0, LINE_IN_VIEW * (limit.warning or limit.critical or 0))
    if soft_high is not None and high is None:
        custom["axisSoftMax"] = soft_high
    defaults["thresholds"] = line_steps(limit)
    defaults["color"] = {"mode": "shades", "fixedColor": "blue"} if single else {"mode": "palette-classic"}
    defaults["custom"] = custom
    calcs = ["mean", "max", "lastNotNull"] if legend_table else []
    options = {
        "legend": {
            "calcs": calcs,
            "displayMode": "table" if legend_table else "list",
            "placement": "bottom",
            "showLegend": True,
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return panel_of(
        ident,
        "timeseries",
        title,
        _watched(about, limit),
        queries,
        defaults=defaults,
        options=options,
        size=(width, height or (TABLE_HEIGHT if legend_table else HEIGHT)),
        overrides=overrides,
        interval=interval,
    )


def stat(
    ident: int,
    title: str,
    about: str,
    query: Query,
    *,
    unit: str,
    width: int = 3,
    height: int = 4,
    limit: Limit | None = None,
    decimals: int | None = None,
    sparkline: bool = True,
    low: float | None = 0,
    no_value: str = "No data",
    mappings: Sequence[Mapping[str, Any]] = (),
) -> Panel:
    """One number. It is coloured only when it has a *limit*: a tile without a judgement stays neutral."""
    defaults = defaults_of(unit, limit, no_value=no_value, low=low, decimals=decimals, mappings=mappings)
    judged = limit is not None or bool(mappings)
    defaults["color"] = {"mode": "thresholds"} if judged else {"mode": "fixed", "fixedColor": "blue"}
    options = {
        "colorMode": "value" if judged else "none",
        "graphMode": "area" if sparkline else "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        # One size for a line of tiles: left to itself, each number grows until its own tile is full.
        "text": {"valueSize": 30},
        "textMode": "value",
        # Beside the number, a line runs through what is longer than two digits.
        "wideLayout": False,
    }
    return panel_of(
        ident, "stat", title, _watched(about, limit), [query], defaults=defaults, options=options, size=(width, height)
    )


def bargauge(
    ident: int,
    title: str,
    about: str,
    query: Query,
    *,
    unit: str,
    width: int = 8,
    height: int = 8,
    limit: Limit | None = None,
    high: float | None = 1,
    decimals: int | None = 0,
    no_value: str = "No data",
    names_above: bool = False,
) -> Panel:
    """Bars that lie. Names that are long stand above their bars, where nothing cuts them."""
    defaults = defaults_of(unit, limit, no_value=no_value, low=0, high=high, decimals=decimals)
    defaults["color"] = {"mode": "thresholds"} if limit else {"mode": "fixed", "fixedColor": "blue"}
    options = {
        "displayMode": "basic",
        "maxVizHeight": 56 if names_above else 28,
        "minVizHeight": 16,
        "minVizWidth": 8,
        "namePlacement": "top" if names_above else "auto",
        "orientation": "horizontal",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "showUnfilled": True,
        "sizing": "auto",
        "text": {"titleSize": 14, "valueSize": 16},
        "valueMode": "color",
    }
    now = Query(query.expr, query.legend, now=True)
    about = _watched(about, limit)
    return panel_of(ident, "bargauge", title, about, [now], defaults=defaults, options=options, size=(width, height))


def table(
    ident: int,
    title: str,
    about: str,
    queries: Sequence[Query],
    columns: Sequence[Column],
    *,
    width: int = 12,
    height: int = 8,
    no_value: str = "No data",
    sort: tuple[str, bool] | None = None,
    hide: Sequence[str] = (),
) -> Panel:
    """
    A row for each label set, a column for each query; so every query gives the same labels, and no more than these.

    *columns* name what is shown, in order: a label, or ``Value`` (``Value #A``, ``Value #B`` with several queries).
    *hide* names what the queries give beside it. *sort* is a column's title and whether it descends.
    """
    now = [Query(q.expr, q.legend, now=True) for q in queries]
    shown = {c.source: i for i, c in enumerate(columns)}
    organize: dict[str, Any] = {
        "id": "organize",
        "options": {
            "excludeByName": dict.fromkeys(("Time", *hide), True),
            "includeByName": {},
            "indexByName": shown,
            "renameByName": {c.source: c.title for c in columns},
        },
    }
    transformations = [organize] if len(queries) == 1 else [{"id": "merge", "options": {}}, organize]
    defaults = defaults_of("", None, no_value=no_value, low=None)
    # Grafana's own least, 150, leaves a phone two columns, and no number among them.
    defaults["custom"] = {"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False, "minWidth": 90}
    options = {
        "cellHeight": "sm",
        "footer": {"countRows": False, "fields": "", "reducer": ["sum"], "show": False},
        "showHeader": True,
        "sortBy": [{"displayName": sort[0], "desc": sort[1]}] if sort else [],
    }
    overrides = [o for o in (_column_override(c) for c in columns) if o["properties"]]
    panel = panel_of(
        ident,
        "table",
        title,
        _watched(about, *(c.limit for c in columns)),
        now,
        defaults=defaults,
        options=options,
        size=(width, height),
        overrides=overrides,
    )
    for target in panel["targets"]:
        target["format"] = "table"
    panel["transformations"] = transformations
    return panel


def _watched(about: str, *limits: Limit | None) -> str:
    """*about*, and the alerts that own the *limits*."""
    alerts = dict.fromkeys(limit.alert for limit in limits if limit is not None and limit.alert)
    return f"{about} {alerted(*alerts)}" if alerts else about


def _column_override(column: Column) -> dict[str, Any]:
    properties: list[dict[str, Any]] = []
    if column.unit:
        properties.append({"id": "unit", "value": column.unit})
    if column.decimals is not None:
        properties.append({"id": "decimals", "value": column.decimals})
    if column.limit is not None:
        properties.append({"id": "thresholds", "value": steps(column.limit)})
    mappings = list(column.mappings)
    if column.limit is not None and column.no_value:
        # What is not there has not kept the limit either.
        result = {"color": "text", "index": len(mappings), "text": column.no_value}
        mappings.append({"type": "special", "options": {"match": "null+nan", "result": result}})
    if mappings:
        properties.append({"id": "mappings", "value": mappings})
    if column.limit is not None or mappings:
        properties.append({"id": "custom.cellOptions", "value": {"type": "color-text"}})
    if column.no_value:
        properties.append({"id": "noValue", "value": column.no_value})
    if column.width is not None:
        properties.append({"id": "custom.width", "value": column.width})
    return {"matcher": {"id": "byName", "options": column.title}, "properties": properties}


def defaults_of(
    unit: str,
    limit: Limit | None,
    *,
    no_value: str,
    low: float | None = None,
    high: float | None = None,
    decimals: int | None = None,
    mappings: Iterable[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    found: dict[str, Any] = {"mappings": list(mappings), "noValue": no_value, "thresholds": steps(limit)}
    optional = {"unit": unit or None, "min": low, "max": high, "decimals": decimals}
    return found | {key: value for key, value in optional.items() if value is not None}


def panel_of(
    ident: int,
    kind: str,
    title: str,
    about: str,
    queries: Sequence[Query],
    *,
    defaults: Mapping[str, Any],
    options: Mapping[str, Any],
    size: tuple[int, int],
    overrides: Sequence[Mapping[str, Any]] = (),
    interval: str = "",
) -> Panel:
    names = list(dict.fromkeys(name for q in queries for name in metric_names(q.expr)))
    listed = ", ".join(f"`{name}`" for name in names)
    watching = dict.fromkeys(name for told in _ALERTED.findall(about) for name in told.split(", "))
    panel = {
        "id": ident,
        "type": kind,
        "title": title,
        "description": f"{about} {'Metric' if len(names) == 1 else 'Metrics'}: {listed}.",
        "datasource": DATASOURCE,
        "gridPos": {"h": size[1], "w": size[0], "x": 0, "y": 0},
        "fieldConfig": {"defaults": dict(defaults), "overrides": list(overrides)},
        "options": dict(options),
        "targets": [_target(q, chr(ord("A") + i)) for i, q in enumerate(queries)],
    }
    if watching:
        panel["links"] = [runbook_link(f"Runbook: {name}", name) for name in watching]
    return panel | {"interval": interval} if interval else panel


def _target(query: Query, ref: str) -> dict[str, Any]:
    return {
        "datasource": DATASOURCE,
        "editorMode": "code",
        "expr": query.expr,
        "instant": query.now,
        "legendFormat": query.legend or "__auto",
        "range": not query.now,
        "refId": ref,
    }
