import asyncio
import contextvars
import functools
import gc
import inspect
import threading

import openai
import pytest
from openai.resources.chat.completions import AsyncCompletions, Completions
from openai.resources.embeddings import AsyncEmbeddings, Embeddings
from tests.instrumentation.integrations.conftest import durations, ends
from tests.instrumentation.integrations.openai_server import CHUNKS, OpenAIServer

import llmvitals
from llmvitals import testing
from llmvitals._calls import active_call

QUESTION = [{"role": "user", "content": "How are you?"}]


@pytest.fixture(name="server", scope="module")
def _server():
    with OpenAIServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(name="url", scope="module")
def _url(server):
    return server.url


@pytest.fixture(name="watched")
def _watched():
    """The SDK under watch, recorded apart."""
    with testing.fresh() as vitals:
        llmvitals.instrument(vitals, providers={"127.0.0.1": "primary"})
        yield vitals
        llmvitals.uninstrument()


@pytest.fixture(name="client")
def _client(watched, url):
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(name="run")
def _run(watched, url):
    """Run an async function that is given a client."""

    def run(function):
        async def main():
            async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
                return await function(client)

        return asyncio.run(main())

    return run


def test_a_plain_call(watched, client, server):
    """Every base label, the tokens reported, nothing in flight."""
    reply = client.chat.completions.create(model="talker", messages=QUESTION)

    assert type(reply) is openai.types.chat.ChatCompletion
    assert 1 == durations(
        watched,
        gen_ai_operation_name="chat",
        gen_ai_provider_name="primary",
        gen_ai_request_model="talker",
        gen_ai_response_model="talker-2026",
        server_address="127.0.0.1",
        server_port=str(server.server_port),
        error_type="",
    )
    assert 7 == watched.value("gen_ai_client_token_usage_sum", gen_ai_token_type="input")
    assert 5 == watched.value("gen_ai_client_token_usage_sum", gen_ai_token_type="output")
    assert 0 == watched.value("llmvitals_calls_in_flight")


def test_a_plain_async_call(watched, run):
    """The same."""
    run(lambda client: client.chat.completions.create(model="talker", messages=QUESTION))

    assert 1 == durations(watched, gen_ai_response_model="talker-2026", error_type="")
    assert 7 == watched.value("gen_ai_client_token_usage_sum", gen_ai_token_type="input")


def test_embeddings(watched, client, run):
    """An operation of its own, with input tokens only."""
    client.embeddings.create(model="embedder", input="text")
    run(lambda client: client.embeddings.create(model="embedder", input="text"))

    assert 2 == durations(watched, gen_ai_operation_name="embeddings", gen_ai_request_model="embedder")
    assert 6 == watched.value("gen_ai_client_token_usage_sum", gen_ai_token_type="input")
    assert watched.value("gen_ai_client_token_usage_sum", gen_ai_token_type="output") is None
    assert watched.value("llmvitals_usage_missing_total") is None


def test_a_stream_is_the_sdks_own_object(watched, client):
    """Same type, same attributes; its usage is taken when it was asked for."""
    stream = client.chat.completions.create(
        model="talker", messages=QUESTION, stream=True, stream_options={"include_usage": True}
    )

    assert type(stream) is openai.Stream
    assert 200 == stream.response.status_code
    assert len(CHUNKS) + 1 == len(list(stream))
    assert {"completed": 1} == ends(watched)
    assert 1 == watched.value("gen_ai_client_operation_time_to_first_chunk_seconds_count")
    assert len(CHUNKS) == watched.value("gen_ai_client_operation_time_per_output_chunk_seconds_count")
    assert 5 == watched.value("gen_ai_client_token_usage_sum", gen_ai_token_type="output")
    assert watched.value("llmvitals_usage_missing_total") is None


def test_an_async_stream(watched, run):
    """Without include_usage, the missing usage is counted and not guessed."""

    async def read(client):
        stream = await client.chat.completions.create(model="talker", messages=QUESTION, stream=True)
        assert type(stream) is openai.AsyncStream
        return [chunk async for chunk in stream]

    assert len(CHUNKS) == len(run(read))
    assert {"completed": 1} == ends(watched)
    assert 1 == watched.value("llmvitals_usage_missing_total", stream="true")
    assert watched.value("gen_ai_client_token_usage_count") is None


def test_streams_end_once_however_they_end(watched, client):
    """By the context manager, by close, twice, dropped begun and dropped unread."""

    def stream():
        return client.chat.completions.create(model="talker", messages=QUESTION, stream=True)

    with stream() as left:
        next(left)
    closed = stream()
    closed.close()
    closed.close()
    begun = stream()
    next(begun)
    begun.response.close()
    del begun
    unread = stream()
    unread.response.close()
    del unread
    gc.collect()  # The SDK's streams are cycles: their iterator is a method of theirs.

    assert {"cancelled": 2, "abandoned": 2} == ends(watched)
    assert 4 == durations(watched, error_type="")
    assert 0 == watched.value("llmvitals_calls_in_flight")


def test_async_streams_end_once_however_they_end(watched, run):
    """By the context manager, by close and its alias."""

    async def main(client):
        async def stream():
            return await client.chat.completions.create(model="talker", messages=QUESTION, stream=True)

        async with await stream() as left:
            await anext(left)
        closed = await stream()
        await closed.close()
        await closed.close()

    run(main)

    assert {"cancelled": 2} == ends(watched)


def test_errors_are_named_by_their_status(watched, client):
    """And are the SDK's own, unchanged."""
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model="throttled", messages=QUESTION)

    assert 1 == durations(watched, error_type="429")


def test_an_error_amid_a_stream(watched, client):
    """The chunks before it count."""
    stream = client.chat.completions.create(model="broken", messages=QUESTION, stream=True)

    with pytest.raises(openai.APIError):
        list(stream)

    assert {"error": 1} == ends(watched)
    assert 1 == durations(watched, error_type="APIError")


def test_a_server_that_is_away(watched):
    """A connection that cannot be made is an error by its class."""
    with (
        openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="none", max_retries=0) as client,
        pytest.raises(openai.APIConnectionError),
    ):
        client.chat.completions.create(model="talker", messages=QUESTION)

    assert 1 == durations(watched, error_type="APIConnectionError", server_port="9")


def test_the_sdks_own_retries_are_one_call(watched, url, server):
    """What it does inside is inside the duration."""
    before = server.requests
    with openai.OpenAI(base_url=url, api_key="none", max_retries=1) as client, pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model="throttled", messages=QUESTION)

    assert 2 == server.requests - before
    assert 1 == durations(watched)


def test_inside_the_applications_call_nothing_is_counted_twice(watched, client):
    """The SDK adds model, usage and stream to the call that the application made."""
    with watched.call(provider="mine", model="talker"):
        client.chat.completions.create(model="talker", messages=QUESTION)
    with watched.call(provider="mine", model="talker") as call:
        stream = client.chat.completions.create(model="talker", messages=QUESTION, stream=True)
        assert len(CHUNKS) == len(list(call.stream(stream)))
    with watched.call(provider="mine", model="talker"):
        client.embeddings.create(model="embedder", input="of another kind, so a call of its own")

    assert 3 == durations(watched, gen_ai_provider_name="mine")
    assert 1 == durations(watched, gen_ai_provider_name="primary", gen_ai_operation_name="embeddings")
    assert 2 == durations(watched, gen_ai_provider_name="mine", gen_ai_response_model="talker-2026")
    assert {"completed": 1} == ends(watched)


def test_a_call_that_asks_several_times_took_the_tokens_of_all(watched, client, run):
    """One reply was not good enough, for instance: still one call, with all that the server has counted."""

    async def ask_at_once(client):
        asked = {"model": "talker", "messages": QUESTION}
        async with watched.call(provider="mine", model="talker"):
            await asyncio.gather(*(client.chat.completions.create(**asked) for _ in range(3)))

    with watched.call(provider="mine", model="talker") as call:
        client.chat.completions.create(model="talker", messages=QUESTION)
        call.read(client.chat.completions.create(model="talker", messages=QUESTION))
        client.chat.completions.create(model="talker", messages=QUESTION)
        call.usage(input_tokens=1)
    run(ask_at_once)

    assert 2 == durations(watched)
    assert 1 + 3 * 7 == watched.value("gen_ai_client_token_usage_sum", gen_ai_token_type="input")
    assert 2 * 5 + 3 * 5 == watched.value("gen_ai_client_token_usage_sum", gen_ai_token_type="output")


@pytest.mark.parametrize("ending", ["completed", "cancelled"])
def test_a_generator_that_is_a_call_takes_up_the_stream_that_it_is_made_of(watched, client, run, ending):
    """What the SDK's stream tells is the call's, and the consumer between two chunks is not inside of it."""
    asked = {"model": "talker", "messages": QUESTION, "stream": True, "stream_options": {"include_usage": True}}
    inside = []

    @watched.call(provider="mine", model="talker")
    def tell():
        for chunk in client.chat.completions.create(**asked):
            yield chunk.model

    @watched.call(provider="mine", model="talker")
    async def tell_async(client):
        async for chunk in await client.chat.completions.create(**asked):
            yield chunk.model

    async def read(client):
        telling = tell_async(client)
        async for _ in telling:
            inside.append(active_call())
            if ending == "cancelled":
                await telling.aclose()

    telling = tell()
    for _ in telling:
        inside.append(active_call())
        if ending == "cancelled":
            telling.close()
    run(read)
    read_usage = ending == "completed"

    assert [None] * (2 * (len(CHUNKS) + 1) if read_usage else 2) == inside
    assert 2 == durations(watched) == durations(watched, gen_ai_provider_name="mine")
    assert {ending: 2} == ends(watched)
    assert 0 == watched.value("llmvitals_calls_in_flight")
    assert (2 * 12 if read_usage else None) == watched.value("gen_ai_client_token_usage_sum")


def test_a_call_that_has_ended_takes_up_nothing_more(watched, client):
    """What was started inside of it, and asks later, makes a call of its own; so does what asks again in its block."""
    with watched.call(provider="mine", model="talker") as call:
        later = contextvars.copy_context()
        call.usage(input_tokens=1, output_tokens=1)
    later.run(client.chat.completions.create, model="talker", messages=QUESTION)
    with watched.call(provider="mine", model="talker") as call:
        call.finish()
        client.chat.completions.create(model="talker", messages=QUESTION)

    assert 2 == durations(watched, gen_ai_provider_name="mine")
    assert 2 == durations(watched, gen_ai_provider_name="primary", gen_ai_response_model="talker-2026")


def test_the_sdks_helpers_go_through_it(watched, client):
    """`stream`, `parse` and raw responses are calls too."""
    helpers = client.chat.completions if hasattr(Completions, "parse") else client.beta.chat.completions
    with helpers.stream(model="talker", messages=QUESTION) as events:
        assert list(events)
    helpers.parse(model="talker", messages=QUESTION)
    raw = client.chat.completions.with_raw_response.create(model="talker", messages=QUESTION)

    assert "Fine" == raw.parse().choices[0].message.content
    assert 3 == durations(watched)


def test_wrong_arguments_raise_as_before(watched, client):
    """The SDK's own check speaks first."""
    with pytest.raises(TypeError, match="Missing required arguments"):
        client.chat.completions.create(model="talker")


def test_without_vitals_nothing_happens(url):
    """instrument() before start(): calls go through, unrecorded."""
    llmvitals.instrument()
    try:
        with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
            assert client.chat.completions.create(model="talker", messages=QUESTION)
    finally:
        llmvitals.uninstrument()


def test_uninstrument_restores_exactly():
    """The very same function objects; instrumenting twice wraps once."""
    methods = [(owner, "create") for owner in (Completions, AsyncCompletions, Embeddings, AsyncEmbeddings)]
    methods += [(owner, "parse") for owner in (Completions, AsyncCompletions) if hasattr(owner, "parse")]
    before = [vars(owner)[name] for owner, name in methods]

    assert "openai" in llmvitals.instrument()
    assert "openai" in llmvitals.instrument()
    during = [vars(owner)[name] for owner, name in methods]
    llmvitals.uninstrument()
    llmvitals.uninstrument()

    assert not set(map(id, before)) & set(map(id, during))
    assert [inspect.iscoroutinefunction(function) for function in before] == [
        inspect.iscoroutinefunction(function) for function in during
    ]
    assert [inspect.signature(function) for function in before] == [inspect.signature(function) for function in during]
    assert before == [vars(owner)[name] for owner, name in methods]


def test_a_wrapper_around_ours_stays_and_ours_steps_aside(watched, client, monkeypatch):
    """Somebody else's patch on top is not undone."""
    ours = Completions.create

    def around(self, **kwargs):
        return ours(self, **kwargs)

    monkeypatch.setattr(Completions, "create", around)

    llmvitals.uninstrument()

    assert around is Completions.create
    assert client.chat.completions.create(model="talker", messages=QUESTION)
    assert durations(watched) is None


def test_a_wrapper_left_behind_does_not_count_twice(watched, client, monkeypatch):
    """Neither under somebody else's patch nor when that patch has gone and left ours in its place."""
    ours, through = Completions.create, []

    @functools.wraps(ours)
    def around(self, **kwargs):
        through.append(True)
        return ours(self, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Completions, "create", around)
        llmvitals.uninstrument()
        llmvitals.instrument(watched)
        client.chat.completions.create(model="talker", messages=QUESTION)
        assert 1 == durations(watched)
        assert through
        llmvitals.uninstrument()
        assert around is Completions.create
    assert ours is Completions.create

    llmvitals.instrument(watched)
    client.chat.completions.create(model="talker", messages=QUESTION)
    assert 2 == durations(watched)
    llmvitals.uninstrument()
    assert Completions.__module__ == Completions.create.__module__
    assert ours is not Completions.create
