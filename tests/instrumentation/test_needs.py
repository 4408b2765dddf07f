"""Needs of a voice companion and of an assistant that take several ideas at once; the rest is in the tests of each."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
import tenacity
from tests.examples.faulty import faulty_llm

import llmvitals
from llmvitals import testing

QUESTION = [{"role": "user", "content": "How are you?"}]
DURATION = "gen_ai_client_operation_duration_seconds_count"
THREADS, RUNS = 8, 25


def test_recording_works_from_any_thread_and_any_loop_at_once(vitals):
    """``asyncio.run`` in threads beside a running loop, with the same decorated functions: every run is there."""

    @vitals.call(provider="local", model="talker")
    async def chunks():
        for _ in range(3):
            await asyncio.sleep(0)
            yield "word"

    @vitals.tool("weather")
    @vitals.operation("rag_search", target_seconds=2.0)
    async def search():
        async with vitals.retrieval(provider="chroma"):
            await asyncio.sleep(0)

    async def use():
        for _ in range(RUNS):
            assert ["word"] * 3 == [chunk async for chunk in chunks()]
            await search()

    async def main():
        with ThreadPoolExecutor(THREADS) as threads:
            loop = asyncio.get_running_loop()
            beside = [loop.run_in_executor(threads, asyncio.run, use()) for _ in range(THREADS)]
            await asyncio.gather(use(), *beside)

    asyncio.run(main())

    runs = (THREADS + 1) * RUNS
    assert runs == vitals.value(DURATION, gen_ai_operation_name="chat", error_type="")
    assert runs == vitals.value("llmvitals_stream_ends_total", reason="completed")
    assert runs == vitals.value(DURATION, gen_ai_operation_name="retrieval")
    assert runs == vitals.value("gen_ai_execute_tool_duration_seconds_count", error_type="")
    assert runs == vitals.value("llmvitals_operations_total", operation="rag_search", level="excellent")
    assert 0 == vitals.value("llmvitals_calls_in_flight")
    assert 0 == vitals.value("llmvitals_operations_in_flight")


def test_query_types_need_no_code_and_lose_nothing_in_threads(vitals):
    """One object, many threads, as context manager and decorator; a new type is a new name."""
    operations = {name: vitals.operation(name, target_seconds=2.0) for name in ("talker", "thinker", "brand_new")}
    together = threading.Barrier(THREADS)

    def use():
        together.wait()
        for operation in operations.values():
            answer = operation(lambda: "Fine.")
            for _ in range(RUNS):
                answer()
                with operation:
                    pass

    threads = [threading.Thread(target=use) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for name in operations:
        assert 2 * THREADS * RUNS == vitals.value("llmvitals_operation_duration_seconds_count", operation=name)


@pytest.fixture(name="server")
def _server(tmp_path):
    with faulty_llm(log=tmp_path / "log") as server:
        server.reset()
        yield server


def test_an_llm_connection_shows_what_it_is_set_to(server):
    """Its time-out, its retries with their exponential waits, and its pool: each as configured, on ``/metrics``."""
    with testing.fresh() as vitals:
        llmvitals.instrument(vitals, providers={"127.0.0.1": "local"})
        client = openai.OpenAI(base_url=server.url(), api_key="none", timeout=0.05, max_retries=0)

        @tenacity.retry(
            stop=tenacity.stop_after_attempt(4),
            wait=tenacity.wait_exponential(multiplier=0.01),
            reraise=True,
            **vitals.retries("llm").tenacity(),
        )
        def ask():
            client.chat.completions.create(model="talker", messages=QUESTION, max_tokens=1)

        with client:
            server.turn(latency_seconds=30)
            with pytest.raises(openai.APITimeoutError):
                ask()
            server.turn(latency_seconds=0)
            client.with_options(timeout=10).chat.completions.create(model="talker", messages=QUESTION, max_tokens=1)

            assert 4 == vitals.value(DURATION, error_type="APITimeoutError")
            assert 1 == vitals.value(DURATION, error_type="")
            assert 30 > vitals.value("gen_ai_client_operation_duration_seconds_sum", error_type="APITimeoutError")
            assert 3 == vitals.value("llmvitals_retries_total", name="llm", error_type="APITimeoutError")
            assert 1 == vitals.value("llmvitals_retries_exhausted_total", name="llm")
            assert 0.07 == round(vitals.value("llmvitals_retry_wait_seconds_sum", name="llm"), 6), "10, 20 and 40 ms"
            assert 1 == vitals.value("http_client_open_connections", http_connection_state="idle")
        llmvitals.uninstrument()
