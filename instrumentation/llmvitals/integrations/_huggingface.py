"""huggingface_hub's inference clients, sync and async: chat completions, text generation and embeddings.

Its clients live in modules of their own, which are loaded when they are asked for.
"""

import functools
import sys
from collections.abc import Callable
from types import AsyncGeneratorType, GeneratorType
from typing import Any, cast

from llmvitals._calls import Call, active_call
from llmvitals._streams import watch_async_generator, watch_generator
from llmvitals._watch import Watch
from llmvitals.integrations._outer import Outer, OuterCall, address, begin_outer, wrap_outer
from llmvitals.integrations._session import Session

_OPERATIONS = {
    "chat_completion": "chat",
    "text_generation": "text_completion",
    "feature_extraction": "embeddings",
}
_CLIENTS = {
    "huggingface_hub.inference._client": "InferenceClient",
    "huggingface_hub.inference._generated._async_client": "AsyncInferenceClient",
}
# These name no provider: one is found, or it is Hugging Face's own.
_UNNAMED = (None, "auto", "hf-inference")


def install(session: Session) -> None:
    for module, name in _CLIENTS.items():
        session.when_imported(module, functools.partial(_install, session, module, name))


def _install(session: Session, module: str, name: str) -> None:
    client = getattr(sys.modules[module], name)
    for method, operation in _OPERATIONS.items():
        begin = functools.partial(_begin, session, operation)
        session.patch(client, method, functools.partial(wrap_outer, session, begin))
    session.patch(client, "_inner_post", _wrap_post)


def _begin(session: Session, operation: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outer | None:
    client = args[0]
    asked = [str(name) for name in (kwargs.get("model"), getattr(client, "model", None)) if name]
    # Either may be the server's address.
    urls = [name for name in asked if name.startswith(("http://", "https://"))]
    provider = getattr(client, "provider", None)
    return begin_outer(
        session,
        _Seen,
        operation=operation,
        provider="huggingface" if provider in _UNNAMED else str(provider),
        model=next((name for name in asked if name not in urls), ""),
        url=urls[0] if urls else None,
    )


def _wrap_post(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def inner_post(self: Any, request_parameters: Any, *args: Any, **kwargs: Any) -> Any:
        call = active_call()
        if isinstance(call, OuterCall):
            with call.recorder.guard("huggingface_hub"):
                # Only here the provider's address is known.
                call.server_address, call.server_port = address(getattr(request_parameters, "url", None))
        return original(self, request_parameters, *args, **kwargs)

    return inner_post


class _Seen(Outer):
    __slots__ = ()

    def read_reply(self, reply: Any) -> Any:
        if self.call.operation != "text_completion":
            return super().read_reply(reply)
        if self.call.is_streaming:
            return reply
        if isinstance(reply, GeneratorType):
            return watch_generator(reply, self.call.watch(_Parts))
        if isinstance(reply, AsyncGeneratorType):
            return watch_async_generator(reply, self.call.watch(_Parts))
        _read(self.call, reply)
        return reply


class _Parts(Watch):
    """Of a stream whose last part has the details."""

    __slots__ = ()

    def _unread(self) -> Callable[[], None] | None:
        return None if self.latest is None else functools.partial(_read, cast("Call", self._call), self.latest)


def _read(call: Call, reply: Any) -> None:
    """Take the tokens out of the details, which are there when they were asked for."""
    details = getattr(reply, "details", None)
    if details is not None:
        call.finish_reason(getattr(details, "finish_reason", ""))
        call.usage(
            input_tokens=getattr(details, "input_length", None),
            output_tokens=getattr(details, "generated_tokens", None),
        )
