"""Caches and batching: how much work is saved, and what the saving costs in memory and waiting."""

from typing import Any

from grafana.builder.dashboards.shared import DETAILS, TOKENS, annotations, own_spread, service_variables, worst
from grafana.builder.layout import Row, dashboard
from grafana.builder.overrides import color_by_name, dashed, value_map
from grafana.builder.panels import Panel, Query, alerted, bargauge, stat, timeseries
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
    top,
    total,
)
from grafana.builder.thresholds import API_SECONDS, CACHE_HIT_RATIO, POOL_RATIO

LOOKUPS = "llmvitals_cache_requests_total"
SERVED = "http_server_request_duration_seconds"
# As the alert tells them from those that are as slow as their model.
QUICK = 'http_route!~".*(chat|completion|stream|message|voice|speech|embed|ws).*|/healthz"'
TIERS = "llmvitals_cache_tier_requests_total"
RESULT_COLORS = {"hit": "blue", "miss": "light-blue", "error": "red"}
ENDS_OF_ENTRIES = {"size": "blue", "ttl": "light-blue", "cleared": "purple"}
TRIGGERS = {"size": "blue", "time": "light-blue", "priority": "purple", "shutdown": "orange"}
NO_CACHES = "No caches"
NO_TIERS = "No cache has a second tier"
NO_BATCHES = "No batches"


def build() -> dict[str, Any]:
    rows = [
        Row(1, "", _first_line()),
        Row(100, "Caches", _caches()),
        Row(300, "Batches", _batches()),
        Row(200, "Second tier (vitals.tiered_cache)", _tiers(), folded=True),
    ]
    return dashboard(
        "llmvitals-caches",
        "llmvitals / Caches and batching",
        "How much work do caches and batches save, and what do they cost in memory and waiting?",
        variables=service_variables(),
        annotations=annotations(),
        rows=rows,
    )


def _hits(*by: str) -> str:
    hits = total(rate(LOOKUPS, SERVICE, 'result="hit"'), *by)
    return share_or_zero(hits, total(rate(LOOKUPS, SERVICE, 'result=~"hit|miss"'), *by))


def _first_line() -> list[Panel]:
    """What a performance panel of a messaging front end shows, in its order."""
    used = total(select("llmvitals_pool_connections", SERVICE, 'state="used"'), "job", "instance", "pool")
    size = total(select("llmvitals_pool_max_connections", SERVICE), "job", "instance", "pool")
    return [
        stat(
            2,
            "Cache hit rate",
            "Share of the look-ups that found an entry, in all caches together.",
            Query(_hits()),
            unit="percentunit",
            decimals=1,
            limit=CACHE_HIT_RATIO,
            no_value="No look-ups",
        ),
        stat(
            3,
            "Batches sent",
            "In the chosen range.",
            Query(total(increase("llmvitals_batch_flushes_total", SERVICE))),
            unit="none",
            decimals=0,
            sparkline=False,
            no_value=NO_BATCHES,
        ),
        stat(
            4,
            "Mean response",
            "Of the HTTP routes that wait for no model; the alert watches their p95.",
            Query(ratio(total(rate(f"{SERVED}_sum", SERVICE, QUICK)), total(rate(f"{SERVED}_count", SERVICE, QUICK)))),
            unit="s",
            limit=API_SECONDS,
            no_value="No requests",
        ),
        stat(
            5,
            "Connections",
            "Lent out of all pools now.",
            Query(total(used)),
            unit="short",
            no_value="No pools",
        ),
        stat(
            6,
            "Fullest pool",
            "What is in use against the most that the pool may hold.",
            Query(worst(ratio(used, size))),
            unit="percentunit",
            decimals=0,
            limit=POOL_RATIO,
            no_value="No pools",
        ),
        stat(
            7,
            "Messages",
            "Items that went into a batch, in the chosen range.",
            Query(total(increase("llmvitals_batch_items_total", SERVICE))),
            unit="none",
            decimals=0,
            sparkline=False,
            no_value=NO_BATCHES,
        ),
        stat(
            8,
            "Cache size",
            "Keys and values of all caches, estimated.",
            Query(total(select("llmvitals_cache_bytes", SERVICE))),
            unit="bytes",
            no_value=NO_CACHES,
        ),
        stat(
            9,
            "Active batches",
            f"Queues in which items wait for their flush now. {alerted('LLMBatchQueueGrowing')}",
            Query(f"sum({select('llmvitals_batch_queue_depth', SERVICE)} > bool 0)"),
            unit="short",
            no_value=NO_BATCHES,
        ),
    ]


def _caches() -> list[Panel]:
    cached = total(select(DETAILS, SERVICE, 'src="client"', 'kind="cache_read"'), "job", "model")
    read = total(select(TOKENS, SERVICE, 'src="client"', 'direction="input"'), "job", "model")
    entries, most = select("llmvitals_cache_entries", SERVICE), select("llmvitals_cache_max_entries", SERVICE)
    return [
        timeseries(
            101,
            "Hit ratio by cache",
            "Share of the look-ups that found an entry; the dashed line is the alert's.",
            [Query(_hits("job", "cache"), "{{cache}}")],
            unit="percentunit",
            high=1,
            legend_table=True,
            limit=CACHE_HIT_RATIO,
            no_value="No look-ups",
        ),
        timeseries(
            102,
            "Look-ups by result",
            "Per second, in all caches.",
            [Query(total(rate(LOOKUPS, SERVICE), "result"), "{{result}}")],
            unit="ops",
            stacked=True,
            legend_table=True,
            overrides=color_by_name(RESULT_COLORS),
            no_value="No look-ups",
        ),
        timeseries(
            103,
            "Look-ups by cache",
            "Per second.",
            [Query(top(rate(LOOKUPS, SERVICE), "cache", last="cache"), "{{cache}}")],
            unit="ops",
            stacked=True,
            legend_table=True,
            no_value="No look-ups",
        ),
        bargauge(
            104,
            "Cache fill",
            "Entries against the most that the cache may hold. Full is no fault: it evicts. Of the fullest instance.",
            Query(aggregate("max", ratio(entries, most), "cache"), "{{cache}}"),
            unit="percentunit",
            width=6,
            decimals=1,
            no_value=NO_CACHES,
        ),
        bargauge(
            105,
            "Cache bytes",
            "Keys and values with what they directly refer to, estimated from 20 of them; all instances together.",
            Query(total(select("llmvitals_cache_bytes", SERVICE), "cache"), "{{cache}}"),
            unit="bytes",
            width=6,
            high=None,
            no_value=NO_CACHES,
        ),
        timeseries(
            106,
            "Evictions by reason",
            "Entries per second that left: for want of room (size), of age (ttl), or on demand (cleared).",
            [Query(total(rate("llmvitals_cache_evictions_total", SERVICE), "reason"), "{{reason}}")],
            unit="ops",
            width=6,
            stacked=True,
            soft_high=0.1,
            overrides=color_by_name(ENDS_OF_ENTRIES),
            no_value="Nothing was evicted",
        ),
        timeseries(
            204,
            "Input from the provider's cache",
            "Share of the input tokens that the provider had read before, and charges less for.",
            [Query(share_or_zero(cached, read), "{{model}}")],
            unit="percentunit",
            width=6,
            soft_high=0.1,
            no_value="No token usage",
        ),
    ]


def _tiers() -> list[Panel]:
    by = ("job", "cache", "tier")
    hits = total(rate(TIERS, SERVICE, 'result="hit"'), *by)
    asked = total(rate(TIERS, SERVICE, 'result=~"hit|miss"'), *by)
    up = aggregate("min", select("llmvitals_cache_tier_up", SERVICE), *by)
    return [
        timeseries(
            201,
            "Hit ratio by tier",
            "Share of the look-ups in a tier (local, Redis) that found an entry.",
            [Query(share_or_zero(hits, asked), "{{cache}} {{tier}}")],
            unit="percentunit",
            high=1,
            no_value=NO_TIERS,
        ),
        state_timeline(
            202,
            "Tiers that answer",
            f"A cache does without a tier that is away. {alerted('LLMCacheTierDown')}",
            [Query(up, "{{cache}} {{tier}}")],
            mappings=value_map({0: ("away", "red"), 1: ("answers", "green")}),
            width=8,
            no_value=NO_TIERS,
        ),
        timeseries(
            203,
            "Falling back to the local tier",
            f"Times per second that a cache did without Redis. {alerted('LLMCacheFallbacks')}",
            [Query(total(rate("llmvitals_cache_fallbacks_total", SERVICE), "cache", "reason"), "{{cache}} {{reason}}")],
            unit="ops",
            soft_high=0.1,
            no_value=NO_TIERS,
        ),
    ]


def _batches() -> list[Panel]:
    queue = ("job", "queue")
    return [
        *own_spread(
            (301, 302),
            "Size of a batch",
            "Items that were flushed together.",
            "llmvitals_batch_size",
            SERVICE,
            unit="short",
            width=8,
            no_value=NO_BATCHES,
        ),
        timeseries(
            303,
            "Flushes by trigger",
            "Batches per second, by what sent them: a full batch (size), its age (time), or an urgent item (priority).",
            [Query(total(rate("llmvitals_batch_flushes_total", SERVICE), "trigger"), "{{trigger}}")],
            unit="ops",
            stacked=True,
            overrides=color_by_name(TRIGGERS),
            no_value=NO_BATCHES,
        ),
        timeseries(
            304,
            "Wait for the flush p95",
            "95 of 100 items wait less.",
            [Query(quantile(0.95, "llmvitals_batch_wait_seconds", SERVICE, by=queue), "{{queue}}")],
            unit="s",
            legend_table=True,
            no_value=NO_BATCHES,
        ),
        timeseries(
            305,
            "Queue depth",
            f"Items that wait; dashed is what makes a batch now. {alerted('LLMBatchQueueGrowing')}",
            [
                Query(total(select("llmvitals_batch_queue_depth", SERVICE), *queue), "{{queue}}"),
                Query(aggregate("max", select("llmvitals_batch_max_items", SERVICE), *queue), "batch {{queue}}"),
            ],
            unit="short",
            overrides=[dashed("batch", "text")],
            legend_table=True,
            no_value=NO_BATCHES,
        ),
        timeseries(
            306,
            "Items by priority",
            "Per second.",
            [Query(total(rate("llmvitals_batch_items_total", SERVICE), "queue", "priority"), "{{queue}} {{priority}}")],
            unit="ops",
            stacked=True,
            legend_table=True,
            no_value=NO_BATCHES,
        ),
    ]
