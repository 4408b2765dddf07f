"""Libraries that may ask a model through another SDK: the call is theirs, and what is inside of it only adds to it.

They retry, fall back and unify what many SDKs reply, so what the application asked for once is known to them alone.
"""

import functools
import inspect
from collections.abc import Callable
from contextlib import suppress
from contextvars import Token
from types import AsyncGeneratorType, GeneratorType, TracebackType
from typing import Any
from urllib.parse import urlsplit

from llmvitals._calls import Call, _active, active_call
from llmvitals._recording import Recorder
from llmvitals._streams import watch_async_generator, watch_generator
from llmvitals.integrations._claims import take
from llmvitals.integrations._llm import Seen
from llmvitals.integrations._session import Session


class OuterCall(Call):
    """A call whose stream is made of another SDK's: while that is asked, the stream is spoken for."""

    __slots__ = ("asking", "recorder")

    def __init__(self, recorder: Recorder, **labels: Any) -> None:
        super().__init__(recorder, **labels)
        self.asking = False
        self.recorder = recorder

    @property
    def is_streaming(self) -> bool:
        return self.asking or super().is_streaming


class Outer(Seen):
    """One use of such a library; a context manager around the asking itself."""

    __slots__ = ("_token",)

    _token: Token[Call | None] | None

    def __enter__(self) -> None:
        self._token = None
        if self._own and isinstance(self.call, OuterCall):
            self.call.asking = True
            self._token = _active.set(self.call)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._token is not None and isinstance(self.call, OuterCall):
            self.call.asking = False
            with suppress(ValueError):  # A coroutine that is closed from another context; its own is gone.
                _active.reset(self._token)

    def read_reply(self, reply: Any) -> Any:
        if self.call.is_streaming:
            return reply
        if isinstance(reply, GeneratorType):
            return watch_generator(reply, self.call.watch())
        if isinstance(reply, AsyncGeneratorType):
            return watch_async_generator(reply, self.call.watch())
        return super().read_reply(reply)


def begin_outer(
    session: Session, seen: type[Outer], *, operation: str, provider: str, model: object, url: object = None
) -> Outer | None:
    """Begin a call, or find one of this *operation* that is going on: the application's, or this library's own.

    *url* is where it asks, as far as that is known.
    """
    vitals = session.vitals
    if vitals is None:
        return None
    take()
    outer = active_call()
    if outer is not None and (outer.operation == operation or getattr(outer, "asking", False)):
        return seen(outer, vitals, session.library, False)
    host, port = address(url)
    names = session.providers
    call = OuterCall(
        vitals.recorder,
        provider=names.get(f"{host}:{port}") or names.get(host) or provider,
        model=str(model or ""),
        operation=operation,
        server_address=host,
        server_port=port,
    )
    return seen(call.start(), vitals, session.library, True)


_PORTS = {"http": "80", "https": "443"}


def address(url: object) -> tuple[str, str]:
    """Host and port of *url*, empty where it has none."""
    if not url:
        return "", ""
    parts = urlsplit(str(url))
    return parts.hostname or "", str(parts.port or _PORTS.get(parts.scheme, ""))


Begin = Callable[[tuple[Any, ...], dict[str, Any]], Outer | None]


def _begun(session: Session, begin: Begin, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outer | None:
    vitals = session.vitals
    if vitals is not None:
        with vitals.recorder.guard(session.library):
            return begin(args, kwargs)
    return None


def wrap_outer(session: Session, begin: Begin, original: Callable[..., Any]) -> Callable[..., Any]:
    """Make each use of *original*, a function or a method, a call."""
    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def use_async(*args: Any, **kwargs: Any) -> Any:
            seen = _begun(session, begin, args, kwargs)
            if seen is None:
                return await original(*args, **kwargs)
            try:
                with seen:
                    reply = await original(*args, **kwargs)
            except BaseException as error:
                seen.failed(error)
                raise
            return seen.replied(reply)

        return use_async

    @functools.wraps(original)
    def use(*args: Any, **kwargs: Any) -> Any:
        seen = _begun(session, begin, args, kwargs)
        if seen is None:
            return original(*args, **kwargs)
        try:
            with seen:
                reply = original(*args, **kwargs)
        except BaseException as error:
            seen.failed(error)
            raise
        return seen.replied(reply)

    return use
