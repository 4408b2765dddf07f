"""What several dashboards share: variables, recorded names, marks on charts, and pairs of panels."""

from collections.abc import Sequence
from typing import Any

from grafana.builder.layout import annotation, label_variable
from grafana.builder.overrides import QUANTILE_COLORS, color_by_name
from grafana.builder.panels import HEIGHT, Panel, Query, timeseries
from grafana.builder.pictures import heatmap
from grafana.builder.promql import aggregate, newer, quantile, rate, recorded_quantile, select, stepped_up, total

# Recorded over the last minute, from our own names and from those of other instrumentations.
REQUESTS = "llm:requests:rate1m"
ERRORS = "llm:errors:rate1m"
TOKENS = "llm:tokens:rate1m"
DETAILS = "llm:token_details:rate1m"
DURATION = "llm:duration_seconds_bucket:rate1m"
FIRST_CHUNK = "llm:ttft_seconds_bucket:rate1m"
PER_CHUNK = "llm:tpot_seconds_bucket:rate1m"

# The same of each service, all its instances together: a day of a thousand of them can be read.
JOB_REQUESTS = "llm:job_requests:rate1m"
JOB_ERRORS = "llm:job_errors:rate1m"
JOB_ERRORS_BY_TYPE = "llm:job_errors_by_type:rate1m"
JOB_TOKENS = "llm:job_tokens:rate1m"
JOB_DETAILS = "llm:job_token_details:rate1m"
JOB_COST = "llm:job_cost_usd:rate1m"
JOB_DURATION = "llm:job_duration_seconds_bucket:rate1m"
JOB_FIRST_CHUNK = "llm:job_ttft_seconds_bucket:rate1m"
JOB_PER_CHUNK = "llm:job_tpot_seconds_bucket:rate1m"

# Where nothing that imports llmvitals is scraped.
NOBODY = "No application"
# What an LLM server says of itself counts the same calls again.
CLIENT = 'src="client"'
# What the variables of a dashboard about models narrow, in the recorded names and in our own.
MODEL = 'job=~"$job", provider=~"$provider", model=~"$model"'
OWN_MODEL = 'job=~"$job", gen_ai_provider_name=~"$provider", gen_ai_request_model=~"$model"'
# Where there is no model to tell apart.
JOB = 'job=~"$job"'

# How many fire, the Watchdog left out.
ALERTS_FIRING = "job:alerts_firing:count"

QUANTILES = (0.5, 0.95, 0.99)


def service_variables(series: str = "up") -> list[dict[str, Any]]:
    """Which service, and which of its instances: those that emit *series*."""
    return [
        label_variable("job", "Service", series, "job"),
        label_variable("instance", "Instance", f'{series}{{job=~"$job"}}', "instance"),
    ]


def model_variables() -> list[dict[str, Any]]:
    """Which service, which provider of models, and which model."""
    return [
        label_variable("job", "Service", f"{JOB_REQUESTS}{{{CLIENT}}}", "job"),
        label_variable("provider", "Provider", f'{JOB_REQUESTS}{{{CLIENT}, job=~"$job"}}', "provider"),
        label_variable("model", "Model", f'{JOB_REQUESTS}{{{CLIENT}, job=~"$job", provider=~"$provider"}}', "model"),
    ]


def annotations() -> list[dict[str, Any]]:
    """What happened: alerts, what remediation did, and starts of programs, as each deployment makes one."""
    fired = total(select(ALERTS_FIRING), "alertname", "severity", "job")
    return [
        annotation(
            "Remediations",
            stepped_up("llmvitals_remediation_attempts_total", "handler", "verdict"),
            title="Remediation: {{handler}}",
            text="{{handler}}: {{verdict}}",
            tags="handler,verdict",
            color="blue",
            step="5s",
        ),
        annotation(
            "Firing alerts",
            f"{fired} > 0",
            title="{{alertname}}",
            text="{{alertname}} ({{severity}}) on {{job}}",
            tags="severity,job",
            color="red",
            step="5s",
        ),
        annotation(
            "Deploys and restarts",
            newer("job:process_start_time_seconds:max", "job"),
            title="Start: {{job}}",
            text="A process of {{job}} started",
            tags="job",
            color="purple",
            step="5s",
        ),
    ]


def quantiles(histogram: str, *matchers: str, by: Sequence[str] = ("job",), legend: str = "{{job}}") -> list[Query]:
    """p50, p95 and p99 of a classic histogram."""
    return [Query(quantile(q, histogram, *matchers, by=tuple(by)), f"p{q * 100:g} {legend}".strip()) for q in QUANTILES]


def recorded_quantiles(buckets: str, *matchers: str) -> list[Query]:
    """The same of recorded rates of buckets."""
    return [Query(recorded_quantile(q, buckets, *matchers), f"p{q * 100:g} {{{{job}}}}") for q in QUANTILES]


def spread(
    idents: tuple[int, int],
    title: str,
    about: str,
    *,
    lines: Sequence[Query],
    buckets: str,
    unit: str = "s",
    cells: str = "reqps",
    width: int = 12,
    height: int = HEIGHT,
    no_value: str = "No data",
) -> list[Panel]:
    """Quantiles, and beside them the heatmap of the same *buckets*, which shows the two humps that a quantile hides."""
    return [
        timeseries(
            idents[0],
            title,
            about,
            lines,
            unit=unit,
            overrides=color_by_name(QUANTILE_COLORS),
            width=width,
            height=height,
            no_value=no_value,
        ),
        heatmap(
            idents[1],
            f"{title}: heatmap",
            f"{about} How many, by how much; darker or brighter is more.",
            Query(total(buckets, "le")),
            unit=unit,
            cells=cells,
            width=width,
            height=height,
            no_value=no_value,
        ),
    ]


def own_spread(
    idents: tuple[int, int],
    title: str,
    about: str,
    histogram: str,
    *matchers: str,
    unit: str = "s",
    cells: str = "ops",
    width: int = 12,
    height: int = HEIGHT,
    no_value: str = "No data",
) -> list[Panel]:
    """`spread` of a histogram that an application exposes itself."""
    return spread(
        idents,
        title,
        about,
        lines=quantiles(histogram, *matchers),
        buckets=rate(f"{histogram}_bucket", *matchers),
        unit=unit,
        cells=cells,
        width=width,
        height=height,
        no_value=no_value,
    )


def of_apps(expression: str) -> str:
    """Of what every program tells of itself, those that import llmvitals: Prometheus and its like have no users."""
    return f"{expression} and on (job, instance) {select('llmvitals_build_info')}"


def or_zero(expression: str, *matchers: str) -> str:
    """0 where *expression* has nothing to count, as long as an application is there to count it; else nothing."""
    return f"{expression} or 0 * count({select('llmvitals_build_info', *matchers)})"


def worst(expression: str) -> str:
    """The highest of all series: one number for a tile."""
    return aggregate("max", expression)
