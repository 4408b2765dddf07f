"""LLM service: how much is asked of the models, how much of it fails, and how long it takes."""

from typing import Any

from grafana.builder.dashboards.shared import (
    CLIENT,
    JOB,
    JOB_COST,
    JOB_DURATION,
    JOB_ERRORS,
    JOB_ERRORS_BY_TYPE,
    JOB_FIRST_CHUNK,
    JOB_PER_CHUNK,
    JOB_REQUESTS,
    JOB_TOKENS,
    MODEL,
    OWN_MODEL,
    annotations,
    model_variables,
    own_spread,
    quantiles,
    recorded_quantiles,
    spread,
    worst,
)
from grafana.builder.layout import Row, dashboard
from grafana.builder.overrides import QUANTILE_COLORS, color_by_name
from grafana.builder.panels import Panel, Query, alerted, stat, timeseries
from grafana.builder.promql import quantile, rate, ratio, recorded_quantile, select, share_or_zero, top, total
from grafana.builder.thresholds import API_ERROR_RATIO, ERROR_RATIO, STREAMS_ABORTED

CALLS = "gen_ai_client_operation_duration_seconds"
SERVED = "http_server_request_duration_seconds"
ASKED = "http_client_request_duration_seconds"
# Beside what people ask, health checks are noise.
NO_PROBE = 'http_route!="/healthz"'
# By the hundreds of a status; without one, nothing came back.
STATUS_COLORS = {"2": "blue", "3": "light-blue", "4": "orange", "5": "red", "no answer": "purple"}
END_COLORS = {
    "completed": "blue",
    "cancelled": "light-blue",
    "error": "red",
    "timeout": "orange",
    "abandoned": "purple",
}


def build() -> dict[str, Any]:
    rows = [
        Row(1, "", _first_line()),
        Row(100, "Rate: how much is asked", _rate()),
        Row(200, "Errors: what fails", _errors()),
        Row(300, "Duration: how long it takes", _duration()),
        Row(400, "Streams and sizes", _streams()),
        Row(500, "HTTP, to the service and from it", _http()),
    ]
    return dashboard(
        "llmvitals-llm-service",
        "llmvitals / LLM service",
        "How much does a service ask of its models, how much of it fails, and how long does it take?",
        variables=model_variables(),
        annotations=annotations(),
        rows=rows,
    )


def _first_line() -> list[Panel]:
    calls = total(select(JOB_REQUESTS, MODEL, CLIENT))
    failed = total(select(JOB_ERRORS, MODEL, CLIENT))

    def p95(ident: int, title: str, about: str, buckets: str, no_value: str) -> Panel:
        slowest = worst(recorded_quantile(0.95, buckets, MODEL, CLIENT))
        return stat(ident, title, f"{about} Of the slowest service.", Query(slowest), unit="s", no_value=no_value)

    return [
        stat(2, "Requests", "LLM calls per second.", Query(calls), unit="reqps", decimals=2, no_value="No traffic"),
        stat(
            3,
            "Errors",
            "Share of the calls that failed, whatever the reason.",
            Query(ratio(failed, calls)),
            unit="percentunit",
            limit=ERROR_RATIO,
            decimals=1,
            no_value="No traffic",
        ),
        p95(4, "Duration p95", "95 of 100 calls are faster.", JOB_DURATION, "No traffic"),
        p95(5, "First chunk p95", "Wait for the first piece of a streamed answer.", JOB_FIRST_CHUNK, "No streams"),
        p95(6, "Chunk p95", "From one piece of a streamed answer to the next.", JOB_PER_CHUNK, "No streams"),
        stat(
            7,
            "Output tokens",
            "Tokens that the models wrote, per second.",
            Query(total(select(JOB_TOKENS, MODEL, CLIENT, 'direction="output"'))),
            unit="suffix:tok/s",
            decimals=0,
            no_value="No traffic",
        ),
        stat(
            8,
            "In flight",
            "Calls that wait for their answer now.",
            Query(total(select("llmvitals_calls_in_flight", OWN_MODEL))),
            unit="short",
            no_value="No traffic",
        ),
        stat(
            9,
            "Cost",
            "US dollars per hour at the present rate, by the application's own price table.",
            Query(f"3600 * {total(select(JOB_COST, MODEL, CLIENT))}"),
            unit="suffix:$/h",
            decimals=2,
            no_value="No prices",
        ),
    ]


def _rate() -> list[Panel]:
    calls = select(JOB_REQUESTS, MODEL, CLIENT)
    return [
        timeseries(
            101,
            "Requests by provider and model",
            f"LLM calls per second. {alerted('LLMNoTraffic', 'LLMTrafficSpike')}",
            [Query(top(calls, "provider", "model", last="model"), "{{provider}} {{model}}")],
            unit="reqps",
            stacked=True,
            legend_table=True,
            no_value="No traffic",
        ),
        timeseries(
            102,
            "Requests by service and operation",
            "LLM calls per second: chat, embeddings, and what else there is.",
            [Query(total(calls, "job", "operation"), "{{job}} {{operation}}")],
            unit="reqps",
            stacked=True,
            legend_table=True,
            no_value="No traffic",
        ),
        timeseries(
            103,
            "Calls in flight",
            "Calls that wait for their answer now.",
            [
                Query(
                    total(select("llmvitals_calls_in_flight", OWN_MODEL), "job", "gen_ai_request_model"),
                    "{{job}} {{gen_ai_request_model}}",
                )
            ],
            unit="short",
            legend_table=True,
            no_value="No traffic",
        ),
    ]


def _errors() -> list[Panel]:
    by = ("job", "provider")
    failed, calls = total(select(JOB_ERRORS, MODEL, CLIENT), *by), total(select(JOB_REQUESTS, MODEL, CLIENT), *by)
    finished = total(rate(f"{CALLS}_count", OWN_MODEL), "gen_ai_provider_name")

    def share(error: str) -> str:
        some = rate(f"{CALLS}_count", OWN_MODEL, f'error_type=~"{error}"')
        return share_or_zero(total(some, "gen_ai_provider_name"), finished)

    return [
        timeseries(
            201,
            "Failed calls by error",
            f"Calls per second that ended in an error. {alerted('LLMAuthenticationFailing', 'LLMRequestsInvalid')}",
            [
                Query(
                    total(select(JOB_ERRORS_BY_TYPE, MODEL, CLIENT), "provider", "error_type"),
                    "{{provider}} {{error_type}}",
                )
            ],
            unit="reqps",
            stacked=True,
            soft_high=0.1,
            legend_table=True,
            no_value="No errors",
        ),
        timeseries(
            202,
            "Error ratio by provider",
            "Share of the calls that failed; the dashed line is the alert's.",
            [Query(ratio(failed, calls), "{{job}} {{provider}}")],
            unit="percentunit",
            limit=ERROR_RATIO,
            soft_high=0.1,
            single=True,
            legend_table=True,
            no_value="No traffic",
        ),
        timeseries(
            203,
            "Rate limits and time-outs",
            f"Share of the calls that were refused for their number, or ran out of time. "
            f"{alerted('LLMRateLimited', 'LLMTimeoutsHigh')}",
            [
                Query(share("429|RateLimit.*"), "limited {{gen_ai_provider_name}}"),
                Query(share("408|504|.*(T|t)imeout.*"), "timed out {{gen_ai_provider_name}}"),
            ],
            unit="percentunit",
            soft_high=0.1,
            overrides=color_by_name({"limited": "purple", "timed out": "blue"}),
            legend_table=True,
            no_value="No traffic",
        ),
    ]


def _duration() -> list[Panel]:
    return [
        *spread(
            (301, 302),
            "Call duration",
            "From the request to the last byte of the answer.",
            lines=recorded_quantiles(JOB_DURATION, MODEL, CLIENT),
            buckets=select(JOB_DURATION, MODEL, CLIENT),
            no_value="No traffic",
        ),
        *spread(
            (303, 304),
            "Time to first chunk",
            "How long a person waits before a streamed answer begins.",
            lines=recorded_quantiles(JOB_FIRST_CHUNK, MODEL, CLIENT),
            buckets=select(JOB_FIRST_CHUNK, MODEL, CLIENT),
            no_value="No streams",
        ),
        *spread(
            (305, 306),
            "Time between chunks",
            "From one piece of a streamed answer to the next: above a few tenths, reading stutters.",
            lines=recorded_quantiles(JOB_PER_CHUNK, MODEL, CLIENT),
            buckets=select(JOB_PER_CHUNK, MODEL, CLIENT),
            cells="ops",
            no_value="No streams",
        ),
    ]


def _streams() -> list[Panel]:
    ends = "llmvitals_stream_ends_total"
    broken = total(rate(ends, OWN_MODEL, 'reason=~"error|timeout|abandoned"'), "job", "gen_ai_provider_name")
    all_ends = total(rate(ends, OWN_MODEL), "job", "gen_ai_provider_name")
    tokens = "gen_ai_client_token_usage"
    return [
        timeseries(
            401,
            "Ends of streams",
            "Streams per second, by what ended them.",
            [Query(total(rate(ends, OWN_MODEL), "reason"), "{{reason}}")],
            unit="ops",
            stacked=True,
            overrides=color_by_name(END_COLORS),
            no_value="No streams",
        ),
        timeseries(
            402,
            "Broken streams",
            "Share of the streams that broke off; the dashed line is the alert's.",
            [Query(share_or_zero(broken, all_ends), "{{job}} {{gen_ai_provider_name}}")],
            unit="percentunit",
            limit=STREAMS_ABORTED,
            soft_high=0.1,
            single=True,
            no_value="No streams",
        ),
        timeseries(
            403,
            "First output p95",
            "Wait for the first output that is not the model's reasoning.",
            [
                Query(
                    quantile(
                        0.95, "llmvitals_time_to_first_output_seconds", OWN_MODEL, by=("job", "gen_ai_request_model")
                    ),
                    "{{job}} {{gen_ai_request_model}}",
                )
            ],
            unit="s",
            no_value="No streams",
        ),
        *(
            timeseries(
                404 + i,
                f"{kind.title()} tokens of a call",
                about,
                quantiles(tokens, OWN_MODEL, f'gen_ai_token_type="{kind}"'),
                unit="short",
                decimals=0,
                overrides=color_by_name(QUANTILE_COLORS),
                no_value="No usage told",
            )
            for i, (kind, about) in enumerate(
                (("input", "How long the prompts are."), ("output", "How long the answers are."))
            )
        ),
        timeseries(
            406,
            "Odd chunks and missing usage",
            "Chunks that were none, bytes or empty, and calls without token counts, per second. "
            f"{alerted('LLMUsageMissing')}",
            [
                Query(total(rate("llmvitals_stream_odd_chunks_total", OWN_MODEL), "kind"), "chunk: {{kind}}"),
                Query(total(rate("llmvitals_usage_missing_total", OWN_MODEL), "job"), "no usage: {{job}}"),
            ],
            unit="ops",
            overrides=color_by_name({"chunk": "blue", "no usage": "purple"}),
            soft_high=0.1,
            no_value="Nothing odd",
        ),
    ]


def _http() -> list[Panel]:
    routes, answered = ("job", "http_route"), ("http_response_status_code", "server_port")
    served = total(rate(f"{SERVED}_count", JOB, NO_PROBE), *routes)
    broken = total(rate(f"{SERVED}_count", JOB, NO_PROBE, 'http_response_status_code=~"5.."'), *routes)
    return [
        timeseries(
            501,
            "Requests to the service",
            "HTTP requests per second by route, health checks left out.",
            [Query(top(rate(f"{SERVED}_count", JOB, NO_PROBE), "http_route", last="http_route"), "{{http_route}}")],
            unit="reqps",
            stacked=True,
            legend_table=True,
            no_value="No instrumented web framework",
        ),
        timeseries(
            502,
            "Server errors by route",
            "Share of the requests that were answered with 5xx, of the ten worst; the dashed line is the alert's.",
            [Query(f"topk(10, {share_or_zero(broken, served)})", "{{http_route}}")],
            unit="percentunit",
            limit=API_ERROR_RATIO,
            soft_high=0.1,
            legend_table=True,
            no_value="No instrumented web framework",
        ),
        timeseries(
            503,
            "Request duration p95 by route",
            "To the end of the answer, of the ten slowest; a route that streams takes as long as its model. "
            f"{alerted('LLMApiSlow')}",
            [Query(f"topk(10, {quantile(0.95, SERVED, JOB, NO_PROBE, by=routes)})", "{{http_route}}")],
            unit="s",
            legend_table=True,
            no_value="No instrumented web framework",
        ),
        *own_spread(
            (504, 505),
            "HTTP calls made",
            "From sending a request to its answer's headers, over HTTP clients that are instrumented.",
            ASKED,
            JOB,
            cells="reqps",
            width=8,
            no_value="No instrumented HTTP client",
        ),
        timeseries(
            506,
            "HTTP calls made, by status",
            "HTTP requests per second by what came back.",
            [
                Query(
                    total(rate(f"{ASKED}_count", JOB, 'http_response_status_code!=""'), *answered),
                    "{{http_response_status_code}} from port {{server_port}}",
                ),
                Query(
                    total(rate(f"{ASKED}_count", JOB, 'http_response_status_code=""'), "server_port"),
                    "no answer from port {{server_port}}",
                ),
            ],
            unit="reqps",
            stacked=True,
            overrides=color_by_name(STATUS_COLORS),
            no_value="No instrumented HTTP client",
        ),
    ]
