"""The openai SDK with canned replies: its own types, clients and streams, and no network."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
from openai.resources.chat.completions import AsyncCompletions, Completions
from openai.types.chat import ChatCompletion, ChatCompletionChunk

BASE_URL = "http://127.0.0.1:8081/v1"
MESSAGES = [{"role": "user", "content": "How are you?"}]

_ENVELOPE = {"id": "1", "created": 1, "model": "talker-2026"}
_USAGE = {
    "prompt_tokens": 700,
    "completion_tokens": 50,
    "total_tokens": 750,
    "prompt_tokens_details": {"cached_tokens": 200},
    "completion_tokens_details": {"reasoning_tokens": 20},
}

REPLY = ChatCompletion.model_validate(
    {
        **_ENVELOPE,
        "object": "chat.completion",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Fine."}}],
        "usage": _USAGE,
    }
)


def _chunk(choices: list[dict[str, Any]], usage: dict[str, Any] | None) -> ChatCompletionChunk:
    body = {**_ENVELOPE, "object": "chat.completion.chunk", "choices": choices, "usage": usage}
    return ChatCompletionChunk.model_validate(body)


_WORD = _chunk([{"index": 0, "delta": {"role": "assistant", "content": "word"}}], None)
_LAST = _chunk([], _USAGE)


def _sync_stream(client: openai.OpenAI, chunks: int) -> openai.Stream[ChatCompletionChunk]:
    def produce() -> Iterator[ChatCompletionChunk]:
        for _ in range(chunks - 1):
            yield _WORD
        yield _LAST

    stream = openai.Stream(cast_to=ChatCompletionChunk, response=_Response(), client=client)
    stream._iterator = produce()
    return stream


def _async_stream(client: openai.AsyncOpenAI, chunks: int) -> openai.AsyncStream[ChatCompletionChunk]:
    async def produce() -> AsyncIterator[ChatCompletionChunk]:
        for _ in range(chunks - 1):
            yield _WORD
        yield _LAST

    stream = openai.AsyncStream(cast_to=ChatCompletionChunk, response=_Response(), client=client)
    stream._iterator = produce()
    return stream


class _Response:
    """As much of an HTTP response as a stream asks for."""

    headers: dict[str, str] = {}  # noqa: RUF012
    status_code = 200

    def close(self) -> None: ...
    async def aclose(self) -> None: ...


def create(self: Any, *, model: str, messages: Any, stream: bool = False, n: int = 0, **_: Any) -> Any:  # noqa: ARG001
    return _sync_stream(self._client, n) if stream else REPLY


async def create_async(self: Any, *, model: str, messages: Any, stream: bool = False, n: int = 0, **_: Any) -> Any:  # noqa: ARG001
    return _async_stream(self._client, n) if stream else REPLY


def put_in_place() -> None:
    """Let the SDK's ``create`` answer at once. Called before an instrumentation wraps it."""
    Completions.create = create
    AsyncCompletions.create = create_async
