from types import SimpleNamespace

import pytest
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response

from llmvitals._recording import error_type

CUT = "llmvitals_cut_answers_total"
USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}


def completion(reason):
    message = {"role": "assistant", "content": "Once"}
    choice = {"index": 0, "finish_reason": reason, "message": message, "logprobs": None}
    return {"id": "1", "created": 1, "model": "talker", "object": "chat.completion", "choices": [choice]}


def chunk(content=None, reason=None, **more):
    choices = [] if "usage" in more else [{"index": 0, "delta": {"content": content}, "finish_reason": reason}]
    told = {"id": "1", "created": 1, "model": "talker", "object": "chat.completion.chunk", "choices": choices, **more}
    return ChatCompletionChunk.model_validate(told)


def response(reason):
    # What a test has no use for is left out.
    return Response.model_construct(model="talker", usage=None, incomplete_details=reason and SimpleNamespace(**reason))


def counted(vitals):
    return {dict(labels)["reason"]: value for labels, value in vitals.samples(CUT).items()}


def read(vitals, *replies):
    for reply in replies:
        with vitals.call(provider="local", model="talker") as call:
            call.read(reply)


def plain(told):
    return SimpleNamespace(choices=[SimpleNamespace(finish_reason=each["finish_reason"]) for each in told["choices"]])


@pytest.mark.parametrize("of", [ChatCompletion.model_validate, dict, plain], ids=["openai's", "mapping", "object"])
def test_an_answer_that_was_cut_short_is_counted_by_why(vitals, of):
    """At its length or at a filter; one that is complete, or waits for tools, is not."""
    told = [of(completion(reason)) for reason in ("length", "length", "content_filter", "stop", "tool_calls")]
    read(vitals, SimpleNamespace(model="embedder"), *told)

    assert {"length": 2.0, "content_filter": 1.0} == counted(vitals)


def test_the_responses_api_tells_it_otherwise(vitals):
    """An incomplete response says why; others, and replies that are no answers, say nothing."""
    embedding = CreateEmbeddingResponse.model_construct(model="embedder", usage=None)

    read(vitals, response({"reason": "max_output_tokens"}), response(None), embedding, embedding, None, "text")
    read(vitals, {"incomplete_details": {"reason": "content_filter"}, "choices": None})

    assert {"length": 1.0, "content_filter": 1.0} == counted(vitals)


@pytest.mark.parametrize(
    "last",
    [(chunk(reason="length"),), (chunk(reason="length"), chunk(usage=USAGE)), (chunk("!", "length"),)],
    ids=["at the end", "before the usage", "with the last word"],
)
def test_a_stream_that_was_cut_short_is_counted(vitals, last):
    """Wherever its finish reason stands; the usage is read as ever."""
    call = vitals.call(provider="local", model="talker")
    source = (each for each in (chunk(""), chunk("Once"), chunk(" upon"), *last))

    assert 3 + len(last) == len(list(call.stream(source)))

    assert {"length": 1.0} == counted(vitals)
    assert (7.0 if len(last) == 2 else None) == vitals.value(
        "gen_ai_client_token_usage_sum", gen_ai_token_type="output"
    )


def test_a_stream_that_its_consumer_left_was_not_cut_short(vitals):
    """What the model would have said is not known."""
    stream = vitals.call(provider="local", model="talker").stream(iter([chunk("Once"), chunk(" upon", "length")]))
    next(stream)
    del stream

    assert {} == counted(vitals)


@pytest.mark.parametrize("reason", ["max_tokens", "MAX_TOKENS", "length"])
def test_an_application_may_tell_the_reason(vitals, reason):
    """In the word of its provider; words that nobody knows are no labels."""
    with vitals.call(provider="local", model="talker") as call:
        call.finish_reason(reason)
        call.finish_reason("because")
        call.finish_reason(None)

    assert {"length": 1.0} == counted(vitals)


class RefusedError(Exception):
    status_code = 400

    def __init__(self, message, code=None):
        super().__init__(message)
        self.code = code


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (RefusedError("too many", "context_length_exceeded"), "context_length_exceeded"),
        (RefusedError("This model's maximum context length is 8192 tokens."), "context_length_exceeded"),
        (RefusedError("prompt is too long: 205000 tokens > 200000 maximum"), "context_length_exceeded"),
        (RefusedError("filtered", "content_filter"), "content_filter"),
        (RefusedError("temperature must be a number", 400), "400"),
        (RefusedError("y" * 600 + "context length"), "400"),
    ],
    ids=["code", "OpenAI's and vLLM's message", "Anthropic's message", "filter", "other", "late in a message"],
)
def test_a_refusal_for_length_or_content_is_named_so(error, named):
    """Everything else is named by its status."""
    assert named == error_type(error)
