"""Tokens and cost: what is spent, on which models, and what of it is not counted."""

from typing import Any

from grafana.builder.dashboards.shared import (
    CLIENT,
    JOB,
    JOB_COST,
    JOB_DETAILS,
    JOB_REQUESTS,
    JOB_TOKENS,
    MODEL,
    NOBODY,
    OWN_MODEL,
    annotations,
    model_variables,
    or_zero,
)
from grafana.builder.layout import Row, dashboard
from grafana.builder.overrides import color_by_name, dashed
from grafana.builder.panels import TABLE_HEIGHT, Column, Panel, Query, alerted, stat, table, timeseries
from grafana.builder.pictures import pie
from grafana.builder.promql import aggregate, increase, ratio, select, share_or_zero, top, total
from grafana.builder.thresholds import COST_PER_HOUR, DAY_BUDGET

SPENT = "llmvitals_cost_usd_total"
PER_SECOND = "suffix:tok/s"
PER_HOUR = "suffix:$/h"
NO_PRICES = "No price table"
NO_USAGE = "No token usage"
NO_BUDGET = "No budget in the price table"
DIRECTION_COLORS = {"input": "light-blue", "output": "blue"}
DETAIL_COLORS = {"cache_read": "light-blue", "cache_write": "blue", "reasoning": "purple"}


def build() -> dict[str, Any]:
    rows = [
        Row(1, "", _first_line()),
        Row(400, "Budget", _budget()),
        Row(100, "Where the money goes", _cost()),
        Row(200, "Tokens of all kinds", _tokens()),
        Row(300, "What is not counted", _uncounted()),
    ]
    return dashboard(
        "llmvitals-cost",
        "llmvitals / Tokens and cost",
        "What is spent on models, on which, and what of it is not counted?",
        variables=model_variables(),
        annotations=annotations(),
        rows=rows,
    )


def _per_hour(*by: str) -> str:
    return f"3600 * {total(select(JOB_COST, MODEL, CLIENT), *by)}"


def _top_per_hour(*by: str) -> str:
    return top(f"3600 * {select(JOB_COST, MODEL, CLIENT)}", *by, last=by[-1])


def _first_line() -> list[Panel]:
    dollars, calls = total(select(JOB_COST, MODEL, CLIENT)), total(select(JOB_REQUESTS, MODEL, CLIENT))
    tokens = total(select(JOB_TOKENS, MODEL, CLIENT))
    read = total(select(JOB_TOKENS, MODEL, CLIENT, 'direction="input"'))
    cached = total(select(JOB_DETAILS, MODEL, CLIENT, 'kind="cache_read"'))
    worst_job = aggregate("max", f"3600 * {total(select(JOB_COST, MODEL, CLIENT), 'job')}")
    return [
        stat(
            2,
            "Cost now",
            "US dollars per hour at the present rate, of the dearest service; by the application's own price table.",
            Query(worst_job),
            unit=PER_HOUR,
            decimals=2,
            limit=COST_PER_HOUR,
            no_value=NO_PRICES,
        ),
        stat(
            3,
            "Spent",
            "US dollars in the chosen range.",
            Query(total(increase(SPENT, OWN_MODEL))),
            unit="currencyUSD",
            decimals=2,
            sparkline=False,
            no_value=NO_PRICES,
        ),
        stat(
            4,
            "A month of this",
            "US dollars in 30 days if they all were like the chosen range.",
            Query(f"2592000 * {total(f'avg_over_time({select(JOB_COST, MODEL, CLIENT)}[$__range])')}"),
            unit="currencyUSD",
            sparkline=False,
            no_value=NO_PRICES,
        ),
        stat(
            5,
            "Per 1000 calls",
            "US dollars.",
            Query(f"1000 * {ratio(dollars, calls)}"),
            unit="currencyUSD",
            decimals=2,
            no_value=NO_PRICES,
        ),
        stat(
            6,
            "Per 1M tokens",
            "US dollars per million tokens, read and written.",
            Query(f"1e6 * {ratio(dollars, tokens)}"),
            unit="currencyUSD",
            decimals=2,
            no_value=NO_PRICES,
        ),
        stat(
            7,
            "Tokens",
            "Read and written per second.",
            Query(tokens),
            unit=PER_SECOND,
            decimals=0,
            no_value=NO_USAGE,
        ),
        stat(
            8,
            "From cache",
            "Share of the input tokens that the provider had read before.",
            Query(share_or_zero(cached, read)),
            unit="percentunit",
            decimals=0,
            no_value=NO_USAGE,
        ),
        stat(
            9,
            "Unpriced calls",
            f"Calls in the chosen range for which there is no price. {alerted('LLMPriceMissing')}",
            Query(or_zero(total(increase("llmvitals_unpriced_calls_total", OWN_MODEL)), JOB)),
            unit="none",
            decimals=0,
            sparkline=False,
            no_value=NOBODY,
        ),
    ]


def _budget() -> list[Panel]:
    spent, forecast = (select(f"llm:job_{name}", JOB) for name in ("spent_usd:sum1d", "spend_forecast_usd:day"))
    of_day, of_month = (
        aggregate("max", select("llmvitals_cost_budget_usd", JOB, f'period="{period}"'), "job")
        for period in ("day", "month")
    )
    age = aggregate("max", f"time() - {select('llmvitals_price_table_timestamp_seconds', JOB)}")
    month = select("llm:job_spend_forecast_usd:month", JOB)
    return [
        stat(
            401,
            "Of a day's budget",
            "Spent in the last 24 hours by the service that is nearest to its budget; nothing begins anew at midnight. "
            f"{alerted('LLMDailyBudgetExceeded')}",
            Query(aggregate("max", f"{spent} / on (job) ({of_day} > 0)")),
            unit="percentunit",
            width=8,
            limit=DAY_BUDGET,
            no_value=NO_BUDGET,
        ),
        stat(
            402,
            "Of a month's budget",
            f"What 30 days like the last seven cost, of the budget for a month. {alerted('LLMMonthlyBudgetForecast')}",
            Query(aggregate("max", f"{month} / on (job) ({of_month} > 0)")),
            unit="percentunit",
            width=8,
            no_value=NO_BUDGET,
        ),
        stat(
            403,
            "Age of the prices",
            f"Since somebody last looked after the oldest price table. {alerted('LLMPriceTableStale')}",
            Query(age),
            unit="s",
            width=8,
            sparkline=False,
            no_value=NO_PRICES,
        ),
        timeseries(
            404,
            "Day's spending and its budget",
            "US dollars in the 24 hours up to then; what that will be in six hours, if they are like the last one; "
            f"and the budget (dashed). {alerted('LLMDailyBudgetForecast')}",
            [
                Query(spent, "{{job}}, 24 hours"),
                Query(forecast, "{{job}}, in 6 hours"),
                Query(of_day, "Budget of {{job}}"),
            ],
            unit="currencyUSD",
            decimals=2,
            width=24,
            stepped=True,
            overrides=[dashed("Budget", "text")],
            no_value=NO_PRICES,
        ),
    ]


def _cost() -> list[Panel]:
    by = ("job", "provider", "model")
    calls = total(select(JOB_REQUESTS, MODEL, CLIENT), *by)
    tokens = total(select(JOB_TOKENS, MODEL, CLIENT), *by)
    dollars = total(select(JOB_COST, MODEL, CLIENT), *by)
    return [
        timeseries(
            101,
            "Cost by model",
            f"US dollars per hour. {alerted('LLMCostSpike')}",
            [Query(_top_per_hour("provider", "model"), "{{provider}} {{model}}")],
            unit=PER_HOUR,
            stacked=True,
            legend_table=True,
            no_value=NO_PRICES,
        ),
        timeseries(
            102,
            "Cost by service",
            "US dollars per hour; the dashed line is the alert's.",
            [Query(_per_hour("job"), "{{job}}")],
            unit=PER_HOUR,
            limit=COST_PER_HOUR,
            legend_table=True,
            no_value=NO_PRICES,
        ),
        pie(
            103,
            "Cost by kind",
            "US dollars in the chosen range, for what was read, written, and read from a cache.",
            Query(total(increase(SPENT, OWN_MODEL), "kind"), "{{kind}}"),
            unit="currencyUSD",
            height=TABLE_HEIGHT,
            decimals=2,
            overrides=color_by_name({"input": "light-blue", "output": "blue", "cached": "purple"}),
            no_value=NO_PRICES,
        ),
        table(
            104,
            "Who spends it",
            "At the present rate, the dearest first; a dash where there is nothing to divide by, or no price.",
            [
                Query(f"3600 * {dollars}"),
                Query(f"1000 * {ratio(dollars, calls)}"),
                Query(f"1e6 * {ratio(dollars, tokens)}"),
                Query(ratio(tokens, calls)),
            ],
            [
                Column("provider", "Provider", width=110),
                Column("model", "Model", width=150),
                Column("Value #A", "Per hour", unit="currencyUSD", decimals=2, no_value="-"),
                Column("Value #B", "Per 1000 calls", unit="currencyUSD", decimals=2, no_value="-"),
                Column("Value #C", "Per 1M tokens", unit="currencyUSD", decimals=2, no_value="-"),
                Column("Value #D", "Tokens of a call", unit="none", decimals=0, no_value="-"),
                Column("job", "Service", width=130),
            ],
            width=24,
            height=7,
            no_value=NO_PRICES,
            sort=("Per hour", True),
        ),
    ]


def _tokens() -> list[Panel]:
    tokens, calls = select(JOB_TOKENS, MODEL, CLIENT), total(select(JOB_REQUESTS, MODEL, CLIENT), "model")
    return [
        timeseries(
            201,
            "Tokens by kind",
            "Per second, read (input) and written (output).",
            [Query(total(tokens, "direction"), "{{direction}}")],
            unit=PER_SECOND,
            stacked=True,
            legend_table=True,
            overrides=color_by_name(DIRECTION_COLORS),
            no_value=NO_USAGE,
        ),
        timeseries(
            202,
            "Tokens by model",
            "Per second, read and written.",
            [Query(top(tokens, "provider", "model", last="model"), "{{provider}} {{model}}")],
            unit=PER_SECOND,
            stacked=True,
            legend_table=True,
            no_value=NO_USAGE,
        ),
        timeseries(
            203,
            "Tokens of a call",
            "Read and written, on average.",
            [Query(ratio(total(tokens, "model"), calls), "{{model}}")],
            unit="short",
            legend_table=True,
            no_value=NO_USAGE,
        ),
        timeseries(
            204,
            "Parts with a price of their own",
            "Tokens per second read from or put into the provider's cache, or spent on reasoning; part of the others.",
            [Query(total(select(JOB_DETAILS, MODEL, CLIENT), "kind"), "{{kind}}")],
            unit=PER_SECOND,
            width=12,
            overrides=color_by_name(DETAIL_COLORS),
            no_value="The provider tells no parts",
        ),
        timeseries(
            205,
            "Output for each input token",
            "A rising line means longer answers, or shorter prompts.",
            [
                Query(
                    ratio(
                        total(select(JOB_TOKENS, MODEL, CLIENT, 'direction="output"'), "model"),
                        total(select(JOB_TOKENS, MODEL, CLIENT, 'direction="input"'), "model"),
                    ),
                    "{{model}}",
                )
            ],
            unit="short",
            decimals=2,
            width=12,
            no_value=NO_USAGE,
        ),
    ]


def _uncounted() -> list[Panel]:
    model = ("gen_ai_provider_name", "gen_ai_request_model")
    name = "{{gen_ai_provider_name}} {{gen_ai_request_model}}"
    return [
        timeseries(
            301,
            "Calls without a price",
            f"Per second; the cost is too low by them. {alerted('LLMPriceMissing')}",
            [
                Query(
                    total(f"rate({select('llmvitals_unpriced_calls_total', OWN_MODEL)}[$__rate_interval])", *model),
                    name,
                )
            ],
            unit="reqps",
            width=12,
            soft_high=0.1,
            no_value="Every call has its price",
        ),
        timeseries(
            302,
            "Calls without token counts",
            f"Per second; tokens and cost are too low by them. {alerted('LLMUsageMissing')}",
            [
                Query(
                    total(f"rate({select('llmvitals_usage_missing_total', OWN_MODEL)}[$__rate_interval])", *model), name
                )
            ],
            unit="reqps",
            width=12,
            soft_high=0.1,
            no_value="Every call told its tokens",
        ),
    ]
