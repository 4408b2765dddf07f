"""What is counted equals what the server saw: the openai SDK, for real, against faulty_llm and its ledger."""

import asyncio
from collections import Counter

import openai
import pytest
from tests.examples.faulty import faulty_llm
from tests.servers import eventually, prometheus, query

import llmvitals
from llmvitals import testing

CALLS = 240
QUESTION = [{"role": "user", "content": "How are you?"}]


@pytest.fixture(name="faulty")
def _faulty(tmp_path):
    with faulty_llm(log=tmp_path / "log") as faulty:
        faulty.reset()
        faulty.turn(error_ratio=0.2, error_status=500)
        yield faulty


@pytest.fixture(name="watched")
def _watched():
    with testing.fresh() as vitals:
        llmvitals.instrument(vitals, providers={"127.0.0.1": "primary"})
        yield vitals
        llmvitals.uninstrument()


def use(client, number, seen):
    """One of: a plain call, a stream with usage, a stream without, a stream broken off."""
    streamed = number % 4 > 0
    options = {"stream": True} if streamed else {}
    if number % 4 == 1:
        options["stream_options"] = {"include_usage": True}

    async def one():
        try:
            reply = await client.chat.completions.create(model="talker", messages=QUESTION, max_tokens=16, **options)
        except openai.InternalServerError:
            seen["500"] += 1
            return
        if not streamed:
            seen["plain"] += 1
            return
        async for _ in reply:
            if number % 4 == 3:
                await reply.close()
                seen["broken off"] += 1
                return
        seen["streamed"] += 1

    return one()


def test_every_number_equals_the_servers_ledger(watched, faulty):
    """Plain, streamed, failed and broken off, many at once."""
    seen = Counter()

    async def main():
        async with openai.AsyncOpenAI(base_url=faulty.url(), api_key="none", max_retries=0) as client:
            for batch in range(0, CALLS, 40):
                await asyncio.gather(*(use(client, number, seen) for number in range(batch, batch + 40)))

    asyncio.run(main())
    eventually(lambda: faulty.ledger()["in_flight"] == 0, what="the last request ended")
    outcomes = faulty.ledger()["outcomes"]

    assert CALLS == watched.value("gen_ai_client_operation_duration_seconds_count")
    assert outcomes["error_500"] == watched.value("gen_ai_client_operation_duration_seconds_count", error_type="500")
    assert seen["broken off"] == watched.value("llmvitals_stream_ends_total", reason="cancelled")
    assert seen["streamed"] == watched.value("llmvitals_stream_ends_total", reason="completed")
    assert watched.value("llmvitals_stream_ends_total", reason="abandoned") is None
    assert 0 == watched.value("llmvitals_calls_in_flight")


def test_tokens_equal_the_servers_ledger(watched, faulty):
    """Of calls that report them all, the sums are the server's own."""
    faulty.turn(error_ratio=0.0)
    options = {"model": "talker", "messages": QUESTION, "max_tokens": 16}
    with openai.OpenAI(base_url=faulty.url(), api_key="none", max_retries=0) as client:
        for _ in range(5):
            client.chat.completions.create(**options)
            list(client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    ledger = faulty.ledger()["models"]["talker"]

    assert ledger["input_tokens"] == watched.value("gen_ai_client_token_usage_sum", gen_ai_token_type="input")
    assert ledger["output_tokens"] == watched.value("gen_ai_client_token_usage_sum", gen_ai_token_type="output")


@pytest.mark.stack
def test_a_real_prometheus_reads_it(faulty, tmp_path, monkeypatch):
    """Scraped over one kept connection, with names and labels as the catalogue says."""
    faulty.turn(error_ratio=0.0)
    from prometheus_client import CollectorRegistry

    with llmvitals.start("app", port=0, registry=CollectorRegistry()) as vitals:
        llmvitals.instrument(providers={"127.0.0.1": "primary"})
        try:
            with openai.OpenAI(base_url=faulty.url(), api_key="none", max_retries=0) as client:
                client.chat.completions.create(model="talker", messages=QUESTION)
        finally:
            llmvitals.uninstrument()
        with prometheus(tmp_path / "prometheus", targets={"app": [f"127.0.0.1:{vitals.metrics_port}"]}) as server:
            (series,) = eventually(
                lambda: query(
                    server.url,
                    'gen_ai_client_operation_duration_seconds_count{job="app",gen_ai_provider_name="primary"}',
                ),
                what="the call is in Prometheus",
            )

    assert "1" == series["value"][1]
    assert "talker" == series["metric"]["gen_ai_request_model"]
