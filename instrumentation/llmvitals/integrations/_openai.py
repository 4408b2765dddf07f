"""The openai SDK, sync and async: chat completions, plain and streamed, and embeddings.

The SDK's own retries happen inside a call. Inside the application's own `Vitals.call` of the same kind, the SDK adds
what it learns (model, usage, the stream) to that call instead of counting a second one.
"""

import functools
import inspect
import weakref
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import AsyncGeneratorType, GeneratorType
from typing import Any

import openai
from openai.resources import chat, embeddings

from llmvitals._calls import Call, active_call
from llmvitals._current import current
from llmvitals._streams import Watch, watch_async_generator, watch_generator
from llmvitals._vitals import Vitals

_PROVIDERS = {
    "api.openai.com": "openai",
    "api.deepseek.com": "deepseek",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "api.moonshot.ai": "moonshot_ai",
    "api.perplexity.ai": "perplexity",
    "api.x.ai": "x_ai",
}


# Clients are made for good; one that is made per request brings a new URL each time.
_SERVERS_KEPT = 256

_STREAMS = (openai.Stream, openai.AsyncStream)

_METHODS = (
    (chat.completions.Completions, "create", "chat"),
    (chat.completions.Completions, "parse", "chat"),
    (chat.completions.AsyncCompletions, "create", "chat"),
    (chat.completions.AsyncCompletions, "parse", "chat"),
    (embeddings.Embeddings, "create", "embeddings"),
    (embeddings.AsyncEmbeddings, "create", "embeddings"),
)


@dataclass(slots=True)
class _Session:
    """From one `instrument` to its `uninstrument`: where to record, and what to call the servers.

    A wrapper belongs to one session and asks it at each call. So one that cannot be taken out, because somebody else
    has wrapped it, is silent for ever after, and the next session's is not doubled by it.
    """

    vitals: Vitals | None
    providers: Mapping[str, str]
    on: bool = True
    patched: list[tuple[type, str, Any, Any]] = field(default_factory=list)
    servers: dict[int, tuple[Any, tuple[str, str, str]]] = field(default_factory=dict)
    """What is known of a base URL, by its id; the URL itself is kept with it, so that the id stays its own."""

    def recording_to(self) -> Vitals | None:
        return (self.vitals or current()) if self.on else None


_sessions: list[_Session] = []

# Our wrappers and what they wrap. Not an attribute: functools.wraps would copy it onto somebody else's wrapper.
_originals: "weakref.WeakKeyDictionary[Callable[..., Any], Callable[..., Any]]" = weakref.WeakKeyDictionary()


def instrument(vitals: Vitals | None, providers: Mapping[str, str]) -> None:
    if _sessions:
        session = _sessions[-1]
        session.vitals, session.providers, session.servers = vitals, dict(providers), {}
        return
    session = _Session(vitals, dict(providers))
    for owner, name, operation in _METHODS:
        original = vars(owner).get(name)
        if original is not None:
            # A silent wrapper of an earlier session may have come back when somebody else's was taken out.
            original = _originals.get(original, original)
            wrapper = _wrap(session, original, operation, asynchronous=owner.__name__.startswith("Async"))
            _originals[wrapper] = original
            setattr(owner, name, wrapper)
            session.patched.append((owner, name, original, wrapper))
    _sessions.append(session)


def uninstrument() -> None:
    while _sessions:
        session = _sessions.pop()
        session.on = False
        for owner, name, original, wrapper in session.patched:
            if vars(owner).get(name) is wrapper:
                setattr(owner, name, original)


def _wrap(session: _Session, original: Callable[..., Any], operation: str, *, asynchronous: bool) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def create_async(self: Any, *args: Any, **kwargs: Any) -> Any:
            return await _awaited(_begin(session, self, operation, kwargs), original(self, *args, **kwargs))

        return create_async

    if asynchronous:
        # The SDK's check of arguments is a plain function that raises at once and else returns a coroutine.
        @functools.wraps(original)
        def create_later(self: Any, *args: Any, **kwargs: Any) -> Any:
            reply = original(self, *args, **kwargs)

            async def begun() -> Any:
                return await _awaited(_begin(session, self, operation, kwargs), reply)

            return begun()

        return create_later

    @functools.wraps(original)
    def create(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen = _begin(session, self, operation, kwargs)
        if seen is None:
            return original(self, *args, **kwargs)
        try:
            reply = original(self, *args, **kwargs)
        except BaseException as error:
            seen.failed(error)
            raise
        return seen.replied(reply)

    return create


async def _awaited(seen: "_Seen | None", reply: Awaitable[Any]) -> Any:
    if seen is None:
        return await reply
    try:
        replied = await reply
    except BaseException as error:
        seen.failed(error)
        raise
    return seen.replied(replied)


def _begin(session: _Session, resource: Any, operation: str, kwargs: Mapping[str, Any]) -> "_Seen | None":
    vitals = session.recording_to()
    if vitals is None:
        return None
    try:
        outer = active_call()
        if outer is not None and outer.operation == operation:
            return _Seen(outer, vitals, own=False)
        provider, host, port = _server(session, resource._client)  # noqa: SLF001 -- there is no public way to it
        call = Call(
            vitals.recorder,
            provider=provider,
            model=str(kwargs.get("model", "")),
            operation=operation,
            server_address=host,
            server_port=port,
        )
        return _Seen(call.start(), vitals, own=True)
    except Exception as fault:  # noqa: BLE001 -- an unwatched call is better than none
        vitals.recorder.fault("openai", fault)
        return None


def _server(session: _Session, client: Any) -> tuple[str, str, str]:
    """Return provider, host and port that *client* asks now."""
    try:
        url = client._base_url  # noqa: SLF001 -- the property of the same name imports a module each time
    except AttributeError:
        url = client.base_url
    servers = session.servers
    known = servers.get(id(url))
    if known is None:
        port = str(url.port or (80 if url.scheme == "http" else 443))
        if len(servers) >= _SERVERS_KEPT:
            servers.clear()
        known = servers[id(url)] = (url, (_provider(session.providers, url.host, port), url.host, port))
    return known[1]


def _provider(names: Mapping[str, str], host: str, port: str) -> str:
    name = names.get(f"{host}:{port}") or names.get(host) or _PROVIDERS.get(host)
    if name is None:
        name = "azure.ai.openai" if host.endswith(".openai.azure.com") else "openai"
    return name


class _Seen:
    """One use of the SDK: a call of its own, or part of the application's."""

    __slots__ = ("_call", "_own", "_vitals")

    def __init__(self, call: Call, vitals: Vitals, *, own: bool) -> None:
        self._call = call
        self._vitals = vitals
        self._own = own

    def failed(self, error: BaseException) -> None:
        if self._own:
            self._call.finish(error)

    def replied(self, reply: Any) -> Any:
        try:
            if isinstance(reply, _STREAMS):
                return self._watched(reply)
            self._call.read(reply)
        except Exception as fault:  # noqa: BLE001 -- the reply is the application's, whatever we make of it
            self._vitals.recorder.fault("openai", fault)
        if self._own:
            self._call.finish()
        return reply

    def _watched(self, stream: Any) -> Any:
        """Watch the very object that the SDK returned: its type, attributes and identity stay."""
        iterator = stream._iterator  # noqa: SLF001 -- the one place that all ways of iterating go through
        if self._call.is_streaming:
            return stream
        if isinstance(iterator, GeneratorType):
            watch = self._call.watch()
            stream._iterator = watch_generator(iterator, watch)  # noqa: SLF001
        elif isinstance(iterator, AsyncGeneratorType):
            watch = self._call.watch()
            stream._iterator = watch_async_generator(iterator, watch)  # noqa: SLF001
        else:
            return self._call.stream(stream)
        stream.close = functools.partial(_close, weakref.ref(stream), watch)
        return stream


def _close(stream: "weakref.ref[Any]", watch: Watch) -> Any:
    # A strong reference from the stream to itself would leave an abandoned one to the cycle collector.
    watch.closed()
    alive = stream()
    return type(alive).close(alive) if alive is not None else None
