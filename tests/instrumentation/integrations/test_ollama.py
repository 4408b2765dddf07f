import asyncio
import inspect
import json
import threading
from http.server import BaseHTTPRequestHandler

import pytest
from tests.instrumentation.integrations.conftest import Server, durations, ends, tokens

import llmvitals

ollama = pytest.importorskip("ollama")

MESSAGES = [{"role": "user", "content": "How are you?"}]
DONE = {"done": True, "prompt_eval_count": 7, "eval_count": 5}


class Handler(BaseHTTPRequestHandler):
    """Answers by the model's name: "talker" well, "absent" with 404, "broken" with an error amid its stream."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        part = {"model": "talker:7b", "done": False}
        if self.path == "/api/embed":
            part |= {"embeddings": [[0.5]]}
        elif self.path == "/api/chat":
            part |= {"message": {"role": "assistant", "content": "Fine"}}
            thought = part | {"message": {"role": "assistant", "content": "", "thinking": "Hm"}}
        else:
            part |= {"response": "Fine"}
        if body["model"] == "absent":
            self.answer(404, [{"error": "no such model"}])
        elif body["model"] == "broken":
            self.answer(200, [part, {"error": "out of memory"}])
        elif body["model"] == "thinker":
            self.answer(200, [thought, thought, part, part | DONE])
        elif self.path == "/api/embed":
            self.answer(200, [part | {"prompt_eval_count": 7}])
        else:
            self.answer(200, [part, part, part | DONE] if body["stream"] else [part | DONE])

    def answer(self, status, parts):
        text = "\n".join(json.dumps(part) for part in parts)
        self.send_response(status)
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
    client = ollama.Client(host)
    yield client
    client._client.close()  # The oldest has no way of its own.


@pytest.fixture(name="run")
def _run(vitals, host):
    """Run an async function that is given a client."""

    def run(function):
        async def main():
            client = ollama.AsyncClient(host)
            async with client._client:
                return await function(client)

        return asyncio.run(main())

    return run


def test_plain_calls_by_operation(vitals, client, host):
    """The model may be the first argument; tokens are those that ollama counts."""
    reply = client.chat("talker", MESSAGES)
    client.generate(model="talker", prompt="How are you?")
    client.embed(model="talker", input="text")

    assert type(reply) is ollama.ChatResponse
    labels = {"gen_ai_provider_name": "primary", "gen_ai_request_model": "talker", "gen_ai_response_model": "talker:7b"}
    assert 1 == durations(vitals, gen_ai_operation_name="chat", server_port=host.rpartition(":")[2], **labels)
    assert 1 == durations(vitals, gen_ai_operation_name="text_completion", **labels)
    assert 1 == durations(vitals, gen_ai_operation_name="embeddings", **labels)
    assert 7 == vitals.value("gen_ai_client_token_usage_sum", gen_ai_operation_name="chat", gen_ai_token_type="input")
    assert 5 == vitals.value("gen_ai_client_token_usage_sum", gen_ai_operation_name="chat", gen_ai_token_type="output")
    assert 0 == vitals.value("llmvitals_calls_in_flight")


def test_a_stream_stays_a_generator(vitals, client, run):
    """Sync and async; the tokens come with the last part."""
    stream = client.chat(model="talker", messages=MESSAGES, stream=True)
    assert inspect.isgenerator(stream)
    assert ["Fine"] * 3 == [part.message.content for part in stream]

    async def read(client):
        stream = await client.generate(model="talker", prompt="How are you?", stream=True)
        assert inspect.isasyncgen(stream)
        return [part.response async for part in stream]

    assert ["Fine"] * 3 == run(read)
    assert 2 == vitals.value("llmvitals_stream_ends_total", reason="completed")
    assert {"input": 7, "output": 5} == {
        kind: vitals.value("gen_ai_client_token_usage_sum", gen_ai_operation_name="chat", gen_ai_token_type=kind)
        for kind in ("input", "output")
    }
    assert 2 == durations(vitals, gen_ai_response_model="talker:7b")
    assert vitals.value("llmvitals_usage_missing_total") is None
    assert vitals.value("llmvitals_stream_odd_chunks_total") is None


def test_first_output_comes_after_the_thinking(vitals, client, monkeypatch):
    """Which ollama tells apart from the content; generated text has none."""
    seconds = iter(range(100))
    for module in ("_calls", "_streams", "_watch"):
        monkeypatch.setattr(f"llmvitals.{module}.perf_counter", lambda: next(seconds))

    assert 4 == len(list(client.chat(model="thinker", messages=MESSAGES, stream=True)))
    assert 3 == vitals.value("llmvitals_time_to_first_output_seconds_sum", gen_ai_operation_name="chat")
    assert 3 == len(list(client.generate(model="talker", prompt="How are you?", stream=True)))
    assert 1 == vitals.value("llmvitals_time_to_first_output_seconds_sum", gen_ai_operation_name="text_completion")


def test_async_plain_calls(vitals, run):
    """The same."""
    run(lambda client: client.chat(model="talker", messages=MESSAGES))

    assert {"input": 7, "output": 5} == tokens(vitals)


def test_the_modules_own_functions(vitals, client, monkeypatch):
    """They are methods of a client that the module has made."""
    monkeypatch.setattr(ollama.chat.__self__, "_client", client._client)
    assert ollama.chat("talker", MESSAGES).message.content == "Fine"

    assert 1 == durations(vitals, gen_ai_operation_name="chat")


def test_errors_and_streams_that_are_left(vitals, client):
    """The client's own errors, by their status."""
    with pytest.raises(ollama.ResponseError):
        client.chat(model="absent", messages=MESSAGES)
    with pytest.raises(ollama.ResponseError, match="out of memory"):
        list(client.chat(model="broken", messages=MESSAGES, stream=True))
    left = client.chat(model="talker", messages=MESSAGES, stream=True)
    next(left)
    left.close()

    assert 1 == durations(vitals, error_type="404")
    assert {"error": 1, "cancelled": 1} == ends(vitals)
    assert 0 == vitals.value("llmvitals_calls_in_flight")


def test_uninstrument_restores_exactly():
    """The very same functions and bound methods."""
    methods = [(owner, name) for owner in (ollama.Client, ollama.AsyncClient) for name in ("chat", "generate", "embed")]
    methods += [(ollama, name) for name in ("chat", "generate", "embed")]
    before = [vars(owner)[name] for owner, name in methods]
    assert "ollama" in llmvitals.instrument()
    during = [vars(owner)[name] for owner, name in methods]
    llmvitals.uninstrument()

    assert not set(map(id, before)) & set(map(id, during))
    assert [inspect.iscoroutinefunction(f) for f in before] == [inspect.iscoroutinefunction(f) for f in during]
    assert list(map(id, before)) == [id(vars(owner)[name]) for owner, name in methods]
