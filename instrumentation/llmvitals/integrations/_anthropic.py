"""The anthropic SDK, sync and async, with its beta: messages, plain and streamed.

Input tokens are all that the model read: those that came from the cache or went into it are in the sum, as
OpenTelemetry wants it; the API tells them apart.
"""

import functools
import weakref
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import anthropic
from anthropic.lib.streaming import _beta_messages, _messages
from anthropic.resources import beta, messages

from llmvitals._calls import Call
from llmvitals._streams import Watch
from llmvitals.integrations._llm import Sdk, Seen, watch_sdk_stream, wrap
from llmvitals.integrations._session import Session

_RESOURCES = (
    messages.Messages,
    messages.AsyncMessages,
    beta.messages.Messages,
    beta.messages.AsyncMessages,
)
_MANAGERS = (
    (_messages.MessageStreamManager, "__enter__"),
    (_messages.AsyncMessageStreamManager, "__aenter__"),
    (_beta_messages.BetaMessageStreamManager, "__enter__"),
    (_beta_messages.BetaAsyncMessageStreamManager, "__aenter__"),
)
_INPUT = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def install(session: Session) -> None:
    # `stream` only makes a manager: the request is sent when that is entered, and by then its model is out of sight.
    opened: weakref.WeakKeyDictionary[Any, tuple[Any, object]] = weakref.WeakKeyDictionary()

    sdk = Sdk(session, seen=_Seen, url=attrgetter("_base_url"), provider=lambda *_: "anthropic")

    def begin_create(resource: Any, args: Any, kwargs: Any) -> Seen | None:  # noqa: ARG001 -- as `wrap` calls it
        return sdk.begin(resource._client, "chat", kwargs.get("model"))  # noqa: SLF001 -- there is no public way to it

    def begin_stream(manager: Any, args: Any, kwargs: Any) -> Seen | None:  # noqa: ARG001
        client, model = opened.get(manager, (None, None))
        return sdk.begin(client, "chat", model) if client is not None else None

    for resource in _RESOURCES:
        asynchronous = resource.__name__.startswith("Async")
        for name in ("create", "parse"):
            session.patch(resource, name, functools.partial(wrap, begin=begin_create, asynchronous=asynchronous))
        session.patch(resource, "stream", functools.partial(_remember, opened))
    for manager, name in _MANAGERS:
        session.patch(manager, name, functools.partial(wrap, begin=begin_stream, asynchronous=name == "__aenter__"))


def _remember(
    opened: "weakref.WeakKeyDictionary[Any, tuple[Any, object]]", original: Callable[..., Any]
) -> Callable[..., Any]:
    @functools.wraps(original)
    def stream(self: Any, *args: Any, **kwargs: Any) -> Any:
        manager = original(self, *args, **kwargs)
        opened[manager] = (self._client, kwargs.get("model"))
        return manager

    return stream


class _Seen(Seen):
    __slots__ = ()

    def read_reply(self, reply: Any) -> Any:
        raw = getattr(reply, "_raw_stream", reply)
        if isinstance(raw, (anthropic.Stream, anthropic.AsyncStream)):
            if not self.call.is_streaming:
                watch = _EventWatch(_Events(self.call), self.vitals.recorder)
                self.call._watch = weakref.ref(watch)  # noqa: SLF001 -- as `Call.watch` does with a plain one
                watch_sdk_stream(raw, watch)
        else:
            _read(self.call, reply)
        return reply


class _EventWatch(Watch):
    """Of a stream whose chunks are of many kinds, none of them odd."""

    __slots__ = ()

    def _look_at(self, chunk: object) -> None:
        self._kind = type(chunk)


class _Events:
    """What a stream's events tell a call: the first one brings the message without its text, the last one the usage."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self.end = call.end
        self.dropped = call.dropped

    def read(self, reply: object) -> None:
        _read(self._call, getattr(reply, "message", reply))


def _read(call: Call, reply: object) -> None:
    model = getattr(reply, "model", None)
    if isinstance(model, str):
        call.response_model(model)
    usage = getattr(reply, "usage", None)
    counts = [count for name in _INPUT if isinstance(count := getattr(usage, name, None), int)]
    output = getattr(usage, "output_tokens", None)
    call.usage(
        # The last event of a stream has no input tokens, or all of them again.
        input_tokens=sum(counts) if isinstance(getattr(usage, "input_tokens", None), int) else None,
        output_tokens=output if isinstance(output, int) else None,
    )
