import asyncio
import gc
import inspect
import subprocess
import sys
import threading

import pydantic
import pytest
from tests.instrumentation.integrations.conftest import durations, ends, tokens
from tests.instrumentation.integrations.openai_server import EVENTS, OpenAIServer

import llmvitals

openai = pytest.importorskip("openai")
pytest.importorskip("openai.resources.responses")

CHAT = {"model": "talker", "messages": [{"role": "user", "content": "How are you?"}]}
ASK = {"model": "talker", "input": "How are you?"}
BASE = {"gen_ai_provider_name": "primary", "gen_ai_request_model": "talker", "gen_ai_response_model": "talker-2026"}


@pytest.fixture(name="url", scope="module")
def _url():
    with OpenAIServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.url
        server.shutdown()
        thread.join()


@pytest.fixture(name="client")
def _client(vitals, url):
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(name="run")
def _run(vitals, url):
    def run(function, **options):
        async def main():
            async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, **options) as client:
                return await function(client)

        return asyncio.run(main())

    return run


@pytest.fixture(autouse=True)
def _idle(vitals):
    """Whatever a test does, no call is left open."""
    yield
    assert not vitals.value("llmvitals_calls_in_flight")
    assert vitals.value("llmvitals_instrumentation_errors_total") is None


def helpers(client):
    """Where the SDK has `parse` and `stream`, which moved with 1.92."""
    return client.chat.completions if hasattr(client.chat.completions, "stream") else client.beta.chat.completions


# --- Responses --------------------------------------------------------------------------------------------------------


def test_a_response(vitals, client, run):
    """Created and parsed, sync and async."""
    assert "Fine" == client.responses.create(**ASK).output_text
    assert "Fine" == client.responses.parse(**ASK).output_text
    assert "Fine" == run(lambda client: client.responses.create(**ASK)).output_text
    assert "Fine" == run(lambda client: client.responses.parse(**ASK)).output_text

    assert 4 == durations(vitals, gen_ai_operation_name="chat", error_type="", **BASE)
    assert {"input": 28, "output": 20} == tokens(vitals)
    assert vitals.value("llmvitals_usage_missing_total") is None


def test_a_streamed_response(vitals, client, run):
    """Its last event has the usage; events of many kinds are not odd."""
    stream = client.responses.create(**ASK, stream=True)
    assert type(stream) is openai.Stream
    assert [event["type"] for event in EVENTS] == [event.type for event in stream]

    async def read(client):
        return [event async for event in await client.responses.create(**ASK, stream=True)]

    assert len(EVENTS) == len(run(read))
    assert 2 == durations(vitals, **BASE)
    assert {"input": 14, "output": 10} == tokens(vitals)
    assert {"completed": 2} == ends(vitals)
    assert vitals.value("llmvitals_stream_odd_chunks_total") is None


def test_the_helper_of_responses(vitals, client, run):
    """Read to its end, and left."""
    with client.responses.stream(**ASK) as stream:
        assert "Fine" == stream.get_final_response().output_text
    with client.responses.stream(**ASK) as stream:
        next(stream)

    async def read(client):
        async with client.responses.stream(**ASK) as stream:
            await stream.until_done()
        async with client.responses.stream(**ASK) as stream:
            await anext(stream)

    run(read)
    assert 4 == durations(vitals)
    assert {"completed": 2, "cancelled": 2} == ends(vitals)


# --- Chat, completions ------------------------------------------------------------------------------------------------


def test_first_output_comes_after_the_reasoning(vitals, client, monkeypatch):
    """In chat by the delta's content, in responses by the event's type, in completions by the text."""
    seconds = iter(range(100))
    for module in ("_calls", "_streams", "_watch"):
        monkeypatch.setattr(f"llmvitals.{module}.perf_counter", lambda: next(seconds))

    def first_output(stream):
        before = vitals.value("llmvitals_time_to_first_output_seconds_sum") or 0
        list(stream)
        return vitals.value("llmvitals_time_to_first_output_seconds_sum") - before

    assert 3 == first_output(client.chat.completions.create(**CHAT, stream=True))
    assert 5 == first_output(client.responses.create(**ASK, stream=True))
    assert 1 == first_output(client.completions.create(model="talker", prompt="How are you?", stream=True))


def test_legacy_completions(vitals, client, run):
    """An operation of their own."""
    assert "Fine" == client.completions.create(model="talker", prompt="How?").choices[0].text
    run(lambda client: client.completions.create(model="talker", prompt="How?"))

    assert 2 == durations(vitals, gen_ai_operation_name="text_completion", **BASE)
    assert {"input": 14, "output": 10} == tokens(vitals)


def test_the_helper_of_chat(vitals, client, run):
    """Read to its end, left, and left by an error."""
    stream_of = helpers(client).stream
    with stream_of(**CHAT) as stream:
        assert "Fine" == stream.get_final_completion().choices[0].message.content
    with stream_of(**CHAT) as stream:
        next(stream)
    with pytest.raises(KeyError), stream_of(**CHAT) as stream:
        raise KeyError

    async def read(client):
        async with helpers(client).stream(**CHAT) as stream:
            await anext(stream)

    run(read)
    assert 4 == durations(vitals)
    assert {"completed": 1, "cancelled": 3} == ends(vitals)


def test_an_answer_that_the_parser_does_not_like(vitals, client):
    """The call failed, and its tokens were spent; the server was asked once."""

    class Feeling(pydantic.BaseModel):
        text: str

    with pytest.raises(openai.LengthFinishReasonError):
        helpers(client).parse(**CHAT | {"model": "long"}, response_format=Feeling)

    assert 1 == durations(vitals, error_type="LengthFinishReasonError")
    assert {"input": 7, "output": 5} == tokens(vitals)
    assert 1 == vitals.value("llmvitals_attempts_total", outcome="success")
    assert 1 == vitals.value("llmvitals_attempts_total")


def test_the_azure_client(vitals, url):
    """Its provider is known by the client, where no name was given."""
    llmvitals.instrument(vitals)
    options = {"api_version": "2026-01-01", "api_key": "none", "max_retries": 0}
    with openai.AzureOpenAI(azure_endpoint=url.removesuffix("/v1"), **options) as client:
        client.chat.completions.create(**CHAT)

    assert 1 == durations(vitals, gen_ai_provider_name="azure.ai.openai")


LATER = """
import sys
import llmvitals
from llmvitals import testing

vitals = testing.fresh()
llmvitals.instrument(vitals)
import openai

with openai.OpenAI(base_url=sys.argv[1], api_key="none") as client:
    client.chat.completions.create(model="talker", messages=[])
    client.responses.create(model="talker", input="How are you?")
    client.completions.create(model="talker", prompt="How are you?")
    client.embeddings.create(model="talker", input="How are you?")
print(int(vitals.value("gen_ai_client_operation_duration_seconds_count")))
"""


def test_what_the_sdk_imports_when_it_is_used_is_watched(url):
    """It imports its parts late, and so do we."""
    ended = subprocess.run([sys.executable, "-c", LATER, url], capture_output=True, text=True, check=False)

    assert ("4\n", "") == (ended.stdout, ended.stderr)


def test_uninstrument_restores_exactly():
    """Every method of every part, and what tells of retries."""
    from openai.lib.streaming import chat
    from openai.lib.streaming.responses import _responses
    from openai.resources import completions, responses

    owners = (
        responses.Responses, responses.AsyncResponses, completions.Completions, completions.AsyncCompletions,
        chat.ChatCompletionStream, chat.AsyncChatCompletionStream,
        _responses.ResponseStream, _responses.AsyncResponseStream, openai._base_client.BaseClient,
    )  # fmt: skip
    names = ("create", "parse", "close", "_should_retry", "_calculate_retry_timeout")
    methods = [(owner, name) for owner in owners for name in names if name in vars(owner)]
    llmvitals.uninstrument()
    before = [vars(owner)[name] for owner, name in methods]
    llmvitals.instrument()
    during = [vars(owner)[name] for owner, name in methods]
    llmvitals.uninstrument()

    assert not set(map(id, before)) & set(map(id, during))
    assert [inspect.signature(method) for method in before] == [inspect.signature(method) for method in during]
    assert list(map(inspect.iscoroutinefunction, before)) == list(map(inspect.iscoroutinefunction, during))
    assert before == [vars(owner)[name] for owner, name in methods]


# --- Raw responses ----------------------------------------------------------------------------------------------------


def test_a_raw_response_counts_without_being_parsed(vitals, client, run):
    """The application may read headers only; what it parses stays its own object."""
    raw = client.chat.completions.with_raw_response.create(**CHAT)
    run(lambda client: client.chat.completions.with_raw_response.create(**CHAT))

    assert {"input": 14, "output": 10} == tokens(vitals)
    assert type(raw).__name__ == "LegacyAPIResponse"
    assert raw.parse() is raw.parse()
    assert 2 == durations(vitals, error_type="", **BASE)


def test_a_raw_response_that_streams(vitals, client, run):
    """The call ends with the stream that is parsed from it, or with the response."""
    raw = client.chat.completions.with_raw_response.create(**CHAT, stream=True)
    assert 1 == vitals.value("llmvitals_calls_in_flight")
    stream = raw.parse()
    assert type(stream) is openai.Stream
    assert stream is raw.parse()
    assert 3 == len(list(stream))
    dropped = client.chat.completions.with_raw_response.create(**CHAT, stream=True)
    dropped.http_response.close()
    del dropped
    gc.collect()

    async def read(client):
        raw = await client.chat.completions.with_raw_response.create(**CHAT, stream=True)
        return [chunk async for chunk in raw.parse()]

    assert 3 == len(run(read))
    assert 3 == durations(vitals)
    assert {"completed": 2} == ends(vitals)


def test_a_response_that_is_read_later(vitals, client, run):
    """Parsed, read as JSON, closed unread; each is one call."""
    create = client.chat.completions.with_streaming_response.create
    with create(**CHAT) as response:
        assert type(response).__name__ == "APIResponse"
        assert "Fine" == response.parse().choices[0].message.content
    with create(**CHAT) as response:
        assert "talker-2026" == response.json()["model"]
    with create(**CHAT):
        pass

    async def read(client):
        async with client.chat.completions.with_streaming_response.create(**CHAT) as response:
            return (await response.parse()).choices[0].message.content

    assert "Fine" == run(read)
    assert 4 == durations(vitals, error_type="")
    assert 3 == durations(vitals, **BASE)
    assert {"input": 21, "output": 15} == tokens(vitals)
    assert 1 == vitals.value("llmvitals_usage_missing_total", stream="false")
    assert {} == ends(vitals)


def test_a_stream_that_is_read_later(vitals, client, run):
    """Read to its end or left in the midst of the block."""
    create = client.chat.completions.with_streaming_response.create
    with create(**CHAT, stream=True) as response:
        assert 3 == len(list(response.parse()))
    with create(**CHAT, stream=True) as response:
        next(response.parse())

    async def read(client):
        create = client.chat.completions.with_streaming_response.create
        async with create(**CHAT, stream=True) as response:
            return [chunk async for chunk in await response.parse()]

    assert 3 == len(run(read))
    assert 3 == durations(vitals, **BASE)
    assert {"completed": 2, "cancelled": 1} == ends(vitals)
