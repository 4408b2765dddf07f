"""A dashboard with every panel type that the viewer draws, on the fake services' metrics."""

from collections.abc import Mapping, Sequence
from typing import Any

from grafana.builder.panels import DATASOURCE

UID = "gallery"
_STEPS = {
    "mode": "absolute",
    "steps": [
        {"color": "green", "value": None},
        {"color": "yellow", "value": 0.5},
        {"color": "red", "value": 0.9},
    ],
}
_STATES = [
    {"type": "value", "options": {"0": {"text": "Closed", "color": "green"}, "1": {"text": "Open", "color": "red"}}}
]
_DURATION = "gen_ai_client_operation_duration_seconds"


def _panel(ident: int, kind: str, title: str, expr: str, **more: Any) -> dict[str, Any]:
    column, line = (ident - 1) % 2, (ident - 1) // 2
    target = {"refId": "A", "expr": expr, "datasource": DATASOURCE} | more.pop("target", {})
    defaults = {"unit": "short", "mappings": [], "thresholds": _STEPS, "color": {"mode": "thresholds"}}
    return {
        "id": ident,
        "type": kind,
        "title": title,
        "gridPos": {"x": 12 * column, "y": 8 * line, "w": 12, "h": 8},
        "fieldConfig": {"defaults": defaults | more.pop("defaults", {}), "overrides": []},
        "options": {},
        "targets": [target],
    } | more


def panels() -> list[dict[str, Any]]:
    palette = {"color": {"mode": "palette-classic"}}
    buckets = f'sum by (le) (rate({_DURATION}_bucket{{job=~"$job"}}[$__rate_interval]))'
    states = 'llmvitals_circuit_breaker_state{state="open"}'
    share = "llmvitals_cache_entries / llmvitals_cache_max_entries"
    named: Mapping[str, Any] = {"legendFormat": "{{name}}"}
    calls = f"sum by (gen_ai_request_model, gen_ai_provider_name) (rate({_DURATION}_count[$__rate_interval]))"
    by_model = {"legendFormat": "{{gen_ai_provider_name}} {{gen_ai_request_model}}", "instant": True}
    cache = {"legendFormat": "{{cache}}", "instant": True}
    return [
        _panel(
            1,
            "timeseries",
            "Lines for $job",
            "llmvitals_memory_baseline_ratio",
            defaults=palette,
            description="A **line**, and what it is.",
            links=[{"title": "Elsewhere", "url": "/d/llmvitals-overview?${__url_time_range}&${job:queryparam}"}],
        ),
        _panel(
            2,
            "heatmap",
            "Durations",
            buckets,
            target={"format": "heatmap", "legendFormat": "{{le}}"},
            defaults={"unit": "s"},
            options={"color": {"scheme": "Oranges", "steps": 64}, "yAxis": {"unit": "s"}},
        ),
        _panel(3, "gauge", "Fill", share, target=cache, defaults={"unit": "percentunit", "max": 1, "min": 0}),
        _panel(
            4,
            "state-timeline",
            "Breakers",
            states,
            target=named,
            defaults={"mappings": _STATES},
            options={"rowHeight": 0.8},
        ),
        _panel(
            5,
            "piechart",
            "Shares",
            calls,
            target=by_model,
            defaults=palette | {"unit": "reqps"},
            options={"pieType": "donut", "legend": {"displayMode": "table", "values": ["value", "percent"]}},
        ),
        _panel(6, "status-history", "Breakers apart", states, target=named, defaults={"mappings": _STATES}),
        _panel(7, "stat", "One number", "llmvitals_cache_entries", target={"legendFormat": "{{cache}}"}),
        _panel(8, "bargauge", "Bars", share, target=cache, defaults={"unit": "percentunit", "max": 1, "min": 0}),
        _panel(9, "table", "Rows", "up", target={"format": "table", "instant": True}),
        _panel(10, "text", "Words", "", options={"mode": "markdown", "content": "Some *words*."}, targets=[]),
        _panel(
            11,
            "timeseries",
            "Calls in a table",
            calls,
            target=by_model | {"instant": False},
            defaults=palette | {"unit": "reqps"},
            options={"legend": {"displayMode": "table", "calcs": ["mean", "max", "lastNotNull"]}},
        ),
    ]


def dashboard(chosen: Sequence[Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """The panels, or those given; with a variable, an annotation, a link, and a row that the file folds."""
    shown = list(panels() if chosen is None else chosen)
    inside = _panel(40, "stat", "In the folded row", "llmvitals_cache_entries") | {
        "gridPos": {"x": 0, "y": 51, "w": 12, "h": 4}
    }
    row = {"id": 39, "type": "row", "title": "Folded", "collapsed": True, "panels": [inside]}
    after = {"id": 41, "type": "row", "title": "After", "collapsed": False, "panels": []}
    variable = {
        "name": "job",
        "label": "Job",
        "type": "query",
        "definition": "label_values(up, job)",
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
    }
    one = {
        "name": "quantile",
        "label": "Quantile",
        "type": "custom",
        "query": "0.5,0.95,0.99",
        "current": {"value": "0.95"},
    }
    link = {"type": "link", "title": "Runbook", "url": "/d/llmvitals-overview", "keepTime": True, "includeVars": True}
    return {
        "uid": UID,
        "title": "llmvitals / Gallery",
        "description": "Does the viewer draw each panel? It should.",
        "tags": ["llmvitals"],
        "time": {"from": "now-5m", "to": "now"},
        "links": [link],
        "annotations": {
            "list": [
                {
                    "name": "Closed",
                    "enable": True,
                    "iconColor": "blue",
                    "target": {"expr": "changes(llmvitals_remediation_incidents_closed_total[15s]) > 0"},
                    "titleFormat": "Closed by {{handler}}",
                    "textFormat": "",
                }
            ]
        },
        "templating": {"list": [variable, one]},
        "panels": [
            *shown,
            row | {"gridPos": {"x": 0, "y": 50, "w": 24, "h": 1}},
            after | {"gridPos": {"x": 0, "y": 51, "w": 24, "h": 1}},
        ],
    }
