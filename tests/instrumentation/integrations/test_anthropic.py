import asyncio
import gc
import inspect
import json
import threading
from http.server import BaseHTTPRequestHandler

import pytest
from tests.instrumentation.integrations.conftest import Server, durations, ends, tokens

import llmvitals

anthropic = pytest.importorskip("anthropic")

OPTIONS = {"max_tokens": 16, "messages": [{"role": "user", "content": "How are you?"}]}
USAGE = {"input_tokens": 7, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 3, "output_tokens": 5}
MESSAGE = {"id": "1", "type": "message", "role": "assistant", "model": "talker-2026", "content": []}
TEXT = {"type": "text", "text": "Fine"}
EVENTS = [
    {"type": "message_start", "message": MESSAGE | {"usage": USAGE | {"output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Fine"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
    {"type": "message_stop"},
]
# A thought, its signature, and a tool that is asked for instead of a text.
THOUGHTS = [
    EVENTS[0],
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "x"}},
    {"type": "content_block_stop", "index": 0},
    {
        "type": "content_block_start",
        "index": 1,
        "content_block": {"type": "tool_use", "id": "2", "name": "look", "input": {}},
    },
    {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
    {"type": "content_block_stop", "index": 1},
    *EVENTS[-2:],
]


class Handler(BaseHTTPRequestHandler):
    """Answers by the model's name: "talker" well, "throttled" with 429, "broken" with an error amid its stream."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body["model"] == "throttled":
            error = {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}
            self.answer(429, "application/json", json.dumps(error))
        elif body.get("stream"):
            events = THOUGHTS if body["model"] == "thinker" else EVENTS
            if body["model"] == "broken":
                error = {"type": "error", "error": {"type": "overloaded_error", "message": "too many"}}
                events = [*EVENTS[:3], error]
            text = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
            self.answer(200, "text/event-stream", text)
        else:
            message = MESSAGE | {"content": [TEXT], "stop_reason": "end_turn", "usage": USAGE}
            self.answer(200, "application/json", json.dumps(message))

    def answer(self, status, kind, text):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


@pytest.fixture(name="server", scope="module")
def _server():
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(name="settings")
def _settings(server):
    return {"base_url": f"http://127.0.0.1:{server.server_port}", "api_key": "none", "max_retries": 0}


@pytest.fixture(name="client")
def _client(vitals, settings):
    with anthropic.Anthropic(**settings) as client:
        yield client


@pytest.fixture(name="run")
def _run(vitals, settings):
    """Run an async function that is given a client."""

    def run(function):
        async def main():
            async with anthropic.AsyncAnthropic(**settings) as client:
                return await function(client)

        return asyncio.run(main())

    return run


def test_a_plain_call(vitals, client, server):
    """Every base label, and the tokens: of the input all that was read, cached or not."""
    reply = client.messages.create(model="talker", **OPTIONS)

    assert type(reply) is anthropic.types.Message
    assert 1 == durations(
        vitals,
        gen_ai_operation_name="chat",
        gen_ai_provider_name="primary",
        gen_ai_request_model="talker",
        gen_ai_response_model="talker-2026",
        server_address="127.0.0.1",
        server_port=str(server.server_port),
        error_type="",
    )
    assert {"input": 30, "output": 5} == tokens(vitals)
    assert 0 == vitals.value("llmvitals_calls_in_flight")


def test_without_a_name_of_its_own_the_provider_is_anthropic(client):
    """As OpenTelemetry calls it."""
    with llmvitals.testing.fresh() as other:
        llmvitals.instrument(other)
        client.messages.create(model="talker", **OPTIONS)

        assert 1 == durations(other, gen_ai_provider_name="anthropic")


def test_plain_async_and_beta_calls(vitals, client, run):
    """The same."""
    run(lambda client: client.messages.create(model="talker", **OPTIONS))
    client.beta.messages.create(model="talker", **OPTIONS)
    run(lambda client: client.beta.messages.create(model="talker", **OPTIONS))

    assert 3 == durations(vitals, gen_ai_response_model="talker-2026", error_type="")
    assert {"input": 90, "output": 15} == tokens(vitals)


def test_a_stream_is_the_sdks_own_object(vitals, client):
    """Same type, same events; model and tokens from its first and last."""
    stream = client.messages.create(model="talker", stream=True, **OPTIONS)

    assert type(stream) is anthropic.Stream
    assert 200 == stream.response.status_code
    assert [event["type"] for event in EVENTS] == [event.type for event in stream]
    assert {"completed": 1} == ends(vitals)
    assert 1 == durations(vitals, gen_ai_response_model="talker-2026", error_type="")
    assert {"input": 30, "output": 5} == tokens(vitals)
    assert 1 == vitals.value("gen_ai_client_operation_time_to_first_chunk_seconds_count")
    assert len(EVENTS) - 1 == vitals.value("gen_ai_client_operation_time_per_output_chunk_seconds_count")
    assert vitals.value("llmvitals_stream_odd_chunks_total") is None
    assert vitals.value("llmvitals_usage_missing_total") is None


def test_an_async_stream(vitals, run):
    """The same."""

    async def read(client):
        stream = await client.messages.create(model="talker", stream=True, **OPTIONS)
        assert type(stream) is anthropic.AsyncStream
        return [event async for event in stream]

    assert len(EVENTS) == len(run(read))
    assert {"completed": 1} == ends(vitals)
    assert {"input": 30, "output": 5} == tokens(vitals)


def test_the_stream_helper(vitals, client, run):
    """`messages.stream`, sync, async and beta: one call each, from its block's beginning."""
    manager = client.messages.stream(model="talker", **OPTIONS)
    assert durations(vitals) is None
    with manager as stream:
        assert isinstance(stream, anthropic.lib.streaming.MessageStream)
        assert ["Fine"] == list(stream.text_stream)
        assert 5 == stream.get_final_message().usage.output_tokens
    with client.beta.messages.stream(model="talker", **OPTIONS) as stream:
        assert "Fine" == stream.get_final_text()

    async def read(client):
        async with client.messages.stream(model="talker", **OPTIONS) as stream:
            return await stream.get_final_text()

    assert "Fine" == run(read)
    assert {"completed": 3} == ends(vitals)
    assert 3 == durations(vitals, gen_ai_request_model="talker", gen_ai_response_model="talker-2026")
    assert {"input": 90, "output": 15} == tokens(vitals)


def test_first_output_comes_after_the_thinking(vitals, client, monkeypatch):
    """A text's first delta, or the beginning of a tool's use."""
    seconds = iter(range(100))
    for module in ("_calls", "_streams", "_watch"):
        monkeypatch.setattr(f"llmvitals.{module}.perf_counter", lambda: next(seconds))

    assert len(EVENTS) == len(list(client.messages.create(model="talker", stream=True, **OPTIONS)))
    assert 3 == vitals.value("llmvitals_time_to_first_output_seconds_sum", gen_ai_request_model="talker")
    assert len(THOUGHTS) == len(list(client.messages.create(model="thinker", stream=True, **OPTIONS)))
    assert 6 == vitals.value("llmvitals_time_to_first_output_seconds_sum", gen_ai_request_model="thinker")


def test_the_async_helpers_text(vitals, run):
    """Read text by text, then asked for the whole."""

    async def read(client):
        async with client.messages.stream(model="talker", **OPTIONS) as stream:
            assert isinstance(stream, anthropic.lib.streaming.AsyncMessageStream)
            texts = [text async for text in stream.text_stream]
            message = await stream.get_final_message()
            await stream.until_done()
            return texts, message.usage.output_tokens

    assert (["Fine"], 5) == run(read)
    assert {"completed": 1} == ends(vitals)


def test_raw_responses(vitals, client, run):
    """Parsed, streamed, or never read."""
    raw = client.messages.with_raw_response.create(model="talker", **OPTIONS)
    assert "Fine" == raw.parse().content[0].text
    with client.messages.with_streaming_response.create(model="talker", stream=True, **OPTIONS) as response:
        assert len(EVENTS) == len(list(response.parse()))

    async def read(client):
        async with client.messages.with_streaming_response.create(model="talker", **OPTIONS) as response:
            return await response.parse()

    assert "Fine" == run(read).content[0].text
    assert 3 == durations(vitals, gen_ai_response_model="talker-2026")
    assert {"input": 90, "output": 15} == tokens(vitals)
    assert {"completed": 1} == ends(vitals)
    assert 0 == vitals.value("llmvitals_calls_in_flight")


def test_counting_tokens_is_no_call(vitals, client):
    """Nor an attempt."""
    client.messages.count_tokens(model="talker", messages=OPTIONS["messages"])

    assert durations(vitals) is None
    assert vitals.value("llmvitals_attempts_total") is None


def test_streams_end_once_however_they_end(vitals, client, run):
    """By the context manager, by close, twice, left from the helper, dropped."""

    def stream():
        return client.messages.create(model="talker", stream=True, **OPTIONS)

    with stream() as left:
        next(left)
    closed = stream()
    closed.close()
    closed.close()
    with client.messages.stream(model="talker", **OPTIONS) as helper:
        next(helper)
    begun = stream()
    next(begun)
    begun.response.close()
    del begun
    gc.collect()

    async def main(client):
        async with await client.messages.create(model="talker", stream=True, **OPTIONS) as left:
            await anext(left)

    run(main)

    assert {"cancelled": 4, "abandoned": 1} == ends(vitals)
    assert 0 == vitals.value("llmvitals_calls_in_flight")


def test_errors_are_the_sdks_own(vitals, client, run):
    """Named by their status; amid a stream too."""
    with pytest.raises(anthropic.RateLimitError):
        client.messages.create(model="throttled", **OPTIONS)
    with pytest.raises(anthropic.RateLimitError), client.messages.stream(model="throttled", **OPTIONS):
        pass
    with pytest.raises(anthropic.RateLimitError):
        run(lambda client: client.messages.create(model="throttled", **OPTIONS))
    with pytest.raises(anthropic.APIStatusError):
        list(client.messages.create(model="broken", stream=True, **OPTIONS))

    assert 3 == durations(vitals, error_type="429")
    assert {"error": 1} == ends(vitals)
    assert 4 == durations(vitals)


def test_wrong_arguments_raise_as_before(vitals, client):
    """The SDK's own check speaks first."""
    with pytest.raises(TypeError, match="Missing required arguments"):
        client.messages.create(model="talker")


def test_a_cancelled_call_is_cancelled(vitals, settings):
    """The task ends as cancelled, and the call counts."""

    async def main():
        async with anthropic.AsyncAnthropic(**settings) as client:
            task = asyncio.create_task(client.messages.create(model="talker", **OPTIONS))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert 1 == durations(vitals, error_type="CancelledError")


def test_inside_the_applications_call_nothing_is_counted_twice(vitals, client):
    """The SDK adds model, usage and stream to the call that the application made."""
    with vitals.call(provider="mine", model="talker"):
        client.messages.create(model="talker", **OPTIONS)
    with vitals.call(provider="mine", model="talker"):
        list(client.messages.create(model="talker", stream=True, **OPTIONS))

    assert 2 == durations(vitals)
    assert 2 == durations(vitals, gen_ai_provider_name="mine", gen_ai_response_model="talker-2026")
    assert {"completed": 1} == ends(vitals)


def test_uninstrument_restores_exactly():
    """The very same function objects, of the same kind."""
    from llmvitals.integrations import _anthropic

    methods = [(owner, name) for owner in _anthropic._RESOURCES for name in ("create", "parse", "stream")]
    methods = [(owner, name) for owner, name in methods if hasattr(owner, name)]  # The oldest has no `parse`.
    methods += _anthropic._MANAGERS
    before = [vars(owner)[name] for owner, name in methods]
    assert "anthropic" in llmvitals.instrument()
    during = [vars(owner)[name] for owner, name in methods]
    llmvitals.uninstrument()

    assert not set(map(id, before)) & set(map(id, during))
    assert [inspect.signature(f) for f in before] == [inspect.signature(f) for f in during]
    assert [inspect.iscoroutinefunction(f) for f in before] == [inspect.iscoroutinefunction(f) for f in during]
    assert before == [vars(owner)[name] for owner, name in methods]
