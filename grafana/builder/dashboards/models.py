"""Models compared: which model is quick, cheap and reliable enough?"""

from typing import Any

from grafana.builder.dashboards.shared import (
    CLIENT,
    JOB_COST,
    JOB_DURATION,
    JOB_ERRORS,
    JOB_FIRST_CHUNK,
    JOB_REQUESTS,
    JOB_TOKENS,
    MODEL,
    OWN_MODEL,
    annotations,
    model_variables,
)
from grafana.builder.layout import Row, dashboard
from grafana.builder.panels import TABLE_HEIGHT, Column, Panel, Query, alerted, bargauge, stat, table, timeseries
from grafana.builder.pictures import pie
from grafana.builder.promql import aggregate, increase, rate, ratio, recorded_quantile, select, share_or_zero, total
from grafana.builder.thresholds import ERROR_RATIO

BY = ("provider", "model")
OWN_BY = ("gen_ai_provider_name", "gen_ai_request_model")
NAME = "{{provider}} {{model}}"
NO_TRAFFIC = "No traffic"
NO_PRICES = "No price table"


def build() -> dict[str, Any]:
    rows = [
        Row(1, "", _first_line()),
        Row(100, "Side by side", _side_by_side()),
        Row(200, "Speed and failures", _speed()),
        Row(300, "Size and price", _price()),
    ]
    return dashboard(
        "llmvitals-models",
        "llmvitals / Models compared",
        "Which model is quick, cheap and reliable enough?",
        variables=model_variables(),
        annotations=annotations(),
        rows=rows,
    )


def _calls(*by: str) -> str:
    return total(select(JOB_REQUESTS, MODEL, CLIENT), *by)


def _tokens(*by: str) -> str:
    return total(select(JOB_TOKENS, MODEL, CLIENT), *by)


def _written(*by: str) -> str:
    return total(select(JOB_TOKENS, MODEL, CLIENT, 'direction="output"'), *by)


def _cost(*by: str) -> str:
    return total(select(JOB_COST, MODEL, CLIENT), *by)


def _errors() -> str:
    return share_or_zero(total(select(JOB_ERRORS, MODEL, CLIENT), *BY), _calls(*BY))


def _p95(buckets: str) -> str:
    """Of each model, its slowest service's."""
    return aggregate("max", recorded_quantile(0.95, buckets, MODEL, CLIENT, by=("job", *BY)), *BY)


def _first_line() -> list[Panel]:
    def best(ident: int, title: str, about: str, expression: str, *, unit: str, no_value: str = NO_TRAFFIC) -> Panel:
        decimals = None if unit == "s" else 0 if unit in {"none", "suffix:tok/s"} else 2
        return stat(ident, title, about, Query(expression), unit=unit, decimals=decimals, no_value=no_value)

    per_million = f"1e6 * {ratio(_cost(*BY), _tokens(*BY))}"
    return [
        best(2, "Models", "That answer calls now.", f"count({_calls(*BY)} > 0)", unit="none"),
        best(3, "Quickest p95", "Of a whole call.", aggregate("min", _p95(JOB_DURATION)), unit="s"),
        best(4, "Slowest p95", "Of a whole call.", aggregate("max", _p95(JOB_DURATION)), unit="s"),
        best(5, "First chunk p95", "Of the quickest model.", aggregate("min", _p95(JOB_FIRST_CHUNK)), unit="s"),
        stat(
            6,
            "Worst errors",
            "Share of the calls that failed, of the model with most.",
            Query(aggregate("max", _errors())),
            unit="percentunit",
            decimals=1,
            limit=ERROR_RATIO,
            no_value=NO_TRAFFIC,
        ),
        best(
            7,
            "Cheapest / 1M",
            "US dollars per million tokens, read and written.",
            aggregate("min", per_million),
            unit="currencyUSD",
            no_value=NO_PRICES,
        ),
        best(
            8,
            "Dearest / 1M",
            "US dollars per million tokens, read and written.",
            aggregate("max", per_million),
            unit="currencyUSD",
            no_value=NO_PRICES,
        ),
        best(9, "Output", "Tokens per second that all models write.", _written(), unit="suffix:tok/s"),
    ]


def _side_by_side() -> list[Panel]:
    return [
        table(
            101,
            "Model by model",
            "At the present rate, the busiest first; a dash where there is nothing to divide by, or no price.",
            [
                Query(_calls(*BY)),
                Query(_errors()),
                Query(_p95(JOB_DURATION)),
                Query(_p95(JOB_FIRST_CHUNK)),
                Query(_written(*BY)),
                Query(f"1000 * {ratio(_cost(*BY), _calls(*BY))}"),
                Query(f"1e6 * {ratio(_cost(*BY), _tokens(*BY))}"),
            ],
            [
                Column("provider", "Provider", width=110),
                Column("model", "Model", width=150),
                Column("Value #A", "Requests", unit="reqps", decimals=2),
                Column("Value #B", "Errors", unit="percentunit", decimals=1, limit=ERROR_RATIO, no_value="-"),
                Column("Value #C", "Duration p95", unit="s", no_value="-"),
                Column("Value #D", "First chunk p95", unit="s", no_value="-"),
                Column("Value #E", "Output", unit="suffix:tok/s", decimals=0),
                Column("Value #F", "$ per 1000 calls", unit="currencyUSD", decimals=2, no_value="-"),
                Column("Value #G", "$ per 1M tokens", unit="currencyUSD", decimals=2, no_value="-"),
            ],
            width=24,
            height=7,
            no_value=NO_TRAFFIC,
            sort=("Requests", True),
        ),
    ]


def _speed() -> list[Panel]:
    ended = total(rate("llmvitals_stream_ends_total", OWN_MODEL), "gen_ai_provider_name", "gen_ai_request_model")
    # Both of one window: a minute's tokens over the seconds of another window would be a speed that nobody has.
    written = rate("gen_ai_client_token_usage_sum", OWN_MODEL, 'gen_ai_token_type="output"')
    took = rate("gen_ai_client_operation_duration_seconds_sum", OWN_MODEL)
    broken = total(
        rate("llmvitals_stream_ends_total", OWN_MODEL, 'reason=~"error|timeout|abandoned"'),
        "gen_ai_provider_name",
        "gen_ai_request_model",
    )
    return [
        timeseries(
            201,
            "Call duration p95",
            "To the last byte of the answer.",
            [Query(_p95(JOB_DURATION), NAME)],
            unit="s",
            legend_table=True,
            no_value=NO_TRAFFIC,
        ),
        timeseries(
            202,
            "Time to first chunk p95",
            "Before a streamed answer begins.",
            [Query(_p95(JOB_FIRST_CHUNK), NAME)],
            unit="s",
            legend_table=True,
            no_value="No streams",
        ),
        timeseries(
            203,
            "Writing speed",
            "Output tokens for each second that the calls took, of those that ended.",
            [
                Query(
                    ratio(total(written, *OWN_BY), total(took, *OWN_BY)),
                    "{{gen_ai_provider_name}} {{gen_ai_request_model}}",
                )
            ],
            unit="suffix:tok/s",
            decimals=0,
            legend_table=True,
            no_value=NO_TRAFFIC,
        ),
        timeseries(
            204,
            "Error ratio",
            "Share of the calls that failed; the dashed line is the alert's.",
            [Query(_errors(), NAME)],
            unit="percentunit",
            limit=ERROR_RATIO,
            soft_high=0.1,
            legend_table=True,
            no_value=NO_TRAFFIC,
        ),
        timeseries(
            205,
            "Broken streams",
            f"Share of the streams that broke off. {alerted('LLMStreamAborted')}",
            [Query(share_or_zero(broken, ended), "{{gen_ai_provider_name}} {{gen_ai_request_model}}")],
            unit="percentunit",
            soft_high=0.1,
            legend_table=True,
            no_value="No streams",
        ),
        timeseries(
            206,
            "Requests",
            "Per second.",
            [Query(_calls(*BY), NAME)],
            unit="reqps",
            stacked=True,
            legend_table=True,
            no_value=NO_TRAFFIC,
        ),
    ]


def _price() -> list[Panel]:
    return [
        timeseries(
            301,
            "Tokens of a call",
            "Read and written, on average.",
            [Query(ratio(_tokens(*BY), _calls(*BY)), NAME)],
            unit="short",
            width=6,
            legend_table=True,
            no_value="No token usage",
        ),
        timeseries(
            302,
            "Price of 1000 calls",
            "US dollars, by the application's own price table.",
            [Query(f"1000 * {ratio(_cost(*BY), _calls(*BY))}", NAME)],
            unit="currencyUSD",
            decimals=2,
            width=6,
            legend_table=True,
            no_value=NO_PRICES,
        ),
        bargauge(
            303,
            "Spent on each",
            "US dollars in the chosen range.",
            Query(
                total(increase("llmvitals_cost_usd_total", OWN_MODEL), "gen_ai_provider_name", "gen_ai_request_model"),
                "{{gen_ai_provider_name}} {{gen_ai_request_model}}",
            ),
            unit="currencyUSD",
            high=None,
            width=6,
            height=TABLE_HEIGHT,
            decimals=None,
            no_value=NO_PRICES,
        ),
        pie(
            304,
            "Share of the calls",
            "Calls per second, now.",
            Query(_calls(*BY), NAME),
            unit="reqps",
            decimals=2,
            width=6,
            height=TABLE_HEIGHT,
            no_value=NO_TRAFFIC,
        ),
    ]
