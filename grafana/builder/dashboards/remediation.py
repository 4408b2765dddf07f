"""Remediation: what was done about the trouble, how soon, did it help, and what held it back?"""

from typing import Any

from grafana.builder.dashboards.remediation_service import BAR, BAR_WINDOW, HANDLER, PREFIX, service_rows
from grafana.builder.dashboards.shared import annotations
from grafana.builder.layout import Row, dashboard, label_variable
from grafana.builder.overrides import QUANTILE_COLORS, color_by_name, value_map
from grafana.builder.panels import Column, Panel, Query, stat, table, timeseries
from grafana.builder.promql import aggregate, increase, quantile, select, total
from grafana.builder.thresholds import (
    ANY_IS_WARNING,
    RECONCILE_AGE,
    WATCHDOG_AGE,
)

ACTION_TIME = f"{PREFIX}time_to_action_seconds"
PROOF_TIME = f"{PREFIX}time_to_proof_seconds"

# Remediations are rare: a quantile looks back half an hour.
LOOK_BACK = "30m"

OUTCOMES = {
    "remediated": "green",
    "self_resolved": "blue",
    "shadow": "purple",
    "vetoed": "super-light-blue",
    "expired": "yellow",
    "escalated": "orange",
    "exhausted": "red",
}
STATES = {
    "open": "orange",
    "gated": "yellow",
    "awaiting_approval": "purple",
    "scheduled": "super-light-blue",
    "executing": "blue",
    "verifying": "dark-blue",
    "holding": "green",
}
VERDICTS = {"effective": "green", "ineffective": "yellow", "inconclusive": "blue", "failed": "red", "unknown": "purple"}


def build() -> dict[str, Any]:
    rows = [
        Row(1, "", _first_line()),
        Row(100, "Incidents", _incidents()),
        Row(200, "From alert to proof", _times()),
        *service_rows(),
    ]
    return dashboard(
        "llmvitals-remediation",
        "llmvitals / Remediation",
        "What was done about the trouble, how soon, did it help, and what held it back?",
        variables=[label_variable("handler", "Handler", f"{PREFIX}handler_mode", "handler")],
        annotations=annotations(),
        rows=rows,
    )


def _first_line() -> list[Panel]:
    switch = value_map({0: ("Off", "green"), 1: ("ENGAGED", "red")})
    return [
        stat(
            2,
            "Open incidents",
            "Incidents that are not closed, held ones among them.",
            Query(total(select(f"{PREFIX}incidents"))),
            unit="short",
            no_value="No data",
        ),
        stat(
            3,
            "Proven actions",
            "Attempts in the chosen time whose proof held.",
            Query(total(increase(f"{PREFIX}attempts_total", HANDLER, 'verdict="effective"')) + " or vector(0)"),
            unit="short",
            decimals=0,
            sparkline=False,
        ),
        stat(
            4,
            "To action p95",
            "95 of 100 actions began sooner after their alert did; of the slowest handler.",
            Query(aggregate("max", _over_range(0.95, ACTION_TIME))),
            unit="s",
            sparkline=False,
            no_value="No actions",
        ),
        stat(
            5,
            "To proof p95",
            "95 of 100 actions were proven sooner; of the slowest handler.",
            Query(aggregate("max", _over_range(0.95, PROOF_TIME))),
            unit="s",
            sparkline=False,
            no_value="No proofs",
        ),
        stat(
            6,
            "Kill switch",
            "Engaged, it stops every action.",
            Query(aggregate("max", select(f"{PREFIX}kill_switch"))),
            unit="short",
            mappings=switch,
            sparkline=False,
        ),
        stat(
            7,
            "Breakers open",
            "Handlers that failed on a service too often, and rest.",
            Query(total(select(f"{PREFIX}breaker_open", HANDLER)) + " or vector(0)"),
            unit="short",
            limit=ANY_IS_WARNING,
            sparkline=False,
        ),
        stat(
            8,
            "Watchdog",
            "Time since Alertmanager last proved that alerts arrive.",
            Query(_age("watchdog_last_seen_timestamp_seconds")),
            unit="dthms",
            limit=WATCHDOG_AGE,
            no_value="Never seen",
        ),
        stat(
            9,
            "Reconciled",
            "Time since incidents were last compared with Alertmanager and Prometheus.",
            Query(_age("reconcile_last_success_timestamp_seconds")),
            unit="dthms",
            limit=RECONCILE_AGE,
            no_value="Never",
        ),
    ]


def _incidents() -> list[Panel]:
    return [
        timeseries(
            101,
            "Open incidents by state",
            "Held: the change helped, and stays until the trouble is over.",
            [Query(total(select(f"{PREFIX}incidents"), "state"), "{{state}}")],
            unit="short",
            stacked=True,
            stepped=True,
            decimals=0,
            soft_high=3,
            overrides=color_by_name(STATES),
            no_value="No incidents",
        ),
        timeseries(
            102,
            "Closed incidents by outcome",
            "Incidents that were closed, a bar a minute.",
            [
                Query(
                    total(increase(f"{PREFIX}incidents_closed_total", HANDLER, window=BAR_WINDOW), "outcome"),
                    "{{outcome}}",
                )
            ],
            unit="short",
            stacked=True,
            bars=True,
            decimals=0,
            interval=BAR,
            soft_high=3,
            overrides=color_by_name(OUTCOMES),
            no_value="None closed",
        ),
        timeseries(
            103,
            "Attempts by verdict",
            "What the proof said after each attempt, a bar a minute.",
            [Query(total(increase(f"{PREFIX}attempts_total", HANDLER, window=BAR_WINDOW), "verdict"), "{{verdict}}")],
            unit="short",
            stacked=True,
            bars=True,
            decimals=0,
            interval=BAR,
            soft_high=3,
            overrides=color_by_name(VERDICTS),
            no_value="No attempts",
        ),
    ]


def _times() -> list[Panel]:
    colors = color_by_name(QUANTILE_COLORS)

    def lines(histogram: str) -> list[Query]:
        return [
            Query(quantile(q, histogram, HANDLER, by=("job",), window=LOOK_BACK), f"p{q * 100:g}")
            for q in (0.5, 0.95, 0.99)
        ]

    return [
        timeseries(
            201,
            "From alert to action",
            "From the moment the alert began to the act, over the last half hour.",
            lines(ACTION_TIME),
            unit="s",
            overrides=colors,
            width=6,
            no_value="No actions",
        ),
        timeseries(
            202,
            "From action to proof",
            "From the act to the moment Prometheus showed that it helped, over the last half hour.",
            lines(PROOF_TIME),
            unit="s",
            overrides=colors,
            width=6,
            no_value="No proofs",
        ),
        table(
            203,
            "By handler",
            "Times and counts over the chosen range.",
            [
                Query(_over_range(0.5, ACTION_TIME)),
                Query(_over_range(0.95, ACTION_TIME)),
                Query(_over_range(0.95, PROOF_TIME)),
                Query(total(increase(f"{PREFIX}attempts_total", HANDLER), "job", "handler")),
                Query(total(increase(f"{PREFIX}relapses_total", HANDLER), "job", "handler")),
            ],
            [
                Column("handler", "Handler", width=150),
                Column("Value #A", "Act p50", unit="s", no_value="-"),
                Column("Value #B", "Act p95", unit="s", no_value="-"),
                Column("Value #C", "Proof p95", unit="s", no_value="-"),
                Column("Value #D", "Attempts", unit="short", decimals=0),
                Column("Value #E", "Relapses", unit="short", decimals=0),
            ],
            width=12,
            no_value="Nothing was done yet",
            sort=("Handler", False),
            hide=("job",),
        ),
    ]


def _over_range(q: float, histogram: str) -> str:
    return quantile(q, histogram, HANDLER, by=("job", "handler"), window="$__range")


def _age(name: str) -> str:
    return f"time() - {aggregate('max', select(PREFIX + name) + ' > 0')}"
