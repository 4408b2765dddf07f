"""The rows of the Overview that look into an application: what it tries again, what it keeps, what holds it up."""

from grafana.builder.dashboards.shared import JOB
from grafana.builder.layout import Row
from grafana.builder.overrides import STACK_COLORS, color_by_name, dashed, value_map
from grafana.builder.panels import MULTIPLE, Panel, Query, bargauge, timeseries
from grafana.builder.promql import aggregate, select, share_or_zero, total
from grafana.builder.thresholds import CACHE_HIT_RATIO, MEMORY_RATIO, POOL_RATIO

BREAKER_STATES = value_map({0: ("closed", "green"), 1: ("half open", "yellow"), 2: ("open", "red")})


def application_rows() -> list[Row]:
    return [
        Row(300, "Reliability", _reliability()),
        Row(400, "Caches, pools and users", _caches_and_users()),
        Row(500, "Memory and event loop", _memory_and_loop()),
    ]


def _reliability() -> list[Panel]:
    return [
        timeseries(
            301,
            "Circuit breakers",
            "Closed lets calls through, open rejects them, half open tries one; of the worst instance.",
            [Query(select("job:llmvitals_circuit_breaker_state:max", JOB), "{{job}} {{name}}")],
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
                    total(select("job:llmvitals_circuit_breaker_calls:rate1m", JOB), "name", "outcome"),
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
                Query(
                    total(select("job:llmvitals_retries:rate1m", JOB), "name", "error_type"), "{{name}} {{error_type}}"
                ),
                Query(total(select("job:llmvitals_retries_exhausted:rate1m", JOB), "name"), "{{name}} gave up"),
            ],
            unit="ops",
            soft_high=0.1,
            no_value="No retries",
        ),
    ]


def _caches_and_users() -> list[Panel]:
    requests = "job:llmvitals_cache_requests:rate1m"
    hits = total(select(requests, JOB, 'result="hit"'), "job", "cache")
    asked = total(select(requests, JOB, 'result=~"hit|miss"'), "job", "cache")
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
            Query(aggregate("max", select("job:llmvitals_cache_entries:max_ratio", JOB), "cache"), "{{cache}}"),
            unit="percentunit",
            width=6,
            no_value="No caches",
        ),
        bargauge(
            403,
            "Pool use",
            "Connections in use against the most that the pool may open; of the fullest instance.",
            Query(aggregate("max", select("job:llmvitals_pool_connections:max_ratio", JOB), "pool"), "{{pool}}"),
            unit="percentunit",
            limit=POOL_RATIO,
            width=6,
            no_value="No pools",
        ),
        timeseries(
            404,
            "User profiles",
            "Profiles held in memory, by the fullest instance, and the application's own limit.",
            [
                Query(select("job:llmvitals_user_profiles_active:max", JOB), "{{job}}"),
                Query(select("job:llmvitals_user_profiles_limit:max", JOB), "limit {{job}}"),
            ],
            unit="short",
            single=True,
            overrides=[dashed("limit", "yellow")],
            width=6,
            no_value="No user registry",
        ),
    ]


def _memory_and_loop() -> list[Panel]:
    return [
        timeseries(
            501,
            "Resident memory and baseline",
            "What the largest process of each service holds, and the highest baseline: what one held after its start.",
            [
                Query(select("job:process_resident_memory_bytes:max", JOB), "{{job}}"),
                Query(select("job:llmvitals_memory_baseline_bytes:max", JOB), "baseline {{job}}"),
            ],
            unit="bytes",
            overrides=[*color_by_name(STACK_COLORS), dashed("baseline", "text")],
        ),
        timeseries(
            502,
            "Memory against the baseline",
            "Resident memory as a multiple of the baseline, of the worst instance; the dashed line is the alert's.",
            [Query(select("job:llmvitals_memory_baseline_ratio:max", JOB), "{{job}}")],
            unit=MULTIPLE,
            limit=MEMORY_RATIO,
            single=True,
            decimals=2,
            no_value="No baseline",
        ),
        timeseries(
            503,
            "Event loop lag p99 and blocked time",
            "How late loops run what is due, and seconds per second in which one step held the worst of them.",
            [
                Query(select("job:llmvitals_asyncio_loop_lag_seconds:p99", JOB), "p99 lag {{job}} {{loop}}"),
                Query(select("job:llmvitals_asyncio_loop_blocked_seconds:max_rate1m", JOB), "blocked {{job}} {{loop}}"),
            ],
            unit="s",
            no_value="No watched loop",
        ),
    ]
