"""The rows of the Overview that look into an application: what it tries again, what it keeps, what holds it up."""

from grafana.builder.layout import Row
from grafana.builder.overrides import dashed, value_map
from grafana.builder.panels import MULTIPLE, Panel, Query, bargauge, timeseries
from grafana.builder.promql import SERVICE, aggregate, quantile, rate, ratio, select, share_or_zero, total
from grafana.builder.thresholds import CACHE_HIT_RATIO, MEMORY_RATIO, POOL_RATIO

BREAKER_STATES = value_map({0: ("closed", "green"), 1: ("half open", "yellow"), 2: ("open", "red")})


def application_rows() -> list[Row]:
    return [
        Row(300, "Reliability", _reliability()),
        Row(400, "Caches, pools and users", _caches_and_users()),
        Row(500, "Memory and event loop", _memory_and_loop()),
    ]


def _reliability() -> list[Panel]:
    half = total(select("llmvitals_circuit_breaker_state", SERVICE, 'state="half_open"'), "job", "name")
    opened = total(select("llmvitals_circuit_breaker_state", SERVICE, 'state="open"'), "job", "name")
    return [
        timeseries(
            301,
            "Circuit breakers",
            "Closed lets calls through, open rejects them, half open tries one.",
            [Query(f"{half} + 2 * {opened}", "{{job}} {{name}}")],
            unit="short",
            stepped=True,
            high=2,
            decimals=0,
            mappings=BREAKER_STATES,
            no_value="No breakers",
        ),
        timeseries(
            302,
            "Calls through breakers",
            "Calls per second by outcome; rejected ones never left the process.",
            [
                Query(
                    total(rate("llmvitals_circuit_breaker_calls_total", SERVICE), "name", "outcome"),
                    "{{name}} {{outcome}}",
                )
            ],
            unit="reqps",
            stacked=True,
            no_value="No breakers",
        ),
        timeseries(
            303,
            "Retries",
            "Retries per second, by what made them necessary, and calls that ran out of tries.",
            [
                Query(total(rate("llmvitals_retries_total", SERVICE), "name", "error_type"), "{{name}} {{error_type}}"),
                Query(total(rate("llmvitals_retries_exhausted_total", SERVICE), "name"), "{{name}} gave up"),
            ],
            unit="ops",
            soft_high=0.1,
            no_value="No retries",
        ),
    ]


def _caches_and_users() -> list[Panel]:
    hits = total(rate("llmvitals_cache_requests_total", SERVICE, 'result="hit"'), "job", "cache")
    asked = total(rate("llmvitals_cache_requests_total", SERVICE, 'result=~"hit|miss"'), "job", "cache")
    entries = select("llmvitals_cache_entries", SERVICE)
    most = select("llmvitals_cache_max_entries", SERVICE)
    used = total(select("llmvitals_pool_connections", SERVICE, 'state="used"'), "job", "instance", "pool")
    size = total(select("llmvitals_pool_max_connections", SERVICE), "job", "instance", "pool")
    return [
        timeseries(
            401,
            "Cache hit ratio",
            "Share of the look-ups that found an entry; the dashed line is the alert's.",
            [Query(share_or_zero(hits, asked), "{{job}} {{cache}}")],
            unit="percentunit",
            limit=CACHE_HIT_RATIO,
            high=1,
            width=6,
            no_value="No look-ups",
        ),
        bargauge(
            402,
            "Cache fill",
            "Entries against the most that the cache may hold. Full is no fault: it evicts. Of the fullest instance.",
            Query(aggregate("max", ratio(entries, most), "cache"), "{{cache}}"),
            unit="percentunit",
            width=6,
            no_value="No caches",
        ),
        bargauge(
            403,
            "Pool use",
            "Connections in use against the most that the pool may open; of the fullest instance.",
            Query(aggregate("max", ratio(used, size), "pool"), "{{pool}}"),
            unit="percentunit",
            limit=POOL_RATIO,
            width=6,
            no_value="No pools",
        ),
        timeseries(
            404,
            "User profiles",
            "Profiles held in memory, and the application's own limit.",
            [
                Query(select("llmvitals_user_profiles_active", SERVICE), "{{job}} {{instance}}"),
                Query(aggregate("max", select("llmvitals_user_profiles_limit", SERVICE), "job"), "limit {{job}}"),
            ],
            unit="short",
            overrides=[dashed("limit", "yellow")],
            width=6,
            no_value="No user registry",
        ),
    ]


def _memory_and_loop() -> list[Panel]:
    lag = "llmvitals_asyncio_loop_lag_seconds"
    return [
        timeseries(
            501,
            "Resident memory and baseline",
            "What each process holds, and what it held after its start.",
            [
                Query(select("process_resident_memory_bytes", SERVICE), "{{job}} {{instance}}"),
                Query(select("llmvitals_memory_baseline_bytes", SERVICE), "baseline {{job}} {{instance}}"),
            ],
            unit="bytes",
            overrides=[dashed("baseline", "text")],
        ),
        timeseries(
            502,
            "Memory against the baseline",
            "Resident memory as a multiple of the baseline; the dashed line is the alert's.",
            [Query(select("llmvitals_memory_baseline_ratio", SERVICE), "{{job}} {{instance}}")],
            unit=MULTIPLE,
            limit=MEMORY_RATIO,
            decimals=2,
            no_value="No baseline",
        ),
        timeseries(
            503,
            "Event loop lag p99 and blocked time",
            "How late the loop runs what is due, and seconds per second in which one step held it.",
            [
                Query(quantile(0.99, lag, SERVICE, by=("job", "loop")), "p99 lag {{job}} {{loop}}"),
                Query(
                    total(rate("llmvitals_asyncio_loop_blocked_seconds_total", SERVICE), "job", "loop"),
                    "blocked {{job}} {{loop}}",
                ),
            ],
            unit="s",
            no_value="No watched loop",
        ),
    ]
