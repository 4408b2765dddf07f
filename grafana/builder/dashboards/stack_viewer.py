"""The panels about the dashboards themselves: what the embedded viewer asks of Prometheus."""

from grafana.builder.dashboards.shared import quantiles
from grafana.builder.overrides import QUANTILE_COLORS, color_by_name
from grafana.builder.panels import Panel, Query, alerted, timeseries
from grafana.builder.promql import SERVICE, rate, select, total

_VIEWER = "llmvitals_viewer"
_GRAFANA = "Nobody asked, or Grafana draws"
_RESULTS = {
    "answered": "blue",
    "aborted": "purple",
    "error": "orange",
    "timeout": "red",
    "too_large": "super-light-blue",
    "unreachable": "dark-red",
}
_REASONS = {"size": "blue", "time": "orange", "path": "purple", "site": "red"}


def dashboards_viewer() -> list[Panel]:
    results = f"{total(rate(f'{_VIEWER}_queries_total', SERVICE), 'result')} > 0"
    return [
        timeseries(
            501,
            "Questions of dashboards",
            f"Per second, by what became of them; who leaves a page takes its own along (aborted). "
            f"{alerted('GrafanaDown')}",
            [Query(results, "{{result}}")],
            unit="ops",
            width=6,
            soft_high=1,
            overrides=color_by_name(_RESULTS),
            no_value=_GRAFANA,
        ),
        timeseries(
            502,
            "Time to an answer",
            "Of Prometheus, as a page waits for it, its turn included.",
            quantiles(f"{_VIEWER}_query_duration_seconds", SERVICE, legend=""),
            unit="s",
            width=6,
            overrides=color_by_name(QUANTILE_COLORS),
            no_value=_GRAFANA,
        ),
        timeseries(
            503,
            "Questions in flight",
            "Being answered or waiting for their turn: eight are asked at once.",
            [Query(total(select(f"{_VIEWER}_queries_in_flight", SERVICE), "instance"), "{{instance}}")],
            unit="short",
            width=6,
            decimals=0,
            soft_high=8,
            single=True,
            no_value=_GRAFANA,
        ),
        timeseries(
            504,
            "Questions refused",
            "Per second, before Prometheus is asked: too large, too slow to come, another path, another site's page.",
            [Query(total(rate(f"{_VIEWER}_refused_total", SERVICE), "reason"), "{{reason}}")],
            unit="ops",
            width=6,
            soft_high=0.1,
            overrides=color_by_name(_REASONS),
            no_value=_GRAFANA,
        ),
    ]
