"""
Overview: is it well, and if not, where? Traffic and errors first, then time, then what runs full.

It reads what is recorded for each service, of all its instances together or of the worst one: a day of a thousand
instances would not be drawn within a second otherwise, nor could a person read a thousand lines. Which instance it is,
the dashboards of each subject tell.
"""

from typing import Any

from grafana.builder.dashboards.application import application_rows
from grafana.builder.dashboards.machine import machine_rows
from grafana.builder.dashboards.shared import (
    ALERTS_FIRING,
    CLIENT,
    JOB,
    JOB_ERRORS,
    JOB_ERRORS_BY_TYPE,
    JOB_REQUESTS,
    JOB_TOKENS,
    QUANTILES,
    annotations,
)
from grafana.builder.layout import Row, dashboard, label_variable
from grafana.builder.overrides import QUANTILE_COLORS, color_by_name, dashed
from grafana.builder.panels import MULTIPLE, Panel, Query, stat, timeseries
from grafana.builder.promql import aggregate, ratio, select, total
from grafana.builder.thresholds import ANY_IS_BAD, ERROR_RATIO, MEMORY_RATIO, USER_PROFILES

DURATION = "llm:duration_seconds"
FIRST_CHUNK = "llm:ttft_seconds"


def build() -> dict[str, Any]:
    rows = [
        Row(1, "", _first_line()),
        Row(100, "Traffic and errors", _traffic()),
        Row(200, "Latency", _latency()),
        *application_rows(),
        *machine_rows(),
    ]
    return dashboard(
        "llmvitals-overview",
        "llmvitals / Overview",
        "Is every LLM application well, and if not, where does it hurt?",
        variables=[label_variable("job", "Service", "up", "job")],
        annotations=annotations(),
        rows=rows,
    )


def _first_line() -> list[Panel]:
    calls = total(select(JOB_REQUESTS, JOB, CLIENT))
    failed = total(select(JOB_ERRORS, JOB, CLIENT))
    firing = total(select(ALERTS_FIRING))
    return [
        stat(2, "Requests", "LLM calls per second, all services.", Query(calls), unit="reqps", decimals=2),
        stat(
            3,
            "Errors",
            "Share of the calls that failed, whatever the reason.",
            Query(_share(failed, calls)),
            unit="percentunit",
            limit=ERROR_RATIO,
            decimals=1,
            no_value="No traffic",
        ),
        stat(
            4,
            "Duration p95",
            "95 of 100 calls are faster; of the slowest service.",
            Query(aggregate("max", select(f"{DURATION}:p95", JOB, CLIENT))),
            unit="s",
            no_value="No traffic",
        ),
        stat(
            5,
            "First chunk p95",
            "Wait for the first piece of a streamed answer; of the slowest service.",
            Query(aggregate("max", select(f"{FIRST_CHUNK}:p95", JOB, CLIENT))),
            unit="s",
            no_value="No streams",
        ),
        stat(
            6,
            "Tokens",
            "Tokens read and written per second.",
            Query(total(select(JOB_TOKENS, JOB, CLIENT))),
            unit="suffix:tok/s",
            decimals=0,
            no_value="No traffic",
        ),
        stat(
            7,
            "Profiles in use",
            "Profiles held in memory, as a share of the application's own limit; of the worst instance.",
            Query(aggregate("max", select("job:llmvitals_user_profiles:max_ratio", JOB))),
            unit="percentunit",
            limit=USER_PROFILES,
            decimals=0,
            no_value="No profiles",
        ),
        stat(
            8,
            "Memory ratio",
            "Resident memory against the baseline that the process took after its start; of the worst instance.",
            Query(aggregate("max", select("job:llmvitals_memory_baseline_ratio:max", JOB))),
            unit=MULTIPLE,
            limit=MEMORY_RATIO,
            decimals=2,
            no_value="No baseline",
        ),
        stat(
            9,
            "Firing alerts",
            "Alerts that fire now, the Watchdog left out.",
            Query(f"{firing} or vector(0)"),
            unit="short",
            limit=ANY_IS_BAD,
        ),
    ]


def _traffic() -> list[Panel]:
    calls = select(JOB_REQUESTS, JOB, CLIENT)
    failed = select(JOB_ERRORS, JOB, CLIENT)
    by_type = select(JOB_ERRORS_BY_TYPE, JOB, CLIENT)
    by = ("job", "provider")
    return [
        timeseries(
            101,
            "Requests by provider and model",
            "LLM calls per second.",
            [Query(total(calls, "provider", "model"), "{{provider}} {{model}}")],
            unit="reqps",
            stacked=True,
        ),
        timeseries(
            102,
            "Failed calls by error",
            "Calls per second that ended in an error, by the error's type.",
            [Query(total(by_type, "provider", "error_type"), "{{provider}} {{error_type}}")],
            unit="reqps",
            stacked=True,
            soft_high=0.1,
            no_value="No errors",
        ),
        timeseries(
            103,
            "Error ratio by provider",
            "Share of the calls that failed; the dashed line is the alert's.",
            [Query(_share(total(failed, *by), total(calls, *by)), "{{job}} {{provider}}")],
            unit="percentunit",
            limit=ERROR_RATIO,
            soft_high=0.1,
            no_value="No traffic",
        ),
    ]


def _share(failed: str, calls: str) -> str:
    """Where rules are late, the two may be of two evaluations: some failures would seem to be more than all calls."""
    return f"clamp_max({ratio(failed, calls)}, 1)"


def _quantiles(recorded: str) -> list[Query]:
    names = [f"p{q * 100:g}" for q in QUANTILES]
    return [Query(select(f"{recorded}:{name}", JOB, CLIENT), f"{name} {{{{job}}}}") for name in names]


def _latency() -> list[Panel]:
    colors = color_by_name(QUANTILE_COLORS)

    return [
        timeseries(
            201,
            "Call duration",
            "From the request to the last byte of the answer.",
            _quantiles(DURATION),
            unit="s",
            overrides=colors,
            no_value="No traffic",
        ),
        timeseries(
            202,
            "Time to first chunk",
            "How long a person waits before a streamed answer begins.",
            _quantiles(FIRST_CHUNK),
            unit="s",
            overrides=colors,
            no_value="No streams",
        ),
        timeseries(
            203,
            "Operations p95 and their targets",
            "The application's own units of work; dashed is the target that LLMLatencyHigh watches.",
            [
                Query(select("job:llmvitals_operation_duration_seconds:p95", JOB), "{{job}} {{operation}}"),
                Query(select("job:llmvitals_operation_target_seconds:max", JOB), "target {{job}} {{operation}}"),
            ],
            unit="s",
            overrides=[dashed("target", "yellow")],
            no_value="No operations",
        ),
        timeseries(
            204,
            "Tokens by kind",
            "Tokens per second, by model and by input or output.",
            [
                Query(
                    total(select(JOB_TOKENS, JOB, CLIENT), "model", "direction"),
                    "{{model}} {{direction}}",
                )
            ],
            unit="suffix:tok/s",
            no_value="No traffic",
        ),
        timeseries(
            205,
            "Calls in flight",
            "Calls that wait for their answer now.",
            [Query(select("job:llmvitals_calls_in_flight:sum", JOB), "{{job}} {{gen_ai_request_model}}")],
            unit="short",
        ),
        timeseries(
            206,
            "Ends of streams",
            "Streams per second, by what ended them.",
            [Query(total(select("job:llmvitals_stream_ends:rate1m", JOB), "reason"), "{{reason}}")],
            unit="ops",
            stacked=True,
            no_value="No streams",
        ),
    ]
