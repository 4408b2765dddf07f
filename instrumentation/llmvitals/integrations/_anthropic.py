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
from llmvitals.integrations._llm import EventWatch, Sdk, Seen, watch_sdk_stream, wrap
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
_REASONING = ("thinking_delta", "signature_delta")
_BLOCKS = ("text", "thinking", "redacted_thinking")
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
                watch_sdk_stream(raw, self.call.watch(_watch))
        else:
            _read(self.call, reply)
        return reply


def _visible(event: Any) -> bool:
    """Whether an event brings output; a block that begins is empty still, and thinking and its signature are none."""
    if event.type == "content_block_start":
        return event.content_block.type not in _BLOCKS
    return event.type == "content_block_delta" and event.delta.type not in _REASONING


def _read_event(call: Call, event: Any) -> None:
    # The first one brings the message without its text, the last one the usage.
    if event.type in ("message_start", "message_delta"):
        _read(call, getattr(event, "message", event))


_watch = functools.partial(EventWatch, read=_read_event, visible=_visible)


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
