"""What the SDKs of LLM providers have in common: a method whose every use is a call."""

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from llmvitals._calls import Call, active_call
from llmvitals._vitals import Vitals
from llmvitals.integrations._session import Session


class Seen:
    """One use of an SDK: a call of its own, or part of the application's.

    An integration says in a subclass what a reply means; see `read_reply`.
    """

    def __init__(self, call: Call, vitals: Vitals, component: str, *, own: bool) -> None:
        self.call = call
        self.vitals = vitals
        self._component = component
        self._own = own

    def failed(self, error: BaseException) -> None:
        """The use has ended by *error*, before any stream."""
        if self._own:
            self.call.finish(error)

    def replied(self, reply: Any) -> Any:
        """What the application gets: *reply* itself, or a watched stream that behaves as it."""
        try:
            reply = self.read_reply(reply)
        except Exception as fault:  # noqa: BLE001 -- the reply is the application's, whatever we make of it
            self.vitals.recorder.fault(self._component, fault)
        if self._own and not self.call.is_streaming:
            self.call.finish()
        return reply

    def read_reply(self, reply: Any) -> Any:
        """Take model and usage out of *reply*, or watch it when it is a stream; return what goes on."""
        self.call.read(reply)
        return reply


Begin = Callable[[Any, tuple[Any, ...], Mapping[str, Any]], Seen | None]
"""Begins the call of one use, given the object that has the method, and the arguments; None when nothing is watched."""


def begin(
    session: Session,
    kind: type[Seen],
    *,
    operation: str,
    provider: str,
    model: object,
    address: Callable[[], tuple[str, str]],
) -> Seen | None:
    """Begin a call, or find the application's own of this *operation*. Never raises.

    *address* gives the server's host and port; *provider* is its name unless `instrument` was told another.
    """
    vitals = session.vitals
    if vitals is None:
        return None
    try:
        outer = active_call()
        if outer is not None and outer.operation == operation:
            return kind(outer, vitals, session.library, own=False)
        host, port = address()
        names = session.providers
        call = vitals.call(
            provider=names.get(f"{host}:{port}") or names.get(host) or provider,
            model=str(model or ""),
            operation=operation,
            server_address=host,
            server_port=port,
        )
        return kind(call.start(), vitals, session.library, own=True)
    except Exception as fault:  # noqa: BLE001 -- an unwatched call is better than none
        vitals.recorder.fault(session.library, fault)
        return None


def wrap(original: Callable[..., Any], begin: Begin, *, asynchronous: bool) -> Callable[..., Any]:
    """Make each use of the method *original* a call."""
    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def use_async(self: Any, *args: Any, **kwargs: Any) -> Any:
            return await awaited(begin(self, args, kwargs), original(self, *args, **kwargs))

        return use_async

    if asynchronous:
        # The SDK's check of arguments is a plain function that raises at once and else returns a coroutine.
        @functools.wraps(original)
        def use_later(self: Any, *args: Any, **kwargs: Any) -> Any:
            reply = original(self, *args, **kwargs)

            async def begun() -> Any:
                return await awaited(begin(self, args, kwargs), reply)

            return begun()

        return use_later

    @functools.wraps(original)
    def use(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen = begin(self, args, kwargs)
        if seen is None:
            return original(self, *args, **kwargs)
        try:
            reply = original(self, *args, **kwargs)
        except BaseException as error:
            seen.failed(error)
            raise
        return seen.replied(reply)

    return use


async def awaited(seen: Seen | None, reply: Awaitable[Any]) -> Any:
    """Await *reply* as what *seen* is about."""
    if seen is None:
        return await reply
    try:
        replied = await reply
    except BaseException as error:
        seen.failed(error)
        raise
    return seen.replied(replied)
