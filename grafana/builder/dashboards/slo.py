"""SLOs: is what was promised kept, and how fast is what may fail used up? Names are Sloth's."""

from typing import Any

from grafana.builder.dashboards.shared import annotations
from grafana.builder.layout import Row, dashboard, label_variable
from grafana.builder.overrides import color_by_name
from grafana.builder.panels import (
    MULTIPLE,
    TABLE_HEIGHT,
    Column,
    Panel,
    Query,
    alerted,
    bargauge,
    stat,
    table,
    timeseries,
)
from grafana.builder.promql import aggregate, select
from grafana.builder.thresholds import BUDGET_LEFT, BURN_RATE

SLO = 'sloth_service=~"$service", sloth_slo=~"$slo"'
ID = ("sloth_service", "sloth_slo")
NAME = "{{sloth_slo}} {{sloth_service}}"
# Those of prometheus/slo.yml; one that is added has what the palette gives.
COLORS = {"availability": "blue", "latency": "purple", "time-to-first-chunk": "super-light-blue", "voice": "orange"}
NO_SLO = "No objective has traffic yet"
LEFT = "slo:period_error_budget_remaining:ratio"
BURN = "slo:current_burn_rate:ratio"
OBJECTIVE = "slo:objective:ratio"
ALERTS = alerted("LLMErrorBudgetBurn", "LLMLatencyBudgetBurn", "LLMTimeToFirstTokenBudgetBurn", "LLMVoiceBudgetBurn")
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")


def build() -> dict[str, Any]:
    rows = [
        Row(1, "", _first_line()),
        Row(100, "What was promised (prometheus/slo.yml)", _objectives()),
        Row(200, "Burning", _burning()),
        Row(300, "What is counted", _events()),
    ]
    return dashboard(
        "llmvitals-slo",
        "llmvitals / SLOs",
        "Is what was promised kept, and how fast is what may fail used up?",
        variables=[
            label_variable("service", "Service", "slo:objective:ratio", "sloth_service"),
            label_variable("slo", "Objective", 'slo:objective:ratio{sloth_service=~"$service"}', "sloth_slo"),
        ],
        annotations=annotations(),
        rows=rows,
    )


def _by(name: str) -> str:
    return aggregate("max", select(name, SLO), *ID)


def _error(window: str) -> str:
    return _by(f"slo:sli_error:ratio_rate{window}")


def _first_line() -> list[Panel]:
    firing = select("ALERTS", 'alertname=~".+BudgetBurn"', 'alertstate="firing"')
    return [
        stat(
            2,
            "Budget left",
            "Of the period, of the objective that has least; below zero the promise is broken.",
            Query(aggregate("min", _by(LEFT))),
            unit="percentunit",
            low=None,
            decimals=1,
            width=6,
            limit=BUDGET_LEFT,
            no_value=NO_SLO,
        ),
        stat(
            3,
            "Burn rate",
            "Over five minutes, of the worst objective: at 1 the budget lasts just for its period.",
            Query(aggregate("max", _by(BURN))),
            unit=MULTIPLE,
            decimals=1,
            width=6,
            limit=BURN_RATE,
            no_value=NO_SLO,
        ),
        stat(
            4,
            "Kept",
            "Objectives whose budget is not used up.",
            Query(f"count({_by(LEFT)} > 0) or 0 * count({_by(OBJECTIVE)})"),
            unit="none",
            width=6,
            no_value=NO_SLO,
        ),
        stat(
            5,
            "Burning now",
            f"Alerts about budgets that fire. {ALERTS}",
            Query(f"count({firing}) or vector(0)"),
            unit="none",
            width=6,
        ),
    ]


def _objectives() -> list[Panel]:
    return [
        table(
            101,
            "Objectives",
            f"What was promised, what was kept, and what is left of the budget. {ALERTS}",
            [
                Query(_by(OBJECTIVE)),
                Query(f"1 - {_error('30d')}"),
                Query(_by(LEFT)),
                Query(_by(BURN)),
                Query(_by("slo:period_burn_rate:ratio")),
                Query(_by("slo:time_period:days")),
            ],
            [
                Column("sloth_slo", "Objective", width=150),
                Column("Value #C", "Budget left", unit="percentunit", decimals=1, limit=BUDGET_LEFT, width=120),
                Column("Value #A", "Promised", unit="percentunit", decimals=2),
                Column("Value #B", "Kept", unit="percentunit", decimals=3),
                Column("Value #D", "Burns now", unit=MULTIPLE, decimals=2, limit=BURN_RATE),
                Column("Value #E", "Burnt in the period", unit=MULTIPLE, decimals=2),
                Column("Value #F", "Days", unit="none", decimals=0),
                Column("sloth_service", "Service", width=110),
            ],
            width=24,
            height=7,
            no_value=NO_SLO,
            sort=("Budget left", False),
        ),
    ]


def _burning() -> list[Panel]:
    burn = [
        Query(f"{_error(window)} / on (sloth_service, sloth_slo) {_by('slo:error_budget:ratio')}") for window in WINDOWS
    ]
    return [
        timeseries(
            201,
            "Burn rate over five minutes",
            "At 1 the budget lasts just for its period; the dashed line is where it is gone in two days.",
            [Query(_by(BURN), NAME)],
            unit=MULTIPLE,
            legend_table=True,
            limit=BURN_RATE,
            soft_high=2,
            overrides=color_by_name(COLORS),
            no_value=NO_SLO,
        ),
        timeseries(
            202,
            "Budget over time",
            "What is left of the period's; below zero the promise is broken.",
            [Query(_by(LEFT), NAME)],
            unit="percentunit",
            legend_table=True,
            low=None,
            high=1,
            limit=BUDGET_LEFT,
            overrides=color_by_name(COLORS),
            no_value=NO_SLO,
        ),
        bargauge(
            102,
            "Budget that is left",
            "Of the period.",
            Query(_by(LEFT), NAME),
            unit="percentunit",
            height=TABLE_HEIGHT,
            decimals=1,
            limit=BUDGET_LEFT,
            names_above=True,
            no_value=NO_SLO,
        ),
        table(
            203,
            "Burn rate by window",
            "A page: 5m and 1h above 14.4, or 30m and 6h above 6. A ticket: 2h and 1d above 3, or 6h and 3d above 1. "
            f"{ALERTS}",
            burn,
            [
                Column("sloth_slo", "Objective", width=150),
                *(
                    Column(f"Value #{chr(ord('A') + i)}", window, unit=MULTIPLE, decimals=2)
                    for i, window in enumerate(WINDOWS)
                ),
                Column("sloth_service", "Service", width=110),
            ],
            width=24,
            height=7,
            no_value=NO_SLO,
            sort=("Objective", False),
        ),
    ]


def _events() -> list[Panel]:
    return [
        timeseries(
            301,
            "Share of bad events",
            "Over five minutes.",
            [Query(_error("5m"), NAME)],
            unit="percentunit",
            legend_table=True,
            soft_high=0.01,
            overrides=color_by_name(COLORS),
            no_value=NO_SLO,
        ),
        timeseries(
            302,
            "Events",
            "That count for an objective, per second.",
            [Query(_by("slo:sli_events:rate1m"), NAME)],
            unit="eps",
            decimals=2,
            legend_table=True,
            overrides=color_by_name(COLORS),
            no_value=NO_SLO,
        ),
        timeseries(
            303,
            "Bad events",
            "Per second.",
            [Query(_by("slo:sli_bad_events:rate1m"), NAME)],
            unit="eps",
            decimals=2,
            legend_table=True,
            soft_high=0.1,
            overrides=color_by_name(COLORS),
            no_value=NO_SLO,
        ),
    ]
