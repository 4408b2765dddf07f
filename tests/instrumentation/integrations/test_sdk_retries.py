import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler

import pytest
from tests.instrumentation.integrations.conftest import Server, durations
from tests.instrumentation.integrations.openai_server import OpenAIServer

from llmvitals.integrations._outer import OuterCall

openai = pytest.importorskip("openai")

CHAT = {"messages": [{"role": "user", "content": "How are you?"}]}


@pytest.fixture(name="server", scope="module")
def _server():
    with OpenAIServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(name="ask")
def _ask(vitals, server):
    """Ask a model, sync or async, with up to two retries; the error is returned."""

    def ask(model, asynchronous=False, **options):
        settings = {"base_url": server.url, "api_key": "none", "max_retries": 2} | options
        try:
            if not asynchronous:
                with openai.OpenAI(**settings) as client:
                    return client.chat.completions.create(model=model, **CHAT)

            async def main():
                async with openai.AsyncOpenAI(**settings) as client:
                    return await client.chat.completions.create(model=model, **CHAT)

            return asyncio.run(main())
        except openai.APIError as error:
            return error

    return ask


def attempts(vitals, name="primary"):
    samples = {
        tuple(dict(labels).values()): value for labels, value in vitals.samples("llmvitals_attempts_total").items()
    }
    return {outcome: value for (of, outcome), value in samples.items() if of == name}


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_attempts_are_counted_apart_from_calls(vitals, ask, server, asynchronous):
    """One call that the SDK tried three times; the server saw as many."""
    before = server.requests
    assert "Fine" == ask("flaky-2", asynchronous).choices[0].message.content

    assert 3 == server.requests - before
    assert {"retryable": 2, "success": 1} == attempts(vitals)
    assert 1 == durations(vitals)
    assert 1 == vitals.value("llmvitals_retries_total", name="primary", error_type="503", attempt="1")
    assert 1 == vitals.value("llmvitals_retries_total", name="primary", error_type="503", attempt="2")
    assert 2 == vitals.value("llmvitals_retry_wait_seconds_count", name="primary")
    assert vitals.value("llmvitals_retries_exhausted_total") is None


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_giving_up_is_told(vitals, ask, asynchronous):
    """The last error was retryable, and came out as it was."""
    assert isinstance(ask("throttled", asynchronous), openai.RateLimitError)

    assert {"retryable": 3} == attempts(vitals)
    assert 1 == vitals.value("llmvitals_retries_exhausted_total", name="primary", error_type="429")
    assert 2 == vitals.value("llmvitals_retries_total")
    assert 1 == durations(vitals)


def test_what_is_not_retried_is_fatal(vitals, ask):
    """The server's word, or the application's own of no retries."""
    assert isinstance(ask("refused"), openai.BadRequestError)
    assert isinstance(ask("throttled", max_retries=0), openai.RateLimitError)

    assert {"fatal": 2} == attempts(vitals)
    assert vitals.value("llmvitals_retries_exhausted_total") is None
    assert vitals.value("llmvitals_retries_total") is None


def test_a_server_that_is_away_is_tried_again(vitals, ask):
    """Named as the SDK names it."""
    error = ask("talker", base_url="http://127.0.0.1:9/v1", max_retries=1)

    assert type(error) is openai.APIConnectionError
    assert {"retryable": 2} == attempts(vitals)
    assert 1 == vitals.value("llmvitals_retries_total", error_type="APIConnectionError", attempt="1")
    assert 1 == vitals.value("llmvitals_retries_exhausted_total", error_type="APIConnectionError")


def test_wrong_arguments_are_no_attempt(vitals, server):
    """Nothing was sent."""
    with openai.OpenAI(base_url=server.url, api_key="none") as client, pytest.raises(TypeError):
        client.chat.completions.create(model="talker")

    assert {} == attempts(vitals)


def test_other_requests_are_none_of_ours(vitals, server):
    """What is no call is no attempt either."""
    with openai.OpenAI(base_url=server.url, api_key="none", max_retries=1) as client, pytest.raises(openai.APIError):
        client.models.list()

    assert {} == vitals.samples("llmvitals_attempts_total")


def test_inside_the_applications_call_attempts_have_its_name(vitals, server):
    """The retries, too."""
    with (
        openai.OpenAI(base_url=server.url, api_key="none") as client,
        vitals.call(provider="mine", model="talker"),
    ):
        client.chat.completions.create(model="flaky-1", **CHAT)

    assert {"retryable": 1, "success": 1} == attempts(vitals, "mine")
    assert 1 == vitals.value("llmvitals_retries_total", name="mine")


def test_inside_a_librarys_call_that_tries_again_itself_its_count_is_the_one(vitals, server):
    """Two counts of the same attempts would be none."""
    call = OuterCall(vitals.recorder, provider="library", model="talker")
    call.asking = True
    with openai.OpenAI(base_url=server.url, api_key="none", max_retries=1) as client, call:
        client.chat.completions.create(model="flaky-1", **CHAT)
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(model="throttled", **CHAT)

    assert {} == vitals.samples("llmvitals_attempts_total")
    assert {} == vitals.samples("llmvitals_retries_total")


class Messages(BaseHTTPRequestHandler):
    """Answers 529 until a request has been tried again."""

    def log_message(self, *args):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        again = self.headers.get("x-stainless-retry-count") != "0"
        reply = {"id": "1", "type": "message", "role": "assistant", "model": "talker", "content": []}
        text = json.dumps(reply | {"usage": {"input_tokens": 1, "output_tokens": 1}})
        self.send_response(200 if again else 529)
        for name, value in (("retry-after-ms", "1"), ("Content-Type", "application/json")):
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_anthropics_retries_alike(vitals, asynchronous):
    """Each SDK has its own."""
    anthropic = pytest.importorskip("anthropic")
    with Server(("127.0.0.1", 0), Messages) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        settings = {"base_url": f"http://127.0.0.1:{server.server_port}", "api_key": "none"}

        async def main():
            async with anthropic.AsyncAnthropic(**settings) as client:
                await client.messages.create(model="talker", max_tokens=1, **CHAT)

        if asynchronous:
            asyncio.run(main())
        else:
            with anthropic.Anthropic(**settings) as client:
                client.messages.create(model="talker", max_tokens=1, **CHAT)
        server.shutdown()
        thread.join()

    assert {"retryable": 1, "success": 1} == attempts(vitals)
    assert 1 == vitals.value("llmvitals_retries_total", name="primary", error_type="529", attempt="1")
    assert 1 == durations(vitals)
