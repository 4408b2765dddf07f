"""Local LLM servers: is each engine up, how long is its queue, how full its cache, how quick its answers?"""

from typing import Any

from grafana.builder.dashboards.servers_small import small_rows
from grafana.builder.dashboards.shared import (
    DETAILS,
    DURATION,
    ERRORS,
    FIRST_CHUNK,
    PER_CHUNK,
    REQUESTS,
    TOKENS,
    annotations,
    recorded_quantiles,
    service_variables,
    spread,
    worst,
)
from grafana.builder.layout import Row, dashboard
from grafana.builder.overrides import color_by_name
from grafana.builder.panels import Panel, Query, alerted, stat, timeseries
from grafana.builder.promql import SERVICE, rate, ratio, recorded_quantile, select, share_or_zero, total

ENGINE = 'src="engine"'
NO_ENGINE = "No engine"
OLLAMA, LMSTUDIO, KOBOLDCPP = (f"llmvitals_{kind}_up" for kind in ("ollama", "lmstudio", "koboldcpp"))
# Each engine's own words for requests that wait, that run, and for how full its cache of keys and values is.
WAITING = ("vllm:num_requests_waiting", "sglang:num_queue_reqs", "llamacpp:requests_deferred", "tgi_queue_size")
RUNNING = (
    "vllm:num_requests_running",
    "sglang:num_running_reqs",
    "llamacpp:requests_processing",
    "tgi_batch_current_size",
)
CACHE_FILL = ("vllm:kv_cache_usage_perc", "sglang:token_usage")


def build() -> dict[str, Any]:
    rows = [
        Row(1, "", _first_line()),
        *small_rows(),
        Row(100, "Traffic of engines (name them in .env)", _traffic(), folded=True),
        Row(200, "Speed of engines (name them in .env)", _speed(), folded=True),
        Row(300, "Queue and cache (name engines in .env)", _queue(), folded=True),
    ]
    return dashboard(
        "llmvitals-llm-servers",
        "llmvitals / Local LLM servers",
        "Is each engine up, how long is its queue, how full its cache, and how quick are its answers?",
        variables=service_variables(),
        annotations=annotations(),
        rows=rows,
    )


def _any(names: tuple[str, ...]) -> str:
    return " or ".join(total(select(name, SERVICE), "job", "instance") for name in names)


def _first_line() -> list[Panel]:
    calls = total(select(REQUESTS, SERVICE, ENGINE))
    down = f"{select(OLLAMA, SERVICE)} == 0 or {select(LMSTUDIO, SERVICE)} == 0 or {select(KOBOLDCPP, SERVICE)} == 0"
    asked = f"{select(OLLAMA, SERVICE)} or {select(LMSTUDIO, SERVICE)} or {select(KOBOLDCPP, SERVICE)}"

    def p95(ident: int, title: str, about: str, buckets: str) -> Panel:
        slowest = worst(recorded_quantile(0.95, buckets, SERVICE, ENGINE))
        return stat(ident, title, f"{about} Of the slowest server.", Query(slowest), unit="s", no_value=NO_ENGINE)

    return [
        stat(2, "Requests", "That ended, per second.", Query(calls), unit="reqps", decimals=2, no_value=NO_ENGINE),
        stat(
            3,
            "Errors",
            "Share of the requests that were broken off or failed.",
            Query(share_or_zero(total(select(ERRORS, SERVICE, ENGINE)), calls)),
            unit="percentunit",
            decimals=1,
            no_value=NO_ENGINE,
        ),
        p95(4, "First token p95", "The queue is part of it.", FIRST_CHUNK),
        p95(5, "Token p95", "From one token to the next.", PER_CHUNK),
        stat(
            6,
            "Output",
            "Tokens that were written, per second.",
            Query(total(select(TOKENS, SERVICE, ENGINE, 'direction="output"'))),
            unit="count:tok/s",
            decimals=0,
            no_value=NO_ENGINE,
        ),
        stat(
            7,
            "Waiting",
            f"Requests that no engine has begun with. {alerted('InferenceQueueGrowing')}",
            Query(total(_any(WAITING))),
            unit="none",
            no_value=NO_ENGINE,
        ),
        stat(
            8,
            "Fullest cache",
            f"Of keys and values; when it is full, requests are put off. {alerted('InferenceKVCacheFull')}",
            Query(worst(_any(CACHE_FILL))),
            unit="percentunit",
            decimals=0,
            no_value=NO_ENGINE,
        ),
        stat(
            9,
            "Silent servers",
            f"Ollama, LM Studio and KoboldCpp that the exporter asks in vain. {alerted('InferenceServerDown')}",
            Query(f"count({down}) or 0 * count({asked})"),
            unit="none",
            no_value="None is asked",
        ),
    ]


def _traffic() -> list[Panel]:
    server = ("job", "provider", "model")
    return [
        timeseries(
            101,
            "Requests by engine and model",
            "That ended, per second.",
            [Query(total(select(REQUESTS, SERVICE, ENGINE), *server), "{{job}} {{provider}} {{model}}")],
            unit="reqps",
            stacked=True,
            no_value=NO_ENGINE,
        ),
        timeseries(
            102,
            "Broken off or failed",
            "Requests per second.",
            [Query(total(select(ERRORS, SERVICE, ENGINE), *server), "{{job}} {{provider}} {{model}}")],
            unit="reqps",
            soft_high=0.1,
            no_value=NO_ENGINE,
        ),
        timeseries(
            103,
            "Tokens",
            "Per second, read (input) and written (output).",
            [Query(total(select(TOKENS, SERVICE, ENGINE), "model", "direction"), "{{direction}} {{model}}")],
            unit="count:tok/s",
            overrides=color_by_name({"input": "blue", "output": "purple"}),
            no_value=NO_ENGINE,
        ),
    ]


def _speed() -> list[Panel]:
    found: list[Panel] = []
    for ident, title, about, buckets in (
        (201, "Request duration", "From its arrival to its last token.", DURATION),
        (203, "Time to first token", "The wait in the queue, and the reading of the prompt.", FIRST_CHUNK),
        (205, "Time per token", "After the first.", PER_CHUNK),
    ):
        found += spread(
            (ident, ident + 1),
            title,
            about,
            lines=recorded_quantiles(buckets, SERVICE, ENGINE),
            buckets=select(buckets, SERVICE, ENGINE),
            no_value="No engine that tells it is scraped",
        )
    return found


def _queue() -> list[Panel]:
    hits = total(rate("vllm:prefix_cache_hits_total", SERVICE), "job", "instance")
    asked = total(rate("vllm:prefix_cache_queries_total", SERVICE), "job", "instance")
    sglang = select("sglang:cache_hit_rate", SERVICE)
    cached = total(select(DETAILS, SERVICE, ENGINE, 'kind="cache_read"'), "job")
    read = total(select(TOKENS, SERVICE, ENGINE, 'direction="input"'), "job")
    return [
        timeseries(
            301,
            "Running and waiting",
            f"Requests in each server. {alerted('InferenceQueueGrowing')}",
            [
                Query(_any(RUNNING), "running {{job}} {{instance}}"),
                Query(_any(WAITING), "waiting {{job}} {{instance}}"),
            ],
            unit="short",
            overrides=color_by_name({"running": "blue", "waiting": "orange"}),
            no_value=NO_ENGINE,
        ),
        timeseries(
            302,
            "Cache of keys and values",
            f"Share that is in use. {alerted('InferenceKVCacheFull')}",
            [Query(_any(CACHE_FILL), "{{job}} {{instance}}")],
            unit="percentunit",
            high=1,
            single=True,
            no_value="No engine that tells it is scraped",
        ),
        timeseries(
            303,
            "Put off for want of cache",
            "Preemptions per second: work that has to be done again.",
            [Query(total(rate("vllm:num_preemptions_total", SERVICE), "job", "model_name"), "{{job}} {{model_name}}")],
            unit="ops",
            soft_high=0.1,
            no_value="No vLLM is scraped",
        ),
        timeseries(
            304,
            "Prefixes found in the cache",
            "Share of the look-ups, as vLLM and SGLang tell it.",
            [
                Query(ratio(hits, asked), "vLLM {{instance}}"),
                Query(sglang, "SGLang {{instance}}"),
            ],
            unit="percentunit",
            high=1,
            width=12,
            no_value="No engine that tells it is scraped",
        ),
        timeseries(
            305,
            "Input tokens from the cache",
            "Share that did not have to be read again.",
            [Query(share_or_zero(cached, read), "{{job}}")],
            unit="percentunit",
            soft_high=0.1,
            single=True,
            width=12,
            no_value=NO_ENGINE,
        ),
    ]
