"""How each contender is switched on, as its own documentation says: metrics on, tracing and content off.

Each function imports and starts one, and returns what writes its metrics for a scrape.
"""

# Each is imported in the one process that measures it; no environment has them all.
# ruff: noqa: PLC0415

from collections.abc import Callable
from pathlib import Path

Scrape = Callable[[], bytes]


def llmvitals() -> Scrape:
    from prometheus_client import CollectorRegistry

    import llmvitals
    from llmvitals.exposition import encode

    registry = CollectorRegistry()
    # With no port: the server is not what is measured. All families are on.
    vitals = llmvitals.Vitals(service="bench", registry=registry)
    llmvitals.instrument(vitals)
    return lambda: encode(registry)


def by_hand() -> Scrape:
    from bench.instrumentation import _by_hand
    from prometheus_client import generate_latest

    _by_hand.put_in_place()
    return lambda: generate_latest(_by_hand.registry)


def openai_v2() -> Scrape:
    from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor

    scrape = _opentelemetry()
    OpenAIInstrumentor().instrument()
    return scrape


def genai_openai() -> Scrape:
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

    scrape = _opentelemetry()
    OpenAIInstrumentor().instrument()
    return scrape


def openllmetry() -> Scrape:
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor

    scrape = _opentelemetry()
    OpenAIInstrumentor().instrument()
    return scrape


def openlit() -> Scrape:
    import openlit

    scrape = _opentelemetry()
    prices = Path(__file__).with_name("prices.json")  # It would else fetch them.
    openlit.init(
        capture_message_content=False, disable_events=True, pricing_json=str(prices), otlp_endpoint="http://127.0.0.1:9"
    )
    return scrape


def _opentelemetry() -> Scrape:
    from opentelemetry import metrics, trace
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
    from prometheus_client import REGISTRY, generate_latest

    metrics.set_meter_provider(MeterProvider(metric_readers=[PrometheusMetricReader()]))
    trace.set_tracer_provider(TracerProvider(sampler=ALWAYS_OFF))
    return lambda: generate_latest(REGISTRY)


CONTENDERS = {
    "llmvitals": llmvitals,
    "by hand": by_hand,
    "openai-v2": openai_v2,
    "genai-openai": genai_openai,
    "OpenLLMetry": openllmetry,
    "OpenLIT": openlit,
}
