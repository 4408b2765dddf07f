"""The rows of the Remediation dashboard about the service: what it decided against, and how it is itself."""

from grafana.builder.layout import Row
from grafana.builder.overrides import color_by_name
from grafana.builder.panels import Column, Panel, Query, table, timeseries
from grafana.builder.promql import aggregate, increase, rate, select, total
from grafana.builder.thresholds import INBOX_AGE

HANDLER = 'handler=~"$handler"'
PREFIX = "llmvitals_remediation_"

# Remediations are rare: a bar is a minute, whatever the zoom.
BAR = "1m"
BAR_WINDOW = "$__interval"

DELIVERIES = {"accepted": "blue", "duplicate": "super-light-blue", "quarantined": "orange", "rejected": "red"}


def service_rows() -> list[Row]:
    return [Row(300, "Decisions", _decisions()), Row(400, "The service itself", _service())]


def _decisions() -> list[Panel]:
    modes = select(f"{PREFIX}handler_mode", HANDLER)
    return [
        timeseries(
            301,
            "Refusals by gate",
            "Acts that a gate held back, a bar a minute.",
            [Query(total(increase(f"{PREFIX}gate_refusals_total", HANDLER, window=BAR_WINDOW), "gate"), "{{gate}}")],
            unit="short",
            stacked=True,
            bars=True,
            decimals=0,
            interval=BAR,
            soft_high=3,
            no_value="No refusals",
        ),
        timeseries(
            302,
            "Breakers and slots",
            "Breakers that rest a handler on a service, and actions that run at this moment.",
            [
                Query(
                    total(select(f"{PREFIX}breaker_open", HANDLER), "handler", "service") + " > 0",
                    "breaker {{handler}} {{service}}",
                ),
                Query(total(select(f"{PREFIX}slots_in_use")), "slots in use"),
            ],
            unit="short",
            stepped=True,
            decimals=0,
            soft_high=3,
            overrides=color_by_name({"slots": "blue"}),
        ),
        table(
            303,
            "Modes",
            "Off does nothing, observe only says what it would do, approve asks a person, auto acts.",
            [Query(aggregate("max", f"{modes} == 1", "handler", "mode"))],
            [Column("handler", "Handler"), Column("mode", "Mode")],
            width=8,
            sort=("Handler", False),
            hide=("Value",),
        ),
    ]


def _service() -> list[Panel]:
    return [
        timeseries(
            401,
            "Deliveries by result",
            "Webhooks per second from Alertmanager.",
            [Query(total(rate(f"{PREFIX}deliveries_total"), "result"), "{{result}}")],
            unit="reqps",
            soft_high=0.1,
            overrides=color_by_name(DELIVERIES),
            no_value="No deliveries",
        ),
        timeseries(
            402,
            "Inbox",
            "Events that are stored and that nothing has looked at yet.",
            [Query(total(select(f"{PREFIX}inbox_depth")), "waiting")],
            unit="short",
            decimals=0,
            soft_high=10,
            single=True,
        ),
        timeseries(
            403,
            "Oldest in the inbox",
            "How long the oldest event waits; the dashed line is the alert's.",
            [Query(aggregate("max", select(f"{PREFIX}inbox_oldest_seconds")), "oldest")],
            unit="s",
            limit=INBOX_AGE,
            soft_high=40,
            single=True,
        ),
        timeseries(
            404,
            "Agents",
            "Applications whose agent asked for commands in the last 45 s.",
            [Query(total(select(f"{PREFIX}agents_connected")), "connected")],
            unit="short",
            stepped=True,
            decimals=0,
            soft_high=3,
            width=12,
            single=True,
        ),
        timeseries(
            405,
            "Errors inside",
            "Faults of the service's own parts per second, and firing alerts that no webhook had brought.",
            [
                Query(total(rate(f"{PREFIX}handler_errors_total"), "component"), "{{component}}"),
                Query(total(rate(f"{PREFIX}reconcile_found_total")), "found by reconciling"),
            ],
            unit="ops",
            soft_high=0.1,
            width=12,
            overrides=color_by_name({".*": "orange", "found": "blue"}),
            no_value="No errors",
        ),
    ]
