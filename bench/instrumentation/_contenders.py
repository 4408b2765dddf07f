"""How each contender is switched on, as its own documentation says: metrics on, tracing and content off.

Each function imports and starts one, and returns what writes its metrics for a scrape.
"""

# Each is imported in the one process that measures it; no environment has them all.
# ruff: noqa: PLC0415

from collections.abc import Callable
from pathlib import Path
from typing import Any

Scrape = Callable[[], bytes]


def llmvitals() -> Scrape:
    return _llmvitals(lambda _: None)


def llmvitals_costs() -> Scrape:
    """With what is off by default: the price of each call, and its tokens by what they were."""

    def switch_on(vitals: Any) -> None:
        vitals.prices(Path(__file__).with_name("our_prices.json"))
        vitals.inference_usage()

    return _llmvitals(switch_on)


def llmvitals_workers() -> Scrape:
    return _llmvitals(lambda vitals: vitals.join_workers("127.0.0.1", 9464, name="bench"))


def _llmvitals(switch_on: Callable[[Any], object]) -> Scrape:
    from prometheus_client import CollectorRegistry

    import llmvitals
    from llmvitals.exposition import encode

    registry = CollectorRegistry()
    # With no port: the server is not what is measured.
    vitals = llmvitals.Vitals(service="bench", registry=registry)
    switch_on(vitals)
    llmvitals.instrument(vitals)
    return lambda: encode(vitals.shown)


def by_hand() -> Scrape:
    from bench.instrumentation import _by_hand
    from prometheus_client import generate_latest

    _by_hand.put_in_place()
    return lambda: generate_latest(_by_hand.registry)


def by_hand_mmap() -> Scrape:
    """For many workers, as prometheus_client has it; where its files go is in the environment."""
    from bench.instrumentation import _by_hand
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector

    _by_hand.put_in_place()
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return lambda: generate_latest(registry)


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
    "llmvitals-costs": llmvitals_costs,
    "llmvitals-workers": llmvitals_workers,
    "by-hand": by_hand,
    "by-hand-mmap": by_hand_mmap,
    "openai-v2": openai_v2,
    "genai-openai": genai_openai,
    "OpenLLMetry": openllmetry,
    "OpenLIT": openlit,
}
