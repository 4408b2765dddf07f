"""What the SDKs of LLM providers have in common: a method whose every use is a call."""

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from llmvitals._calls import Call, active_call
from llmvitals._recording import Recorder
from llmvitals._replies import Details
from llmvitals._vitals import Vitals
from llmvitals._watch import Watch
from llmvitals.integrations._claims import take
from llmvitals.integrations._session import Session


class Seen:
    """One use of an SDK: a call of its own, or part of the application's.

    An integration says in a subclass what a reply means; see `read_reply`.
    """

    __slots__ = ("_component", "_own", "call", "vitals")

    def __init__(self, call: Call, vitals: Vitals, component: str, own: bool) -> None:
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
        if self._own:
            self.call.leave()
        return reply

    def read_reply(self, reply: Any) -> Any:
        """Take model and usage out of *reply*, or watch it when it is a stream; return what goes on."""
        if self._own:
            self.call.read(reply)
        else:
            read_another(self.call, Call.read, reply)
        return reply


def read_another(call: Call, read: Callable[[Call, Any], None], reply: Any) -> None:
    """*read* a reply in the application's *call*, which may have had others before: the tokens of all add up."""
    taken, given, told = _known(call)
    call._input_tokens = call._output_tokens = call._details = None  # noqa: SLF001 -- what is told replaces them
    try:
        read(call, reply)
    finally:
        more_taken, more_given, more = _known(call)
        call._input_tokens, call._output_tokens = _sum(taken, more_taken), _sum(given, more_given)  # noqa: SLF001
        if told is not None:
            cached, written, reasoning = more or (None, None, None)
            call._details = _sum(told[0], cached), _sum(told[1], written), _sum(told[2], reasoning)  # noqa: SLF001


def _known(call: Call) -> tuple[int | None, int | None, Details | None]:
    return call._input_tokens, call._output_tokens, call._details  # noqa: SLF001 -- nobody else needs them


def _sum(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else one + other


Begin = Callable[[Any, tuple[Any, ...], Mapping[str, Any]], Seen | None]
"""Begins the call of one use, given the object that has the method, and the arguments; None when nothing is watched."""

# Clients are made for good; one that is made per request brings a new URL each time.
_SERVERS_KEPT = 256


class Sdk:
    """What all uses of one SDK share while it is watched."""

    def __init__(
        self,
        session: Session,
        *,
        url: Callable[[Any], Any],
        provider: Callable[[Any, str], str],
    ) -> None:
        """*url* gives a client's base URL; *provider* the name of its server, by host, unless `instrument` was told."""
        self.session = session
        self._target = session.target
        self._url = url
        self._provider = provider
        # By the URL's id; the URL itself is kept with it, so that the id stays its own.
        self._servers: dict[int, tuple[Any, Mapping[str, str], tuple[str, str, str]]] = {}

    def begin(self, client: Any, operation: str, model: object, seen: type[Seen] = Seen) -> Seen | None:
        """Begin a call, or find the application's own of this *operation*. Never raises."""
        session = self.session
        vitals = session.vitals
        if vitals is None:
            return None
        try:
            take()
            outer = active_call()
            if outer is not None and outer.operation == operation:
                return seen(outer, vitals, session.library, False)
            provider, host, port = self.server(client)
            # No keywords: for making an object, they cost more than all that the call does at its start.
            name = model if type(model) is str else str(model or "")
            call = Call(vitals.recorder, provider, name, operation, host, port).start()
            return seen(call, vitals, session.library, True)
        except Exception as fault:  # noqa: BLE001 -- an unwatched call is better than none
            vitals.recorder.fault(session.library, fault)
            return None

    def server(self, client: Any) -> tuple[str, str, str]:
        """Return provider, host and port that *client* asks now."""
        url, names = self._url(client), self._target.providers
        known = self._servers.get(id(url))
        if known is None or known[1] is not names:
            host, port = url.host, str(url.port or (80 if url.scheme == "http" else 443))
            provider = names.get(f"{host}:{port}") or names.get(host) or self._provider(client, host)
            if len(self._servers) >= _SERVERS_KEPT:
                self._servers.clear()
            known = self._servers[id(url)] = (url, names, (provider, host, port))
        return known[2]


def wrap(original: Callable[..., Any], begin: Begin, *, asynchronous: bool) -> Callable[..., Any]:
    """Make each use of the method *original* a call."""
    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def use_async(self: Any, *args: Any, **kwargs: Any) -> Any:
            seen = begin(self, args, kwargs)
            if seen is None:
                return await original(self, *args, **kwargs)
            try:
                reply = await original(self, *args, **kwargs)
            except BaseException as error:
                seen.failed(error)
                raise
            return seen.replied(reply)

        return use_async

    if asynchronous:
        # The SDK's check of arguments is a plain function that raises at once and else returns a coroutine.
        @functools.wraps(original)
        def use_later(self: Any, *args: Any, **kwargs: Any) -> Any:
            return _later(original(self, *args, **kwargs), begin, self, args, kwargs)

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


async def _later(reply: Awaitable[Any], begin: Begin, owner: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
    """Await *reply* as a use that begins when it is awaited."""
    seen = begin(owner, args, kwargs)
    if seen is None:
        return await reply
    try:
        replied = await reply
    except BaseException as error:
        seen.failed(error)
        raise
    return seen.replied(replied)


class Within:
    """What a stream inside of a call tells that ends with another stream: all that it learns, and not its own end."""

    __slots__ = ("read", "response_model", "usage")

    def __init__(self, call: Call) -> None:
        self.read, self.response_model, self.usage = call.read, call.response_model, call.usage

    def end(self, *_: object) -> None:
        pass

    def dropped(self, *_: object) -> None:
        pass


class EventWatch(Watch):
    """Of a stream of events of many kinds: *read* takes what each tells that differs in kind from the one before it."""

    __slots__ = ("_read",)

    def __init__(
        self,
        call: Call,
        recorder: Recorder,
        *,
        read: Callable[[Call, Any], None],
        visible: Callable[[Any], object],
    ) -> None:
        super().__init__(call, recorder, visible)
        self._read = functools.partial(read, call)

    def _look(self, chunk: Any, now: float) -> None:
        kind = type(chunk)
        if kind is not self._shape:
            self._shape = kind
            self._read(chunk)
        self._look_for_output(chunk, now)
        if self._visible is None:
            self.kind = kind
