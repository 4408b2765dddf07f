"""What is summed over days: dollars against budgets, and how much caches answer against what they used to."""

from typing import Any

from prometheus.builder.promql import selector, total
from prometheus.builder.rulefile import Group, RuleFile, record

Rule = dict[str, Any]

# Taken this often from the rates of the last minute, so that the minutes of a day add up to the day.
MINUTE = "1m"
SPENT, FORECAST = "llm:job_spent_usd", "llm:job_spend_forecast_usd"
RATIO = "llm:job_cache_hit_ratio"


def files() -> list[RuleFile]:
    header = """
By job, as its client counts it, of the time up to now: a day is the last 24 hours, and nothing begins anew at midnight.
  llm:job_spent_usd:sum1m, :sum1d, :sum7d, :sum30d  US dollars
  llm:job_spend_forecast_usd:day                    of the day that ends in six hours, if these are like the last hour
  llm:job_spend_forecast_usd:month                  of 30 days like the last seven
  llm:job_cache_lookups:sum1m, llm:job_cache_hits:sum1m
                                                    (cache) of the model's own, called prompts, input tokens
  llm:job_cache_hit_ratio:avg30m, :avg7d            (cache) hits of lookups; absent with too few of them
"""
    return [
        RuleFile(
            "recording/spending.yml",
            header,
            [
                Group("llm-spending", [*_minutes(), *_weeks()], MINUTE),
                Group("llm-cache-use", [*_caches(), *_ratios()], MINUTE),
            ],
        )
    ]


def _minutes() -> list[Rule]:
    minute = f"{SPENT}:sum1m"
    spent = total(selector("llm:job_cost_usd:rate1m", 'src="client"'), ["job"])
    return [
        record(minute, f"60 * {spent}"),
        record(f"{SPENT}:sum1d", f"sum_over_time({minute}[1d])"),
        record(f"{FORECAST}:day", f"sum_over_time({minute}[18h]) + 6 * sum_over_time({minute}[1h])"),
    ]


def _weeks() -> list[Rule]:
    return [
        *(record(f"{SPENT}:sum{days}d", f"sum_over_time({SPENT}:sum1m[{days}d])") for days in (7, 30)),
        record(f"{FORECAST}:month", f"30 / 7 * {SPENT}:sum7d"),
    ]


def _caches() -> list[Rule]:
    requests, lookups, hits = (
        "job:llmvitals_cache_requests:rate1m",
        "llm:job_cache_lookups:sum1m",
        "llm:job_cache_hits:sum1m",
    )
    asked = total(selector(requests, 'result=~"hit|miss"'), ["job", "cache"])
    answered = total(selector(requests, 'result="hit"'), ["job", "cache"])
    read = total(selector("llm:job_tokens:rate1m", 'direction="input"'), ["job"])
    cached = total(selector("llm:token_details:rate1m", 'kind="cache_read"'), ["job"])
    return [
        record(lookups, f"60 * {asked}"),
        record(lookups, f"60 * ({read} and {cached})", cache="prompts"),
        record(hits, f'60 * {answered}\nor 0 * {lookups}{{cache!="prompts"}}'),
        record(hits, f"60 * {cached}", cache="prompts"),
    ]


def _ratios() -> list[Rule]:
    return [
        record(
            f"{RATIO}:avg{window}",
            f"sum_over_time(llm:job_cache_hits:sum1m[{window}])"
            f"\n/\n(sum_over_time(llm:job_cache_lookups:sum1m[{window}]) >= {least})",
        )
        for window, least in (("30m", 100), ("7d", 1000))
    ]
