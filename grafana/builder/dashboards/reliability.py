"""Reliability: what is tried again, what is refused, and what runs out."""

from typing import Any

from grafana.builder.dashboards.shared import NOBODY, annotations, or_zero, own_spread, service_variables, worst
from grafana.builder.layout import Row, dashboard
from grafana.builder.overrides import color_by_name, value_map
from grafana.builder.panels import TABLE_HEIGHT, Panel, Query, alerted, bargauge, stat, timeseries
from grafana.builder.pictures import state_timeline
from grafana.builder.promql import (
    SERVICE,
    aggregate,
    increase,
    quantile,
    rate,
    ratio,
    select,
    share_or_zero,
    total,
)
from grafana.builder.thresholds import ANY_IS_BAD, LIMIT_HEADROOM, POOL_RATIO, RETRY_RATIO

BREAKER = "llmvitals_circuit_breaker_"
BREAKER_STATES = value_map({0: ("closed", "green"), 1: ("half open", "yellow"), 2: ("open", "red")})
CHECK_STATES = value_map({0: ("failed", "red"), 1: ("passed", "green")})
OUTCOME_COLORS = {"success": "blue", "failure": "red", "rejected": "orange", "ignored": "light-blue"}
ATTEMPT_COLORS = {"success": "blue", "retryable": "yellow", "fatal": "red", "cancelled": "light-blue"}
CHANGE_COLORS = {"fallback": "blue", "to closed": "green", "to half_open": "yellow", "to open": "red"}
POOL_ENDS = {"made": "text", "broken": "red", "idle": "light-blue", "closed": "blue"}
NO_BREAKERS = "No breakers"
NO_LIMITS = "No limits"
NO_POOLS = "No pools"


def build() -> dict[str, Any]:
    rows = [
        Row(1, "", _first_line()),
        Row(100, "Attempts and retries", _retries()),
        Row(110, "Retries in detail, once there are some", _retries_in_detail(), folded=True),
        Row(200, "Circuit breakers", _breakers()),
        Row(300, "Rate limits", _limits()),
        Row(400, "Pools", _pools()),
        Row(500, "Checks of health", _checks()),
    ]
    return dashboard(
        "llmvitals-reliability",
        "llmvitals / Reliability",
        "What is tried again, what is refused, and which limit runs out?",
        variables=service_variables(),
        annotations=annotations(),
        rows=rows,
    )


def _pool_use() -> str:
    used = total(select("llmvitals_pool_connections", SERVICE, 'state="used"'), "job", "instance", "pool")
    return ratio(used, total(select("llmvitals_pool_max_connections", SERVICE), "job", "instance", "pool"))


def _first_line() -> list[Panel]:
    attempts = total(rate("llmvitals_attempts_total", SERVICE))
    gave_up = total(increase("llmvitals_retries_exhausted_total", SERVICE))
    return [
        stat(
            2, "Attempts", "Attempts per second.", Query(attempts), unit="ops", decimals=2, no_value="No retries set up"
        ),
        stat(
            3,
            "Retried",
            "Retries for each attempt.",
            Query(share_or_zero(total(rate("llmvitals_retries_total", SERVICE)), attempts)),
            unit="percentunit",
            decimals=1,
            limit=RETRY_RATIO,
            no_value="No attempts",
        ),
        stat(
            4,
            "Gave up",
            f"Times in the chosen range that retrying was given up. {alerted('LLMRetriesExhausted')}",
            Query(or_zero(gave_up, SERVICE)),
            unit="none",
            decimals=0,
            sparkline=False,
            no_value=NOBODY,
        ),
        stat(
            5,
            "Open breakers",
            f"Breakers that refuse all calls now. {alerted('LLMCircuitBreakerOpen')}",
            Query(total(select(f"{BREAKER}state", SERVICE, 'state="open"'))),
            unit="short",
            limit=ANY_IS_BAD,
            no_value=NO_BREAKERS,
        ),
        stat(
            6,
            "Fallbacks",
            f"Times per second that a fallback answered. {alerted('LLMFallbackActive')}",
            Query(or_zero(total(rate(f"{BREAKER}fallbacks_total", SERVICE)), SERVICE)),
            unit="ops",
            decimals=2,
            no_value=NOBODY,
        ),
        stat(
            7,
            "Limit headroom",
            "What is left of the limit that is nearest to its end.",
            Query(aggregate("min", select("llmvitals_limit_headroom_ratio", SERVICE))),
            unit="percentunit",
            decimals=0,
            limit=LIMIT_HEADROOM,
            no_value=NO_LIMITS,
        ),
        stat(
            8,
            "Fullest pool",
            "What is in use against the most that the pool may hold.",
            Query(worst(_pool_use())),
            unit="percentunit",
            decimals=0,
            limit=POOL_RATIO,
            no_value=NO_POOLS,
        ),
        stat(
            9,
            "Failed checks",
            f"Health checks whose last run failed. {alerted('LLMHealthCheckFailing')}",
            Query(or_zero(f"count({select('llmvitals_health_check_status', SERVICE)} == 0)", SERVICE)),
            unit="short",
            limit=ANY_IS_BAD,
            no_value=NOBODY,
        ),
    ]


def _retries() -> list[Panel]:
    by = ("job", "name")
    retried = share_or_zero(
        total(rate("llmvitals_retries_total", SERVICE), *by), total(rate("llmvitals_attempts_total", SERVICE), *by)
    )
    return [
        timeseries(
            101,
            "Attempts by outcome",
            "Attempts per second of work that is tried again when it fails.",
            [Query(total(rate("llmvitals_attempts_total", SERVICE), "outcome"), "{{outcome}}")],
            unit="ops",
            stacked=True,
            legend_table=True,
            overrides=color_by_name(ATTEMPT_COLORS),
            no_value="No retries set up",
        ),
        timeseries(
            102,
            "Retries for each attempt",
            "The dashed line is the alert's: above it, retrying is part of the trouble.",
            [Query(retried, "{{job}} {{name}}")],
            unit="percentunit",
            limit=RETRY_RATIO,
            legend_table=True,
            no_value="No attempts",
        ),
        timeseries(
            103,
            "Retries by error",
            f"Retries per second, by what made them necessary, and calls that ran out of tries. "
            f"{alerted('LLMRetriesExhausted')}",
            [
                Query(total(rate("llmvitals_retries_total", SERVICE), "name", "error_type"), "{{name}} {{error_type}}"),
                Query(total(rate("llmvitals_retries_exhausted_total", SERVICE), "name"), "{{name}} gave up"),
            ],
            unit="ops",
            soft_high=0.1,
            legend_table=True,
            overrides=color_by_name({".* gave up": "red"}),
            no_value="No retries",
        ),
    ]


def _retries_in_detail() -> list[Panel]:
    return [
        timeseries(
            104,
            "Retries by their number",
            "Retries per second: a second and third try wait longer and help less.",
            [Query(total(rate("llmvitals_retries_total", SERVICE), "attempt"), "try {{attempt}}")],
            unit="ops",
            stacked=True,
            single=True,
            soft_high=0.1,
            no_value="No retries",
        ),
        *own_spread(
            (105, 106),
            "Wait before a retry",
            "Time that the backing off took.",
            "llmvitals_retry_wait_seconds",
            SERVICE,
            width=8,
            no_value="No retries",
        ),
    ]


def _breakers() -> list[Panel]:
    half = total(select(f"{BREAKER}state", SERVICE, 'state="half_open"'), "job", "name")
    opened = total(select(f"{BREAKER}state", SERVICE, 'state="open"'), "job", "name")
    return [
        state_timeline(
            201,
            "Breaker states",
            f"Closed lets calls through, open rejects them, half open tries one. {alerted('LLMCircuitBreakerOpen')}",
            [Query(f"clamp_max({half} + 2 * {opened}, 2)", "{{name}} {{job}}")],
            mappings=BREAKER_STATES,
            width=8,
            no_value=NO_BREAKERS,
        ),
        timeseries(
            202,
            "Calls through breakers",
            "Calls per second by outcome; rejected ones never left the process.",
            [Query(total(rate(f"{BREAKER}calls_total", SERVICE), "outcome"), "{{outcome}}")],
            unit="reqps",
            stacked=True,
            overrides=color_by_name(OUTCOME_COLORS),
            no_value=NO_BREAKERS,
        ),
        timeseries(
            203,
            "Fallbacks and changes of state",
            f"Times a second that a fallback answered, and that a breaker changed. {alerted('LLMFallbackActive')}",
            [
                Query(total(rate(f"{BREAKER}fallbacks_total", SERVICE), "name"), "fallback for {{name}}"),
                Query(total(rate(f"{BREAKER}transitions_total", SERVICE), "to_state"), "to {{to_state}}"),
            ],
            unit="ops",
            soft_high=0.1,
            overrides=color_by_name(CHANGE_COLORS),
            no_value="No breaker has changed",
        ),
    ]


def _limits() -> list[Panel]:
    left = select("llmvitals_limit_headroom_ratio", SERVICE)
    rejected = total(rate("llmvitals_limit_rejected_total", SERVICE), "job", "limiter", "resource")
    return [
        timeseries(
            301,
            "Headroom by limit",
            "Share of a limit that is left, as its owner last told; the dashed line is the alert's.",
            [Query(aggregate("min", left, "job", "limiter", "resource"), "{{limiter}} {{resource}}")],
            unit="percentunit",
            high=1,
            width=6,
            limit=LIMIT_HEADROOM,
            no_value=NO_LIMITS,
        ),
        timeseries(
            302,
            "Turned away by a limit",
            f"What was refused because of a limit, per second. {alerted('LLMLimitRejecting')}",
            [Query(rejected, "{{limiter}} {{resource}}")],
            unit="reqps",
            width=6,
            soft_high=0.1,
            no_value="Nothing turned away",
        ),
        timeseries(
            303,
            "Queued at a limit",
            "Requests that wait for their turn now.",
            [Query(total(select("llmvitals_limit_queued", SERVICE), "job", "limiter"), "{{limiter}}")],
            unit="short",
            width=6,
            soft_high=1,
            no_value=NO_LIMITS,
        ),
        timeseries(
            304,
            "Wait for a limit p95",
            "95 of 100 requests that had to wait had their turn sooner.",
            [Query(quantile(0.95, "llmvitals_limit_wait_seconds", SERVICE, by=("job", "limiter")), "{{limiter}}")],
            unit="s",
            width=6,
            no_value="Nothing had to wait",
        ),
    ]


def _pools() -> list[Panel]:
    used = total(select("llmvitals_pool_connections", SERVICE, 'state="used"'), "pool")
    return [
        bargauge(
            401,
            "Pool use",
            "What is in use against the most that the pool may hold; of the fullest instance.",
            Query(aggregate("max", _pool_use(), "pool"), "{{pool}}"),
            unit="percentunit",
            height=TABLE_HEIGHT,
            limit=POOL_RATIO,
            no_value=NO_POOLS,
        ),
        timeseries(
            402,
            "In use and waiting",
            f"What is lent out of a pool now, and requests that wait for one. {alerted('LLMPoolWaiting')}",
            [
                Query(used, "{{pool}}"),
                Query(total(select("llmvitals_pool_pending_requests", SERVICE), "pool") + " > 0", "waiting {{pool}}"),
            ],
            unit="short",
            legend_table=True,
            overrides=color_by_name({"waiting": "orange"}),
            no_value=NO_POOLS,
        ),
        timeseries(
            403,
            "Wait for a pool p95",
            "95 of 100 get a connection or an object sooner.",
            [Query(quantile(0.95, "llmvitals_pool_wait_seconds", SERVICE, by=("job", "pool")), "{{pool}}")],
            unit="s",
            legend_table=True,
            no_value=NO_POOLS,
        ),
        timeseries(
            404,
            "New and reused connections",
            "Taken out of HTTP pools per second: many new ones mean that keep-alive does not hold.",
            [
                Query(
                    total(rate("llmvitals_pool_acquired_total", SERVICE), "pool", "connection"),
                    "{{pool}} {{connection}}",
                )
            ],
            unit="ops",
            stacked=True,
            no_value="No pool tells",
        ),
        timeseries(
            405,
            "Time-outs by phase",
            "Requests per second that ran out of time, by what they waited for.",
            [Query(total(rate("llmvitals_pool_timeouts_total", SERVICE), "pool", "phase"), "{{pool}} {{phase}}")],
            unit="reqps",
            soft_high=0.1,
            no_value="No time-outs",
        ),
        timeseries(
            406,
            "Pool objects made and closed",
            "Objects per second that pools made, and did away with.",
            [
                Query(total(rate("llmvitals_pool_created_total", SERVICE), "pool"), "made {{pool}}"),
                Query(total(rate("llmvitals_pool_closed_total", SERVICE), "pool", "reason"), "{{reason}} {{pool}}"),
            ],
            unit="ops",
            soft_high=0.1,
            overrides=color_by_name(POOL_ENDS),
            no_value="No object pools",
        ),
    ]


def _checks() -> list[Panel]:
    status = aggregate("min", select("llmvitals_health_check_status", SERVICE), "job", "check")
    return [
        state_timeline(
            501,
            "Health checks",
            f"What the application's own checks found. {alerted('LLMHealthCheckFailing', 'LLMProviderDown')}",
            [Query(status, "{{check}} {{job}}")],
            mappings=CHECK_STATES,
            no_value="No health checks",
        ),
        timeseries(
            502,
            "Duration of a check p95",
            "How long a check takes.",
            [
                Query(
                    quantile(0.95, "llmvitals_health_check_duration_seconds", SERVICE, by=("job", "check")), "{{check}}"
                )
            ],
            unit="s",
            width=12,
            no_value="No health checks",
        ),
    ]
