"""faulty_llm as the real openai client sees it."""

import contextlib
import json
import time

import openai
import pytest
from tests.servers import eventually, request

QUESTION = [{"role": "user", "content": "What is a good breakfast?"}]


@pytest.fixture(name="client")
def _client(faulty):
    with openai.OpenAI(
        base_url=faulty.url(),
        api_key="none",
        max_retries=0,
        timeout=5,
        http_client=openai.DefaultHttpxClient(trust_env=False),
    ) as client:
        yield client


def ask(client, model="talker", **more):
    return client.chat.completions.create(model=model, messages=QUESTION, **more)


def test_plain_reply(client):
    """A plain reply has text, a finish reason and usage that adds up."""
    reply = ask(client)

    assert "stop" == reply.choices[0].finish_reason
    assert reply.choices[0].message.content.endswith((".", "?"))
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


def test_same_question_same_answer(client):
    """The same prompt gives the same words, another model others."""
    assert ask(client).choices[0].message.content == ask(client).choices[0].message.content
    assert ask(client).choices[0].message.content != ask(client, "thinker").choices[0].message.content


def test_streamed_reply_with_usage(client):
    """A stream says the same as a plain reply, and ends with usage when asked for it."""
    whole = ask(client).choices[0].message.content
    with ask(client, stream=True, stream_options={"include_usage": True}) as stream:
        chunks = list(stream)

    assert whole == "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert [] == chunks[-1].choices
    assert chunks[-1].usage.completion_tokens == len(chunks) - 3


def test_stream_without_usage(client):
    """Without include_usage no chunk carries usage."""
    with ask(client, stream=True) as stream:
        assert all(chunk.usage is None for chunk in stream)


def test_max_tokens(client):
    """max_tokens cuts the reply, and the finish reason says so."""
    reply = ask(client, max_tokens=3)

    assert ("length", 3) == (reply.choices[0].finish_reason, reply.usage.completion_tokens)


def test_what_a_model_does_not_take_or_say(client, faulty):
    """A reply ends at the model's own limit, or where a filter steps in; a prompt that is too long is refused."""
    faulty.turn(models={"talker": {"most_tokens": 4}})
    reply = ask(client, max_tokens=9)
    assert ("length", 4) == (reply.choices[0].finish_reason, reply.usage.completion_tokens)

    faulty.turn(models={"talker": {"filtered_ratio": 1}})
    reply = ask(client)
    assert ("content_filter", 2) == (reply.choices[0].finish_reason, reply.usage.completion_tokens)

    faulty.turn(models={"talker": {"context_tokens": reply.usage.prompt_tokens - 1}})
    with pytest.raises(openai.BadRequestError, match="maximum context length is"):
        ask(client)


def test_models_and_embeddings(client):
    """Both models are listed, and a text has one embedding of length 1."""
    assert ["talker", "thinker"] == [model.id for model in client.models.list()]

    first, second = client.embeddings.create(model="talker", input=["a", "a"], encoding_format="float").data
    assert first.embedding == second.embedding
    assert pytest.approx(1) == sum(x * x for x in first.embedding)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(429, openai.RateLimitError), (500, openai.InternalServerError), (503, openai.InternalServerError)],
)
def test_error_status(client, faulty, status, kind):
    """With error_ratio 1, every request gets the status; 429 and 503 with retry-after."""
    faulty.turn(error_ratio=1, error_status=status, retry_after_seconds=7)

    with pytest.raises(kind) as caught:
        ask(client)

    assert status == caught.value.status_code
    assert (None if status == 500 else "7") == caught.value.response.headers.get("retry-after")
    assert {f"error_{status}": 1} == faulty.ledger()["outcomes"]


def test_error_ratio_is_a_share(client, faulty):
    """With error_ratio 0.5, some requests fail and some do not."""
    faulty.turn(error_ratio=0.5, latency_seconds=0, time_to_first_token_seconds=0, tokens_per_second=100_000)

    for _ in range(30):
        with contextlib.suppress(openai.InternalServerError):
            ask(client, max_tokens=1)

    outcomes = faulty.ledger()["outcomes"]
    assert 30 == outcomes["completed"] + outcomes["error_500"]
    assert min(outcomes["completed"], outcomes["error_500"]) >= 5


def test_latency_and_pace(client, faulty):
    """Latency holds back the status line, tokens_per_second the rest."""
    faulty.turn(latency_seconds=0.3, time_to_first_token_seconds=0, tokens_per_second=20)
    begun = time.monotonic()

    with ask(client, stream=True, max_tokens=8) as stream:
        opened = time.monotonic() - begun
        text = [chunk for chunk in stream if chunk.choices and chunk.choices[0].delta.content]
        ended = time.monotonic() - begun

    assert 8 == len(text)
    assert opened >= 0.3
    assert ended >= 0.3 + 0.35


def test_refuse_closes_the_port_and_reopens(client, faulty):
    """The dial makes the kernel refuse connections, cuts those that exist, and goes away with the dial."""
    ask(client)
    faulty.turn(refuse=True)

    with pytest.raises(openai.APIConnectionError):
        ask(client)
    with pytest.raises(OSError, match="refused"):
        request(f"{faulty.url()}/models")
    assert 200 == request(f"{faulty.url('backup')}/models").status

    faulty.turn(refuse=False)
    assert ask(client).choices[0].message.content


def test_refuse_cuts_a_running_stream(client, faulty):
    """A stream that is under way ends with a broken connection when the provider begins to refuse."""
    faulty.turn(stall_after_chunks=2)

    with ask(client, stream=True) as stream:
        next(stream)
        faulty.turn(refuse=True)

        with pytest.raises(openai.APIConnectionError):
            list(stream)
    assert "Traceback" not in faulty.log.read_text()


def test_stall_in_mid_stream(client, faulty):
    """A stream stalls after that many chunks, and goes on when the dial is turned back."""
    faulty.turn(stall_after_chunks=3)
    text = []

    with ask(client, stream=True, timeout=openai.Timeout(5, read=0.5)) as stream, pytest.raises(openai.APITimeoutError):
        text += [chunk.choices[0].delta.content for chunk in stream if chunk.choices[0].delta.content]
    with ask(client, stream=True) as stream:
        for chunk in stream:
            text.append(chunk)
            if len(text) == 3:
                faulty.turn(stall_after_chunks=None)

    assert "stop" == text[-1].choices[0].finish_reason


def test_client_that_leaves_is_counted(client, faulty):
    """A client that closes a stalled stream frees it: nothing is in flight, one request was cancelled."""
    faulty.turn(stall_after_chunks=1)

    with ask(client, stream=True) as stream:
        next(stream)

    eventually(lambda: faulty.ledger()["in_flight"] == 0, what="the stream's end")
    assert {"cancelled": 1} == faulty.ledger()["outcomes"]


def test_client_that_gives_up_waiting_is_counted(client, faulty):
    """A client that times out before the status line frees its request at once."""
    faulty.turn(latency_seconds=60)

    with pytest.raises(openai.APITimeoutError):
        ask(client, timeout=0.2)

    eventually(lambda: faulty.ledger()["in_flight"] == 0, what="the request's end")
    assert {"cancelled": 1} == faulty.ledger()["outcomes"]


def test_malformed_chunks(faulty):
    """malformed_ratio 1 puts a broken chunk before each good one: cut JSON, no choices or null content."""
    faulty.turn(malformed_ratio=1)
    answer = request(
        f"{faulty.url()}/chat/completions", data={"model": "thinker", "messages": QUESTION, "stream": True}
    )
    kinds = set()
    for line in answer.text.split("\n\n"):
        data = line.removeprefix("data: ")
        if not data or data == "[DONE]":
            continue
        try:
            chunk = json.loads(data)
        except ValueError:
            kinds.add("cut")
            continue
        if not chunk["choices"]:
            kinds.add("no choices")
        elif chunk["choices"][0]["delta"].get("content", "") is None:
            kinds.add("null content")

    assert {"cut", "no choices", "null content"} == kinds
    assert {"malformed": 1} == faulty.ledger()["outcomes"]


def test_dials_per_model(client, faulty):
    """A dial set for one model leaves the other alone."""
    faulty.turn(models={"thinker": {"error_ratio": 1, "error_status": 503}})

    assert ask(client).choices
    with pytest.raises(openai.InternalServerError):
        ask(client, "thinker")


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"{", 400, "not JSON"),
        (b"[]", 400, "JSON object"),
        (b'{"messages": []}', 400, "'model' must be a text"),
        (b'{"model": "gpt-4", "messages": [{"role": "user", "content": "x"}]}', 404, "does not exist"),
        (b'{"model": "talker", "messages": []}', 400, "non-empty list"),
        (b'{"model": "talker", "messages": ["x"]}', 400, "messages[0]"),
        (b'{"model": "talker", "messages": [{"role": "user", "content": 3}]}', 400, "messages[0].content"),
        (b'{"model": "talker", "messages": [{"role": "user"}], "max_tokens": -1}', 400, "at least 1"),
        (b'{"model": "talker", "messages": [{"role": "user"}], "stream": "yes"}', 400, "true or false"),
        (b'{"model": "talker", "messages": [{"role": "user", "content": "\\ud800"}]}', 200, "content"),
        (b"[" * 100_000, 400, "not JSON"),
        (b" " * (8 * 1024 * 1024 + 1), 413, "larger"),
    ],
)
def test_hostile_bodies(faulty, body, status, says):
    """A body that cannot be served is answered with a status and what is wrong with it."""
    answer = request(f"{faulty.url()}/chat/completions", body=body)

    assert status == answer.status
    assert says in answer.text


def test_requests_a_minute(client, faulty):
    """Each answer tells what is left of the minute's requests; when nothing is left, 429 and when to come again."""
    faulty.turn(requests_per_minute=1_000_000)
    raw = client.chat.completions.with_raw_response.create(model="talker", messages=QUESTION)
    told = {name: raw.headers[f"x-ratelimit-{name}-requests"] for name in ("limit", "remaining", "reset")}
    taken = 1_000_000 - int(told["remaining"])

    assert ("1000000", True) == (told["limit"], taken >= 1)
    assert 0 < float(told["reset"].removesuffix("s")) <= 60
    faulty.turn(requests_per_minute=1)
    with pytest.raises(openai.RateLimitError) as refused:
        ask(client)
    assert 0 < float(refused.value.response.headers["retry-after"]) <= 60
