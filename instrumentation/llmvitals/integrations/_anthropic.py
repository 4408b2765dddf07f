"""The anthropic SDK, sync and async, with its beta: messages, plain and streamed.

Input tokens are all that the model read: those that came from the cache or went into it are in the sum, as
OpenTelemetry wants it; the API tells them apart.
"""

import functools
import sys
import weakref
from collections.abc import Callable
from typing import Any

import anthropic
from anthropic import _base_client, _response
from anthropic.lib.streaming import _beta_messages, _messages
from anthropic.resources import beta, messages

from llmvitals._calls import Call
from llmvitals._replies import count, field
from llmvitals.integrations._llm import EventWatch, wrap
from llmvitals.integrations._session import Session
from llmvitals.integrations._stainless import Kinds, Reading, Sdk, Seen

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
_legacy = sys.modules.get("anthropic._legacy_response")
_KINDS = Kinds(
    streams=(anthropic.Stream, anthropic.AsyncStream),
    # In older versions, raw responses are of a kind of their own.
    responses=(_response.BaseAPIResponse, getattr(_legacy, "LegacyAPIResponse", _response.BaseAPIResponse)),
    client=_base_client.BaseClient,
    error=anthropic.APIError,
    connection_error=anthropic.APIConnectionError,
    operations={"/messages": "chat"},
)
_REASONING = ("thinking_delta", "signature_delta")
_BLOCKS = ("text", "thinking", "redacted_thinking")
_INPUT = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def install(session: Session) -> None:
    # `stream` only makes a manager: the request is sent when that is entered, and by then its model is out of sight.
    opened: weakref.WeakKeyDictionary[Any, tuple[Any, object]] = weakref.WeakKeyDictionary()

    sdk = Sdk(session, _KINDS, provider=lambda *_: "anthropic")
    begin_create = sdk.beginning("chat", _READING)
    helper = sdk.seen(_READING, _Helper)

    def begin_stream(manager: Any, args: Any, kwargs: Any) -> Any:  # noqa: ARG001 -- as `wrap` calls it
        client, model = opened.get(manager, (None, None))
        use: Any = sdk.begin(client, "chat", model, helper) if client is not None else None
        if use is not None:
            use.client = client
        return use

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


def _has_output(event: Any) -> bool:
    """Whether an event brings output; a block that begins is empty still, and thinking and its signature are none."""
    if event.type == "content_block_start":
        return event.content_block.type not in _BLOCKS
    return event.type == "content_block_delta" and event.delta.type not in _REASONING


def _read_event(call: Call, event: Any) -> None:
    # The first one brings the message without its text, the last one the usage.
    if event.type in ("message_start", "message_delta"):
        _read(call, getattr(event, "message", event))


def _read(call: Call, reply: object) -> None:
    model = field(reply, "model")
    if isinstance(model, str):
        call.response_model(model)
    call.finish_reason(field(reply, "stop_reason") or field(field(reply, "delta"), "stop_reason"))
    usage = field(reply, "usage")
    fresh, cached, written = (count(usage, name) for name in _INPUT)
    call.usage(
        # The last event of a stream has no input tokens, or all of them again.
        input_tokens=None if fresh is None else fresh + (cached or 0) + (written or 0),
        output_tokens=count(usage, "output_tokens"),
        cached_input_tokens=cached,
        cache_write_input_tokens=written,
    )


_READING = Reading(_read, functools.partial(EventWatch, read=_read_event, visible=_has_output))


class _Helper(Seen):
    __slots__ = ()

    def read_reply(self, reply: Any) -> Any:
        super().read_reply(reply._raw_stream)  # noqa: SLF001 -- that all its ways of reading go through
        return reply
