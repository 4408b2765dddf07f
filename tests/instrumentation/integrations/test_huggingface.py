import asyncio
import inspect
import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler

import pytest
from tests.instrumentation.integrations.conftest import Server

import llmvitals

huggingface_hub = pytest.importorskip("huggingface_hub")

MESSAGES = [{"role": "user", "content": "How are you?"}]
USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
HEAD = {"id": "1", "created": 1, "model": "talker:7b", "system_fingerprint": "x"}
DETAILS = {"finish_reason": "length", "generated_tokens": 5}
TOKEN = {"id": 1, "logprob": -0.1, "special": False, "text": "Fine"}


class Handler(BaseHTTPRequestHandler):
    """text-generation-inference's three routes, by what is asked: "absent" is 404, "broken" an error amid its stream,
    "old" refuses a keyword as transformers' own server does.
    """

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = json.dumps(body)
        if "absent" in text:
            self.answer(404, json.dumps({"error": "no such model"}))
        elif "old" in text and "watermark" in text:
            self.answer(
                400, json.dumps({"error": "The following `model_kwargs` are not used by the model: ['watermark']"})
            )
        elif self.path == "/v1/chat/completions":
            self.chat(body, broken="broken" in text)
        elif isinstance(body["inputs"], str) and "parameters" in body:
            self.generate(body, broken="broken" in text)
        else:
            self.answer(200, "[[0.5, 0.25]]")

    def chat(self, body, broken):
        if not body.get("stream"):
            message = {"finish_reason": "stop", "index": 0, "message": {"role": "assistant", "content": "Fine"}}
            self.answer(200, json.dumps(HEAD | {"choices": [message], "usage": USAGE}))
            return
        part = HEAD | {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "Fine"}}]}
        last = {"error": "out of memory", "error_type": "generation"} if broken else part | {"usage": USAGE}
        self.answer(200, "".join(f"data: {json.dumps(event)}\n\n" for event in (part, part, last)) + "data: [DONE]\n\n")

    def generate(self, body, broken):
        if not body.get("stream"):
            details = DETAILS | {"prefill": [], "tokens": [TOKEN]}
            self.answer(200, json.dumps([{"generated_text": "Fine", "details": details}]))
            return
        part = {"index": 1, "token": TOKEN}
        last = part | {"generated_text": "Fine Fine", "details": DETAILS | {"input_length": 7}}
        if broken:
            last = {"error": "out of memory", "error_type": "generation"}
        self.answer(200, "".join(f"data: {json.dumps(event)}\n\n" for event in (part, last)))

    def answer(self, status, text):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


@pytest.fixture(name="host", scope="module")
def _host():
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(name="client")
def _client(vitals, host):
    with huggingface_hub.InferenceClient(host) as client:
        yield client


@pytest.fixture(name="run")
def _run(vitals, host):
    """Run an async function that is given a client."""

    def run(function):
        async def main():
            async with huggingface_hub.AsyncInferenceClient(host) as client:
                return await function(client)

        return asyncio.run(main())

    return run


def durations(vitals, **labels):
    return vitals.value("gen_ai_client_operation_duration_seconds_count", **labels)


def by(vitals, family, label):
    """Sum the samples of a family by the values of one label."""
    sums = Counter()
    for labels, value in vitals.samples(family).items():
        sums[dict(labels)[label]] += value
    return dict(sums)


def tokens(vitals):
    return by(vitals, "gen_ai_client_token_usage_sum", "gen_ai_token_type")


def ends(vitals):
    return by(vitals, "llmvitals_stream_ends_total", "reason")


def test_chat(vitals, client, host):
    """Under either of its names, with the model, the tokens and the server."""
    first = client.chat_completion(MESSAGES, model="talker")
    client.chat.completions.create(messages=MESSAGES, model="talker")

    assert isinstance(first, huggingface_hub.ChatCompletionOutput)
    server = {"server_address": "127.0.0.1", "server_port": host.rpartition(":")[2]}
    labels = {"gen_ai_provider_name": "primary", "gen_ai_request_model": "talker", "gen_ai_response_model": "talker:7b"}
    assert 2 == durations(vitals, gen_ai_operation_name="chat", error_type="", **labels, **server)
    assert {"input": 14, "output": 10} == tokens(vitals)
    assert 0 == vitals.value("llmvitals_calls_in_flight")


def test_text_generation_and_embeddings(vitals, client):
    """Tokens are told when details were asked for, else they are missing; a server's address is no model."""
    assert "Fine" == client.text_generation("How are you?", details=True).generated_text
    assert {"output": 5} == tokens(vitals)
    assert "Fine" == client.text_generation("How are you?")
    assert [[0.5, 0.25]] == client.feature_extraction("text").tolist()

    assert 2 == durations(vitals, gen_ai_operation_name="text_completion", gen_ai_request_model="")
    assert 1 == durations(vitals, gen_ai_operation_name="embeddings")
    assert 2 == vitals.value("llmvitals_usage_missing_total", stream="false")


def test_streams_stay_generators(vitals, client, run):
    """Sync and async; the tokens come with the last part."""
    stream = client.chat_completion(MESSAGES, stream=True)
    assert inspect.isgenerator(stream)
    assert ["Fine"] * 3 == [part.choices[0].delta.content for part in stream]
    assert ["Fine"] * 2 == [part.token.text for part in client.text_generation("Hm?", stream=True, details=True)]
    assert ["Fine"] * 2 == list(client.text_generation("Hm?", stream=True))

    async def read(client):
        stream = await client.chat_completion(MESSAGES, stream=True)
        assert inspect.isasyncgen(stream)
        parts = [part.choices[0].delta.content async for part in stream]
        return parts + [
            part.token.text async for part in await client.text_generation("Hm?", stream=True, details=True)
        ]

    assert ["Fine"] * 5 == run(read)
    assert {"completed": 5} == ends(vitals)
    assert {"input": 4 * 7, "output": 4 * 5} == tokens(vitals)
    assert 1 == vitals.value("llmvitals_usage_missing_total", stream="true")
    assert vitals.value("llmvitals_stream_odd_chunks_total") is None


def test_async_calls(vitals, run, host):
    """The same."""

    async def ask(client):
        await client.chat_completion(MESSAGES)
        await client.text_generation("How are you?", details=True)
        return await client.feature_extraction("text")

    assert [[0.5, 0.25]] == run(ask).tolist()
    assert 3 == durations(vitals, server_port=host.rpartition(":")[2])


def test_what_it_asks_again_is_the_same_call(vitals, client, monkeypatch):
    """A server that knows fewer keywords is asked without them."""
    monkeypatch.setattr("huggingface_hub.inference._common._UNSUPPORTED_TEXT_GENERATION_KWARGS", {})
    with pytest.warns(UserWarning, match="not served via TGI"):
        assert "Fine" == client.text_generation("old", watermark=True)

    assert 1 == durations(vitals, gen_ai_operation_name="text_completion")


def test_errors_and_streams_that_are_left(vitals, client):
    """The library's own errors, by their status or class."""
    with pytest.raises(huggingface_hub.errors.HfHubHTTPError) as raised:
        client.chat_completion([{"role": "user", "content": "absent"}])
    with pytest.raises(huggingface_hub.errors.GenerationError):
        list(client.text_generation("broken", stream=True))
    left = client.chat_completion(MESSAGES, stream=True)
    next(left)
    left.close()
    dropped = client.chat_completion(MESSAGES, stream=True)
    next(dropped)
    del dropped

    assert raised.value.__context__ is raised.value.__cause__
    assert 1 == durations(vitals, error_type="404")
    assert 1 == durations(vitals, error_type="GenerationError")
    assert {"error": 1, "cancelled": 1, "abandoned": 1} == ends(vitals)
    assert 0 == vitals.value("llmvitals_calls_in_flight")


def test_an_own_call_is_not_counted_twice(vitals, client):
    """It takes up what the library learns."""
    with vitals.call(provider="mine", model="mine"):
        client.chat_completion(MESSAGES)
    with vitals.call(provider="mine", model="mine"):
        stream = client.chat_completion(MESSAGES, stream=True)
    assert 3 == len(list(stream))

    assert 2 == durations(vitals)
    assert 2 == durations(vitals, gen_ai_provider_name="mine", gen_ai_response_model="talker:7b", server_address="")
    assert {"input": 14, "output": 10} == tokens(vitals)


def test_a_cancelled_call_is_cancelled(vitals, run):
    """The task ends as cancelled, and the call counts."""

    async def cancel(client):
        task = asyncio.create_task(client.chat_completion(MESSAGES))
        while not vitals.value("llmvitals_calls_in_flight"):  # noqa: ASYNC110 -- nothing sets an event
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return task.cancelled()

    assert run(cancel)
    assert 1 == durations(vitals, error_type="CancelledError")


def test_a_fault_of_ours_stays_with_us(vitals, client, monkeypatch):
    """The application has its reply; the fault is counted."""
    import llmvitals.integrations._huggingface as ours

    def broken(*args, **kwargs):
        raise RuntimeError("ours")

    monkeypatch.setattr(ours, "begin_outer", broken)

    assert "talker:7b" == client.chat_completion(MESSAGES).model
    assert 1 == vitals.value("llmvitals_instrumentation_errors_total", component="huggingface_hub")


def test_uninstrument_restores_exactly():
    """The very same functions."""
    names = ("chat_completion", "text_generation", "feature_extraction", "_inner_post")
    methods = [(c, n) for c in (huggingface_hub.InferenceClient, huggingface_hub.AsyncInferenceClient) for n in names]
    before = [vars(owner)[name] for owner, name in methods]
    assert "huggingface_hub" in llmvitals.instrument()
    during = [vars(owner)[name] for owner, name in methods]
    llmvitals.uninstrument()

    assert not set(map(id, before)) & set(map(id, during))
    assert [inspect.signature(f) for f in before] == [inspect.signature(f) for f in during]
    assert [inspect.iscoroutinefunction(f) for f in before[:3]] == [inspect.iscoroutinefunction(f) for f in during[:3]]
    assert list(map(id, before)) == [id(vars(owner)[name]) for owner, name in methods]
