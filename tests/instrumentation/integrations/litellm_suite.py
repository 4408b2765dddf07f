"""litellm, which needs an openai SDK older than ours: `make test-litellm` runs these in an environment of their own."""

import asyncio
import inspect
import json
import re
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import litellm
import openai
import pytest
from tests.examples.faulty import faulty_llm
from tests.instrumentation.integrations.conftest import Server

import llmvitals
from llmvitals import testing
from llmvitals.exposition import encode

PAGE = Path(__file__).parents[3] / "docs" / "integrations.md"
MESSAGES = [{"role": "user", "content": "How are you?"}]
NAMES = ("completion", "acompletion", "text_completion", "atext_completion")
NAMES += ("embedding", "aembedding", "responses", "aresponses")
USAGE = {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12}


@pytest.fixture(name="faulty", scope="module")
def _faulty(tmp_path_factory):
    with faulty_llm(log=tmp_path_factory.mktemp("faulty") / "log") as faulty:
        yield faulty


@pytest.fixture(autouse=True)
def _calm(faulty):
    faulty.reset()


@pytest.fixture(name="vitals")
def _vitals():
    with testing.fresh() as vitals:
        llmvitals.instrument(vitals)
        yield vitals
        llmvitals.uninstrument()


def settings(faulty, provider="primary", **others):
    url = faulty.url(provider)
    return {
        "model": "openai/talker",
        "messages": MESSAGES,
        "api_base": url,
        "api_key": "none",
        "max_retries": 0,
    } | others


def by(vitals, family, label):
    """Sum the samples of a family by the values of one label."""
    sums = Counter()
    for labels, value in vitals.samples(family).items():
        # The SDK inside has attempts of its own.
        if dict(labels).get("name", "litellm") == "litellm":
            sums[dict(labels)[label]] += value
    return dict(sums)


def durations(vitals, **labels):
    return vitals.value("gen_ai_client_operation_duration_seconds_count", **labels)


def tokens(vitals):
    return by(vitals, "gen_ai_client_token_usage_sum", "gen_ai_token_type")


def ends(vitals):
    return by(vitals, "llmvitals_stream_ends_total", "reason")


def attempts(vitals):
    return by(vitals, "llmvitals_attempts_total", "outcome")


def faults(vitals):
    return vitals.value("llmvitals_instrumentation_errors_total")


def test_a_call_is_one_call(vitals, faulty):
    """Though the openai SDK inside of it is watched, too; its tokens are the server's."""
    first = litellm.completion(**settings(faulty))
    second = asyncio.run(litellm.acompletion(**settings(faulty)))

    assert [litellm.ModelResponse] * 2 == [type(first), type(second)]
    port = faulty.url().rpartition(":")[2].partition("/")[0]
    labels = {"gen_ai_provider_name": "openai", "gen_ai_request_model": "talker", "gen_ai_response_model": "talker"}
    assert 2 == durations(vitals)
    assert 2 == durations(vitals, **labels, error_type="", server_address="127.0.0.1", server_port=port)
    usages = [first.usage, second.usage]
    assert {
        "input": sum(usage.prompt_tokens for usage in usages),
        "output": sum(usage.completion_tokens for usage in usages),
    } == tokens(vitals)
    assert {"success": 2} == attempts(vitals)
    assert 0 == vitals.value("llmvitals_calls_in_flight")
    assert faults(vitals) is None


def test_embeddings(vitals, faulty):
    """An operation of their own."""
    about = {key: value for key, value in settings(faulty, model="openai/thinker").items() if key != "messages"}
    litellm.embedding(input=["text"], **about)
    asyncio.run(litellm.aembedding(input=["text"], **about))

    assert 2 == durations(vitals)
    assert 2 == durations(vitals, gen_ai_operation_name="embeddings", gen_ai_request_model="thinker")


@pytest.mark.parametrize("usage", [False, True])
def test_streams(vitals, faulty, usage):
    """They keep their type; a stream without usage says so."""
    more = {"stream_options": {"include_usage": True}} if usage else {}
    stream = litellm.completion(**settings(faulty, stream=True, **more))
    assert isinstance(stream, litellm.CustomStreamWrapper)
    chunks = list(stream)

    async def read():
        stream = await litellm.acompletion(**settings(faulty, stream=True, **more))
        assert isinstance(stream, litellm.CustomStreamWrapper)
        return [chunk async for chunk in stream]

    assert {type(chunk) for chunk in (*chunks, *asyncio.run(read()))} == {litellm.ModelResponseStream}
    assert 2 == durations(vitals)
    assert {"completed": 2} == ends(vitals)
    assert 2 == vitals.value("gen_ai_client_operation_time_to_first_chunk_seconds_count")
    assert (0 if usage else 2) == (vitals.value("llmvitals_usage_missing_total") or 0)
    assert usage == bool(tokens(vitals))
    assert faults(vitals) is None


def test_streams_that_are_left(vitals, faulty):
    """Dropped, closed, and cancelled amid."""
    left = litellm.completion(**settings(faulty, stream=True))
    next(left)
    del left

    async def leave():
        closed = await litellm.acompletion(**settings(faulty, stream=True))
        await anext(closed)
        await closed.aclose()
        stalled = await litellm.acompletion(**settings(faulty, "backup", stream=True))
        seen = asyncio.Event()

        async def read():
            async for _ in stalled:
                seen.set()

        task = asyncio.create_task(read())
        await seen.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    faulty.turn("backup", stall_after_chunks=2)
    asyncio.run(leave())

    assert {"abandoned": 1, "cancelled": 2} == ends(vitals)
    assert 3 == durations(vitals)
    assert 0 == vitals.value("llmvitals_calls_in_flight")


def test_errors_are_litellms_own(vitals, faulty):
    """The same object, with nothing more in its chain than without us."""
    faulty.turn(error_ratio=1, error_status=503)

    def ask():
        with pytest.raises(litellm.ServiceUnavailableError) as raised:
            litellm.completion(**settings(faulty))
        chain, error = [], raised.value
        while error is not None:
            chain.append(type(error))
            error = error.__cause__ or error.__context__
        return chain

    watched = ask()
    with pytest.raises(litellm.ServiceUnavailableError):
        asyncio.run(litellm.acompletion(**settings(faulty)))
    llmvitals.uninstrument()

    assert ask() == watched
    assert 2 == durations(vitals, error_type="503")
    assert {"fatal": 2} == attempts(vitals)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_retries_are_attempts(vitals, faulty, asynchronous):
    """Of one call."""
    faulty.turn(error_ratio=1, error_status=503, retry_after_seconds=0.001)

    def ask():
        about = settings(faulty, num_retries=2)
        return asyncio.run(litellm.acompletion(**about)) if asynchronous else litellm.completion(**about)

    with pytest.raises(litellm.ServiceUnavailableError):
        ask()

    assert 1 == durations(vitals)
    assert {"retryable": 3} == attempts(vitals)
    assert {"503": 2} == by(vitals, "llmvitals_retries_total", "error_type")
    assert {"503": 1} == by(vitals, "llmvitals_retries_exhausted_total", "error_type")


def test_fallbacks_are_attempts(vitals, faulty):
    """Of one call, under the model that was asked for and the one that answered."""
    faulty.turn(error_ratio=1, error_status=503)
    backup = {"model": "openai/thinker", "api_base": faulty.url("backup")}
    asyncio.run(litellm.acompletion(**settings(faulty, fallbacks=[backup])))

    assert 1 == durations(vitals)
    assert 1 == durations(vitals, gen_ai_request_model="talker", gen_ai_response_model="thinker", error_type="")
    assert {"success": 1, "retryable": 1} == attempts(vitals)


def test_a_router(vitals, faulty):
    """Its deployments are tried within one call, by the name of their group."""
    faulty.turn(error_ratio=1, error_status=503)
    deployments = [
        {"model_name": name, "litellm_params": settings(faulty, provider, messages=None)}
        for name, provider in (("main", "primary"), ("spare", "backup"))
    ]
    router = litellm.Router(model_list=deployments, fallbacks=[{"main": ["spare"]}], num_retries=0)
    asyncio.run(router.acompletion(model="main", messages=MESSAGES))

    assert 1 == durations(vitals)
    assert 1 == durations(vitals, gen_ai_request_model="main", gen_ai_response_model="talker", error_type="")
    assert {"success": 1, "retryable": 1} == attempts(vitals)


def test_a_cancelled_call_is_cancelled(vitals, faulty):
    """The task ends as cancelled, and the call counts."""
    faulty.turn(latency_seconds=30)

    async def cancel():
        task = asyncio.create_task(litellm.acompletion(**settings(faulty)))
        async with asyncio.timeout(10):
            while not faulty.ledger()["in_flight"]:  # noqa: ASYNC110 -- it is another process
                await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return task.cancelled()

    assert asyncio.run(cancel())
    assert 1 == durations(vitals, error_type="CancelledError")


def test_an_own_call_is_not_counted_twice(vitals, faulty):
    """It takes up what litellm learns; the openai SDK alone counts as before."""
    with vitals.call(provider="mine", model="mine"):
        litellm.completion(**settings(faulty))
    with openai.OpenAI(base_url=faulty.url(), api_key="none") as client:
        client.chat.completions.create(model="talker", messages=MESSAGES)

    assert 2 == durations(vitals)
    assert 1 == durations(vitals, gen_ai_provider_name="mine", gen_ai_response_model="talker")


def test_a_reply_from_nobody(vitals):
    """The mock of litellm asks no provider, and counts all the same."""
    reply = litellm.completion(model="openai/talker", messages=MESSAGES, mock_response="Fine.")

    assert "Fine." == reply.choices[0].message.content
    assert 1 == durations(vitals)


class Responses(BaseHTTPRequestHandler):
    """OpenAI's Responses API, as far as litellm looks at it."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        head = {"id": "1", "object": "response", "created_at": 1, "model": "talker-7b", "parallel_tool_calls": True}
        head |= {"tool_choice": "auto", "tools": [], "temperature": 1, "top_p": 1}
        done = head | {"status": "completed", "output": [], "usage": USAGE}
        if body.get("stream"):
            delta = {"type": "response.output_text.delta", "delta": "Fine", "item_id": "1"}
            delta |= {"output_index": 0, "content_index": 0}
            events = [{"type": "response.created", "response": head | {"status": "in_progress", "output": []}}]
            events += [delta, delta, {"type": "response.completed", "response": done}]
            text = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
        else:
            text = json.dumps(done)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream" if body.get("stream") else "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


def test_responses(vitals):
    """Plain and streamed, with the usage of the last event."""
    with Server(("127.0.0.1", 0), Responses) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        about = {"model": "openai/talker", "api_base": f"http://127.0.0.1:{server.server_port}/v1", "api_key": "none"}
        litellm.responses(input="How are you?", **about)
        kinds = [event.type for event in litellm.responses(input="How are you?", stream=True, **about)]
        asyncio.run(litellm.aresponses(input="How are you?", **about))
        server.shutdown()
        thread.join()

    assert 4 == len(kinds)
    assert 3 == durations(vitals)
    assert 3 == durations(vitals, gen_ai_request_model="talker", gen_ai_response_model="talker-7b")
    assert {"input": 21, "output": 15} == tokens(vitals)
    assert {"completed": 1} == ends(vitals)
    assert 1 == vitals.value("llmvitals_time_to_first_output_seconds_count")
    assert vitals.value("llmvitals_stream_odd_chunks_total") is None
    assert faults(vitals) is None


def test_the_page_shows_what_it_says(vitals, faulty):
    """Its program runs, and the metrics are those that it shows."""
    section = PAGE.read_text().partition("### litellm\n")[2].partition("\n### ")[0]
    code, shown = re.findall(r"```\w+\n(.*?)```", section, re.DOTALL)
    port = faulty.url().rpartition(":")[2].partition("/")[0]
    exec(compile(code.replace("8081", port), str(PAGE), "exec"), {"vitals": vitals})

    page = encode(vitals.registry).decode().replace(port, "8081").splitlines()
    assert [] == [line for line in shown.splitlines() if line not in page]


def test_uninstrument_restores_exactly():
    """The very same functions, in all places."""
    places = [(litellm, name) for name in (*NAMES, "exception_type")]
    places += [(litellm.main, name) for name in (*NAMES, "exception_type") if name in vars(litellm.main)]
    places += [(litellm.Router, name) for name in NAMES if name in vars(litellm.Router)]
    places += [(litellm.litellm_core_utils.litellm_logging.Logging, "pre_call")]
    before = [vars(owner)[name] for owner, name in places]
    assert "litellm" in llmvitals.instrument()
    during = [vars(owner)[name] for owner, name in places]
    llmvitals.uninstrument()

    assert not set(map(id, before)) & set(map(id, during))
    assert [inspect.iscoroutinefunction(f) for f in before] == [inspect.iscoroutinefunction(f) for f in during]
    assert list(map(id, before)) == [id(vars(owner)[name]) for owner, name in places]
