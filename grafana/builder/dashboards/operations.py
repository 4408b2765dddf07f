"""Operations and voice: is each of the application's own units of work as quick and as reliable as it should be?"""

from typing import Any

from grafana.builder.dashboards.operations_memory import memory_rows
from grafana.builder.dashboards.operations_tools import tools_row
from grafana.builder.dashboards.shared import annotations, own_spread, service_variables, worst
from grafana.builder.layout import Row, dashboard
from grafana.builder.overrides import color_by_name, dashed, value_map
from grafana.builder.panels import MULTIPLE, TABLE_HEIGHT, Panel, Query, alerted, bargauge, stat, timeseries
from grafana.builder.pictures import state_timeline
from grafana.builder.promql import SERVICE, aggregate, quantile, rate, ratio, select, share_or_zero, top, total
from grafana.builder.thresholds import ANY_IS_WARNING, MODULE_ERROR_RATIO

OPERATION = "llmvitals_operation_duration_seconds"
MODULE = "llmvitals_module_"
VOICE = "llmvitals_voice_"
# As the levels are judged, and nothing else on these dashboards is.
LEVEL_COLORS = {
    "excellent": "dark-green",
    "good": "green",
    "acceptable": "yellow",
    "slow": "orange",
    "critical": "red",
}
NO_OPERATIONS = "No operations"
NO_MODULES = "No background modules"
NO_VOICE = "No voice"


def build() -> dict[str, Any]:
    rows = [
        Row(1, "", _first_line()),
        Row(100, "Units of work", _operations()),
        Row(200, "Voice", _voice()),
        Row(300, "Background modules", _modules()),
        Row(400, "Start and stop", _start()),
        *memory_rows(),
        tools_row(),
    ]
    return dashboard(
        "llmvitals-operations",
        "llmvitals / Operations and voice",
        "Is each of the application's own units of work as quick and as reliable as it should be?",
        variables=service_variables(),
        annotations=annotations(),
        rows=rows,
    )


def _voice_success() -> str:
    good = total(rate(f"{VOICE}turns_total", SERVICE, 'outcome="success"', window="30m"), "job", "voice")
    return share_or_zero(good, total(rate(f"{VOICE}turns_total", SERVICE, window="30m"), "job", "voice"))


def _in_time() -> str:
    levels = "llmvitals_operations_total"
    well = total(rate(levels, SERVICE, 'level=~"excellent|good|acceptable"'), "job", "operation")
    return share_or_zero(well, total(rate(levels, SERVICE), "job", "operation"))


def _against_target() -> str:
    p95 = quantile(0.95, OPERATION, SERVICE, by=("job", "operation"))
    target = aggregate("max", select("llmvitals_operation_target_seconds", SERVICE), "job", "operation")
    return f"({p95}) / ({target} > 0)"


def _first_line() -> list[Panel]:
    return [
        stat(
            2,
            "Operations",
            "Ended per second, of all kinds.",
            Query(total(rate(f"{OPERATION}_count", SERVICE))),
            unit="ops",
            decimals=2,
            no_value=NO_OPERATIONS,
        ),
        stat(
            3,
            "On target",
            f"Share at the levels excellent, good and acceptable; of the worst operation. {alerted('LLMLatencyHigh')}",
            Query(aggregate("min", _in_time())),
            unit="percentunit",
            decimals=0,
            no_value=NO_OPERATIONS,
        ),
        stat(
            4,
            "p95 / target",
            "p95 as a multiple of the target, of the slowest operation: above 1 the target is missed.",
            Query(worst(_against_target())),
            unit=MULTIPLE,
            decimals=2,
            no_value=NO_OPERATIONS,
        ),
        stat(
            5,
            "Voice turns",
            f"Share of the turns of the last half hour that succeeded; of the worst voice. "
            f"{alerted('LLMVoiceUnreliable')}",
            Query(aggregate("min", _voice_success())),
            unit="percentunit",
            decimals=1,
            no_value=NO_VOICE,
        ),
        stat(
            6,
            "Overdue runs",
            f"Runs that go on although their time is over. {alerted('LLMModuleOverdue')}",
            Query(total(select(f"{MODULE}overdue", SERVICE))),
            unit="short",
            limit=ANY_IS_WARNING,
            no_value=NO_MODULES,
        ),
        stat(
            7,
            "Start took",
            f"From the process's start to its being ready; of the slowest instance. {alerted('LLMStartupIncomplete')}",
            Query(worst(select("llmvitals_startup_duration_seconds", SERVICE))),
            unit="s",
            sparkline=False,
            no_value="Not ready yet",
        ),
        stat(
            8,
            "Search p95",
            f"In a semantic memory. {alerted('LLMSemanticSearchSlow')}",
            Query(
                worst(
                    quantile(
                        0.95,
                        "llmvitals_semantic_memory_operation_duration_seconds",
                        SERVICE,
                        'operation="search"',
                        by=("job", "memory"),
                    )
                )
            ),
            unit="s",
            no_value="No searches",
        ),
        stat(
            9,
            "Database p95",
            "Of the slowest database and statement.",
            Query(
                worst(
                    quantile(
                        0.95,
                        "db_client_operation_duration_seconds",
                        SERVICE,
                        by=("job", "db_system_name", "db_operation_name"),
                    )
                )
            ),
            unit="s",
            no_value="No database",
        ),
    ]


def _operations() -> list[Panel]:
    targets = Query(
        aggregate("max", select("llmvitals_operation_target_seconds", SERVICE), "job", "operation"),
        "target {{operation}}",
    )
    p95 = Query(quantile(0.95, OPERATION, SERVICE, by=("job", "operation")), "{{operation}}")
    failed = total(rate(f"{OPERATION}_count", SERVICE, 'error_type!=""'), "job", "operation")
    ended = total(rate(f"{OPERATION}_count", SERVICE), "job", "operation")
    return [
        timeseries(
            101,
            "Operations by name",
            "Per second, whatever became of them.",
            [Query(top(rate(f"{OPERATION}_count", SERVICE), "operation", last="operation"), "{{operation}}")],
            unit="ops",
            legend_table=True,
            stacked=True,
            no_value=NO_OPERATIONS,
        ),
        timeseries(
            102,
            "Operations by level",
            "Per second, by how they did against their target.",
            [Query(total(rate("llmvitals_operations_total", SERVICE), "level"), "{{level}}")],
            unit="ops",
            legend_table=True,
            stacked=True,
            overrides=color_by_name(LEVEL_COLORS),
            no_value=NO_OPERATIONS,
        ),
        timeseries(
            103,
            "Failed by operation",
            "Share of the operations that ended in an error.",
            [Query(share_or_zero(failed, ended), "{{operation}}")],
            unit="percentunit",
            legend_table=True,
            soft_high=0.1,
            no_value=NO_OPERATIONS,
        ),
        timeseries(
            104,
            "Duration p95 and targets",
            f"Dashed is the target that the alert watches. {alerted('LLMLatencyHigh')}",
            [p95, targets],
            unit="s",
            width=6,
            legend_table=True,
            overrides=[dashed("target", "yellow")],
            no_value=NO_OPERATIONS,
        ),
        timeseries(
            107,
            "Operations in flight",
            "Started and not ended.",
            [Query(total(select("llmvitals_operations_in_flight", SERVICE), "operation"), "{{operation}}")],
            unit="short",
            width=6,
            legend_table=True,
            soft_high=1,
            no_value=NO_OPERATIONS,
        ),
        *own_spread(
            (105, 106),
            "Duration",
            "Of all operations.",
            OPERATION,
            SERVICE,
            width=6,
            height=TABLE_HEIGHT,
            no_value=NO_OPERATIONS,
        ),
    ]


def _voice() -> list[Panel]:
    target = Query(aggregate("max", select(f"{VOICE}target_ratio", SERVICE), "job", "voice"), "target {{voice}}")
    quality = ratio(
        total(rate(f"{VOICE}quality_ratio_sum", SERVICE), "job", "voice"),
        total(rate(f"{VOICE}quality_ratio_count", SERVICE), "job", "voice"),
    )
    return [
        timeseries(
            201,
            "Turns by voice",
            "Turns of each voice per second, and what made them fail.",
            [
                Query(total(rate(f"{VOICE}turns_total", SERVICE, 'outcome="success"'), "voice"), "{{voice}}"),
                Query(total(rate(f"{VOICE}failures_total", SERVICE), "voice", "cause"), "failed {{voice}}: {{cause}}"),
            ],
            unit="ops",
            overrides=color_by_name({"failed": "red"}),
            legend_table=True,
            no_value=NO_VOICE,
        ),
        timeseries(
            202,
            "Successful turns",
            f"Share over half an hour; dashed is what the application promises. {alerted('LLMVoiceUnreliable')}",
            [Query(_voice_success(), "{{voice}}"), target],
            unit="percentunit",
            low=None,
            high=1,
            overrides=[dashed("target", "yellow")],
            legend_table=True,
            no_value=NO_VOICE,
        ),
        timeseries(
            203,
            "Voice quality",
            f"Mean of what the application gives each turn, from 0 to 1. {alerted('LLMVoiceQualityLow')}",
            [Query(quality, "{{voice}}")],
            unit="percentunit",
            legend_table=True,
            high=1,
            no_value="No judged turns",
        ),
        *own_spread(
            (204, 205),
            "Duration of a turn",
            "Of all voices.",
            f"{VOICE}turn_duration_seconds",
            SERVICE,
            no_value=NO_VOICE,
        ),
    ]


def _modules() -> list[Panel]:
    by = ("job", "module")
    failed = total(rate(f"{MODULE}errors_total", SERVICE, window="30m"), *by)
    runs = total(rate(f"{MODULE}duration_seconds_count", SERVICE, window="30m"), *by)
    since = aggregate("max", f"time() - {select(f'{MODULE}last_success_timestamp_seconds', SERVICE)}", *by)
    return [
        timeseries(
            301,
            "Duration of a run p95",
            f"Dashed is the time that a module is given. {alerted('LLMModuleOverdue')}",
            [
                Query(quantile(0.95, f"{MODULE}duration_seconds", SERVICE, by=by, window="30m"), "{{module}}"),
                Query(aggregate("max", select(f"{MODULE}timeout_seconds", SERVICE), *by), "given {{module}}"),
            ],
            unit="s",
            overrides=[dashed("given", "yellow")],
            legend_table=True,
            no_value=NO_MODULES,
        ),
        timeseries(
            302,
            "Failed runs",
            "Share over half an hour, time-outs included; the dashed line is the alert's.",
            [Query(share_or_zero(failed, runs), "{{module}}")],
            unit="percentunit",
            high=1,
            limit=MODULE_ERROR_RATIO,
            legend_table=True,
            no_value=NO_MODULES,
        ),
        bargauge(
            303,
            "Since the last success",
            "How long ago a module last ended well.",
            Query(since, "{{module}}"),
            unit="s",
            height=TABLE_HEIGHT,
            high=None,
            no_value=NO_MODULES,
        ),
    ]


def _start() -> list[Panel]:
    complete = value_map({0: ("starting", "yellow"), 1: ("ready", "green"), 2: ("stopping", "orange")})
    ready = aggregate("max", select("llmvitals_startup_complete", SERVICE), "job", "instance")
    stopping = aggregate("max", select("llmvitals_shutdown_in_progress", SERVICE), "job", "instance")
    return [
        bargauge(
            401,
            "Phases of the start",
            "How long each took, at the slowest instance.",
            Query(aggregate("max", select("llmvitals_startup_phase_duration_seconds", SERVICE), "phase"), "{{phase}}"),
            unit="s",
            high=None,
            decimals=None,
            no_value="No phases told",
        ),
        state_timeline(
            402,
            "Readiness",
            f"Whether each instance is ready. {alerted('LLMStartupIncomplete', 'LLMShutdownSlow')}",
            [Query(f"clamp_max({ready} + on (job, instance) 2 * {stopping}, 2)", "{{instance}}")],
            mappings=complete,
            width=8,
            no_value="No start told",
        ),
        bargauge(
            403,
            "Loads that were put off",
            "How long what is only loaded when it is needed makes somebody wait, on average since the start.",
            Query(_mean_load(), "{{load}}"),
            unit="s",
            high=None,
            decimals=None,
            no_value="Nothing was put off",
        ),
    ]


def _mean_load() -> str:
    load = "llmvitals_lazy_load_duration_seconds"
    return ratio(*(total(select(f"{load}_{part}", SERVICE), "load") for part in ("sum", "count")))
