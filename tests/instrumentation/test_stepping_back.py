"""With the real OpenTelemetry SDK, its Prometheus exporter and its instrumentation of openai, on one registry."""

import logging
import subprocess
import sys
from functools import partial

import openai
import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from tests.examples.faulty import faulty_llm
from tests.servers import free_port

import llmvitals
from llmvitals.exposition import encode, encode_openmetrics
from llmvitals.testing import TestVitals

DURATION = "gen_ai_client_operation_duration_seconds"
TOKENS = "gen_ai_client_token_usage"
QUESTION = [{"role": "user", "content": "How are you?"}]
ENCODERS = {
    "ours": encode,
    "ours, OpenMetrics": encode_openmetrics,
    "prometheus_client": generate_latest,
    "prometheus_client, OpenMetrics": generate_openmetrics,
}


@pytest.fixture(name="registry")
def _registry():
    return CollectorRegistry()


@pytest.fixture(name="meter")
def _meter(registry):
    """A function that gives a meter of OpenTelemetry's, shown on the registry from then on."""
    providers = []

    def begin():
        providers.append(MeterProvider(metric_readers=[PrometheusMetricReader(registry=registry)]))
        return providers[0]

    yield begin
    for provider in providers:
        provider.shutdown()


@pytest.fixture(name="server", scope="module")
def _server(tmp_path_factory):
    with faulty_llm(log=tmp_path_factory.mktemp("faulty") / "log") as faulty:
        faulty.turn(latency_seconds=0, time_to_first_token_seconds=0, tokens_per_second=100_000)
        yield faulty


def begin_ours(registry):
    return TestVitals(service="test", registry=registry, threads=False)


def record(vitals, times=1):
    for _ in range(times):
        with vitals.call(provider="local", model="talker") as call:
            call.usage(input_tokens=7)


def types(registry, encoder=encode):
    """How often each family has a TYPE line."""
    lines = [line.split()[2] for line in encoder(registry).decode().splitlines() if line.startswith("# TYPE gen_ai")]
    return {name: lines.count(name) for name in lines}


def shown(registry, name):
    """The sum of the samples of this name in a scrape of all."""
    return sum(sample.value for family in registry.collect() for sample in family.samples if sample.name == name)


def shown_by_opentelemetry(registry, name):
    return any(
        "otel_scope_name" in sample.labels
        for family in registry.collect()
        for sample in family.samples
        if sample.name == f"{name}_count"
    )


@pytest.mark.parametrize("ours_first", [True, False])
def test_openai_is_counted_once_whoever_starts_first(registry, meter, server, caplog, ours_first):
    """OpenTelemetry's instrumentation of the same SDK: its families are shown, ours of the same name are not, and the
    others of ours are; said once.
    """
    vitals = begin_ours(registry) if ours_first else None
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(meter_provider=meter())
    vitals = vitals or begin_ours(registry)
    llmvitals.instrument(vitals)
    try:
        client = openai.OpenAI(base_url=server.url(), api_key="none", max_retries=0)
        with client, caplog.at_level(logging.WARNING, "llmvitals"):
            client.chat.completions.create(model="talker", messages=QUESTION)
            for _ in client.chat.completions.create(model="talker", messages=QUESTION, stream=True):
                pass
            seen = [types(registry, encoder) for encoder in ENCODERS.values() for _ in range(2)]
    finally:
        llmvitals.uninstrument()
        instrumentor.uninstrument()

    assert {1} == {count for each in seen for count in each.values()}
    assert {DURATION, TOKENS} <= seen[0].keys()
    assert shown_by_opentelemetry(registry, DURATION)
    assert 2 == shown(registry, f"{DURATION}_count")
    assert 0 == vitals.value("llmvitals_calls_in_flight")
    (message,) = [message for message in caplog.messages if "OpenTelemetry" in message]
    assert DURATION in message
    vitals.close()


@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)
def test_instruments_may_appear_later_and_go_again(registry, meter, encoder):
    """Ours are there before, away while OpenTelemetry shows theirs, and there again with all that was recorded."""
    with begin_ours(registry) as vitals:
        record(vitals)
        provider = meter()
        assert {DURATION: 1, TOKENS: 1} == types(registry, encoder)
        assert not shown_by_opentelemetry(registry, DURATION)

        provider.get_meter("app").create_histogram("gen_ai.client.operation.duration", unit="s").record(1.0)
        record(vitals)
        assert {DURATION: 1, TOKENS: 1} == types(registry, encoder)
        assert shown_by_opentelemetry(registry, DURATION)
        assert 2 == shown(registry, f"{TOKENS}_count"), "nobody else shows it"

        provider.shutdown()
        record(vitals)
        assert 3 == shown(registry, f"{DURATION}_count")
        assert not shown_by_opentelemetry(registry, DURATION)


def test_what_is_shown_can_be_read(registry, meter):
    """prometheus_client's own OpenMetrics parser, which refuses a family that comes twice."""
    with begin_ours(registry) as vitals:
        record(vitals)
        meter().get_meter("app").create_histogram("gen_ai.client.operation.duration", unit="s").record(1.0)

        families = list(text_string_to_metric_families(encode_openmetrics(registry).decode()))

    assert 1 == sum(family.name == DURATION for family in families)


@pytest.mark.parametrize(("hidden", "times"), [(False, 5), (True, 6)], ids=["known", "another version"])
def test_opentelemetry_is_asked_what_it_shows_when_there_is_something_new(registry, meter, monkeypatch, hidden, times):
    """Three scrapes, and twice or each time before: a collector without the way that we know tells it all the same."""
    with begin_ours(registry) as vitals:
        record(vitals)
        app = meter().get_meter("app")
        collector = next(each for each in registry._collector_to_names if "opentelemetry" in type(each).__module__)
        collect, asked = collector.collect, []
        if hidden:
            monkeypatch.setattr(collector, "_callback", partial(collector._callback))
        monkeypatch.setattr(collector, "collect", lambda: asked.append(1) or collect())

        for name in ("app.duration", "gen_ai.client.operation.duration", "gen_ai.client.operation.duration"):
            app.create_histogram(name, unit="s").record(1.0)
            assert {DURATION: 1, TOKENS: 1} == types(registry)

    assert times == len(asked)
    assert shown_by_opentelemetry(registry, DURATION)


def test_a_meter_that_raises_spoils_nothing(registry, meter, monkeypatch):
    """What ours show stays as it was, and the fault is counted."""
    with begin_ours(registry) as vitals:
        record(vitals)
        meter()
        collector = next(each for each in registry._collector_to_names if "opentelemetry" in type(each).__module__)

        def broken():
            raise RuntimeError("no")

        monkeypatch.setattr(collector, "collect", broken)
        encode(registry)
        text = encode(registry).decode()

    assert f"{DURATION}_count" in text
    assert 'llmvitals_instrumentation_errors_total{component="look"} 2.0' in text


def test_a_family_of_the_applications_own_stays_its_own(registry, caplog):
    """Ours is left out, which is said once; the rest is recorded."""
    own = Histogram(DURATION, "My own", registry=registry)
    with begin_ours(registry) as vitals, caplog.at_level(logging.WARNING, "llmvitals"):
        own.observe(1)
        record(vitals, times=3)

        assert 1 == shown(registry, f"{DURATION}_count")
        assert 3 == shown(registry, f"{TOKENS}_count")
        assert {DURATION: 1, TOKENS: 1} == types(registry)
    (message,) = caplog.messages
    assert f"{DURATION} is not recorded" in message


WORKERS = """
import os, sys
import llmvitals
from llmvitals.exposition import encode
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry

registry = CollectorRegistry()
provider = MeterProvider(metric_readers=[PrometheusMetricReader(registry=registry)])
duration = provider.get_meter("app").create_histogram("gen_ai.client.operation.duration", unit="s")
vitals = llmvitals.start(service="workers", port=int(sys.argv[1]), registry=registry)
done, shown = os.pipe(), os.pipe()
child = os.fork()
duration.record(1.0)
with vitals.call(provider="local", model="talker") as call:
    call.usage(input_tokens=7)
if child == 0:
    os.write(done[1], b".")
    os.read(shown[0], 1)
    os._exit(0)
os.read(done[0], 1)
print(encode(vitals.shown).decode())
os.write(shown[1], b".")
os.waitpid(child, 0)
vitals.close()
"""


def test_workers_of_a_service_step_back_together():
    """What OpenTelemetry shows in each is shown once, and the rest is of all of them."""
    done = subprocess.run(
        [sys.executable, "-c", WORKERS, str(free_port())], capture_output=True, text=True, timeout=60, check=True
    )

    lines = done.stdout.splitlines()
    assert 1 == lines.count(f"# TYPE {DURATION} histogram"), done.stderr
    (tokens,) = [line for line in lines if line.startswith(f"{TOKENS}_count")]
    assert tokens.endswith(" 2.0")
