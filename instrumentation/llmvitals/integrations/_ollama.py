"""The ollama client, sync and async: chat, generate and embed, plain and streamed, with the tokens it reports.

The functions of the module, ``ollama.chat`` and its like, are methods of a client that it has made; they count, too.
"""

import functools
from collections.abc import Callable
from operator import attrgetter
from types import AsyncGeneratorType, GeneratorType
from typing import Any, cast

import ollama

from llmvitals._calls import Call
from llmvitals._streams import watch_async_generator, watch_generator
from llmvitals._watch import Watch
from llmvitals.integrations._llm import Sdk, Seen, wrap
from llmvitals.integrations._session import Session

_OPERATIONS = {"chat": "chat", "generate": "text_completion", "embed": "embeddings"}


def install(session: Session) -> None:
    sdk = Sdk(session, url=attrgetter("_client.base_url"), provider=lambda *_: "ollama")
    for name, operation in _OPERATIONS.items():
        started = functools.partial(_begin, sdk, operation)
        for client, asynchronous in ((ollama.Client, False), (ollama.AsyncClient, True)):
            session.patch(client, name, functools.partial(wrap, begin=started, asynchronous=asynchronous))
        # Bound before the class was patched.
        session.patch(ollama, name, functools.partial(_bound_anew, name))


def _bound_anew(name: str, original: Any) -> Any:
    return getattr(original.__self__, name)


def _begin(sdk: Sdk, operation: str, client: Any, args: tuple[Any, ...], kwargs: Any) -> Seen | None:
    return sdk.begin(client, operation, args[0] if args else kwargs.get("model"), _Seen)


class _Seen(Seen):
    __slots__ = ()

    def read_reply(self, reply: Any) -> Any:
        if not isinstance(reply, (GeneratorType, AsyncGeneratorType)):
            _read(self.call, reply)
            return reply
        if self.call.is_streaming:
            return reply
        watch = self.call.watch(functools.partial(_Parts, visible=_visible))
        return (
            watch_generator(reply, watch) if isinstance(reply, GeneratorType) else watch_async_generator(reply, watch)
        )


class _Parts(Watch):
    """Of a stream whose last part has the tokens, and each one the model."""

    __slots__ = ()

    def _look(self, chunk: Any, now: float) -> None:
        self._look_for_output(chunk, now)
        if self._visible is None:
            self.kind = type(chunk)

    def _unread(self) -> Callable[[], None] | None:
        return None if self.latest is None else functools.partial(_read, cast("Call", self._call), self.latest)


def _visible(part: Any) -> object:
    message = getattr(part, "message", None)
    return part.response if message is None else message.content or message.tool_calls or message.images


def _read(call: Call, reply: Any) -> None:
    if isinstance(reply.model, str):
        call.response_model(reply.model)
    call.finish_reason(getattr(reply, "done_reason", ""))
    call.usage(input_tokens=reply.prompt_eval_count, output_tokens=reply.eval_count)
