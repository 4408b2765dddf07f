"""Exemplars: the trace behind a number, where the application uses OpenTelemetry."""

import asyncio
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from llmvitals import catalogue
from llmvitals._traces import OPENTELEMETRY, current_trace, exemplify
from llmvitals.exposition import encode_openmetrics
from llmvitals.integrations._asgi import ASGIMiddleware, Exchange
from llmvitals.integrations._http import record_request

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def span(trace_id=TRACE_ID, *, sampled=True):
    context = SpanContext(
        int(trace_id, 16),
        int(SPAN_ID, 16),
        is_remote=False,
        trace_flags=TraceFlags(TraceFlags.SAMPLED if sampled else 0),
    )
    return use_span(NonRecordingSpan(context))


def traces(vitals, family):
    """The trace id of each exemplar of a family, as prometheus_client's own parser reads it."""
    vitals.recorder.drain()
    families = text_string_to_metric_families(encode_openmetrics(vitals.registry).decode())
    found = [sample.exemplar for each in families if each.name == family.name for sample in each.samples]
    return [exemplar.labels["trace_id"] for exemplar in found if exemplar is not None]


def an_operation(vitals):
    with vitals.operation("talker"):
        pass
    return catalogue.OPERATION_DURATION


def a_call(vitals):
    with vitals.call(provider="local", model="talker"):
        pass
    return catalogue.CALL_DURATION


def a_stream(vitals):
    assert ["a"] == list(vitals.call(provider="local", model="talker").stream(iter("a")))
    return catalogue.TIME_TO_FIRST_CHUNK


def a_clients_request(vitals):
    record_request(vitals.recorder, 0.0, "GET", "example.org", 443, status=200)
    return catalogue.HTTP_CLIENT_DURATION


def a_servers_request(vitals):
    Exchange(vitals.recorder, "GET", "http").end("/")
    return catalogue.HTTP_SERVER_DURATION


WORK = [a_call, a_stream, an_operation, a_clients_request, a_servers_request]


@pytest.mark.parametrize("work", WORK)
def test_a_number_has_the_trace_that_was_running(vitals, work):
    """With trace id and span id in hexadecimal, as W3C writes them."""
    with span():
        family = work(vitals)

    assert [TRACE_ID] == traces(vitals, family)
    assert f'{{span_id="{SPAN_ID}",trace_id="{TRACE_ID}"}}' in encode_openmetrics(vitals.registry).decode()


@pytest.mark.parametrize("work", WORK)
def test_no_trace_no_exemplar(vitals, work):
    """Outside of any span, and in one that is not sampled: nobody could look that up."""
    work(vitals)
    with span(sampled=False):
        family = work(vitals)

    assert [] == traces(vitals, family)


def test_the_sdks_own_spans_are_seen(vitals):
    """Those of a tracer that samples, and not those of one that does not."""
    sampling, dropping = (TracerProvider(sampler=sampler).get_tracer("test") for sampler in (ALWAYS_ON, ALWAYS_OFF))

    with sampling.start_as_current_span("request") as running:
        an_operation(vitals)
        with dropping.start_as_current_span("unseen"):
            a_call(vitals)

    assert [f"{running.get_span_context().trace_id:032x}"] == traces(vitals, catalogue.OPERATION_DURATION)
    assert [] == traces(vitals, catalogue.CALL_DURATION)


def test_an_operation_has_the_trace_of_its_start(vitals):
    """Also when another one is current where it ends."""
    operation = vitals.operation("talker")
    with span():
        operation.__enter__()
    with span("f" * 32):
        operation.__exit__(None, None, None)

    assert [TRACE_ID] == traces(vitals, catalogue.OPERATION_DURATION)


def test_a_stream_has_the_trace_of_its_calls_start(vitals):
    """It may end anywhere: in another trace, or as garbage that a scrape comes upon."""
    with span():
        chunks = vitals.call(provider="local", model="talker").stream(character for character in "abc")
        next(chunks)
    with span("f" * 32):
        del chunks

    assert [TRACE_ID] == traces(vitals, catalogue.CALL_DURATION)
    assert [TRACE_ID] == traces(vitals, catalogue.TIME_TO_FIRST_CHUNK)


def test_a_call_that_begins_again_has_the_trace_of_that(vitals):
    """The latest of a bucket is kept."""
    call = vitals.call(provider="local", model="talker")
    with span():
        call.start().finish()
    with span("f" * 32):
        call.start().finish()

    assert ["f" * 32] == traces(vitals, catalogue.CALL_DURATION)


def test_a_servers_request_finds_a_span_that_begins_inside_of_it(vitals):
    """Tracing that wraps the application inside of us sends the answer in its span."""

    async def app(scope, receive, send):
        with span():
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    async def send(message): ...

    asyncio.run(ASGIMiddleware(app, vitals)({"type": "http", "method": "GET", "path": "/"}, None, send))

    assert [TRACE_ID] == traces(vitals, catalogue.HTTP_SERVER_DURATION)


class Broken(ModuleType):
    """What stands for OpenTelemetry while it is imported in another thread, or in another make."""

    def __getattr__(self, name):
        raise RuntimeError(name)


@pytest.mark.parametrize(
    "module",
    [
        Broken(OPENTELEMETRY),
        None,
        SimpleNamespace(INVALID_SPAN=0, get_current_span=lambda: None),
        SimpleNamespace(INVALID_SPAN=0, get_current_span=lambda: SimpleNamespace(get_span_context=SimpleNamespace)),
    ],
    ids=["raises", "blocked", "no span", "no flags"],
)
def test_a_broken_opentelemetry_is_none(vitals, monkeypatch, module):
    """The number is recorded, without an example."""
    monkeypatch.setitem(sys.modules, OPENTELEMETRY, module)

    family = an_operation(vitals)

    assert [] == traces(vitals, family)
    assert 1 == vitals.value(f"{family.name}_count", operation="talker")


def test_a_series_without_a_place_for_exemplars_takes_none():
    """prometheus_client's own, where the workers of a service share files; and a context of any kind."""
    exemplify(object(), 1.0, SpanContext(1, 1, is_remote=False))
    exemplify(object(), 1.0, object())

    assert None is current_trace()


def test_opentelemetry_is_never_imported_by_us():
    """Not at the start and not by recording, so that who does without it pays nothing for it."""
    program = """
import sys
from llmvitals import testing
from llmvitals.exposition import encode_openmetrics
with testing.fresh() as vitals:
    with vitals.operation("talker"), vitals.call(provider="p", model="m"):
        pass
    encode_openmetrics(vitals.registry)
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)

    assert ("[]\n", "") == (done.stdout, done.stderr)
