"""The SDKs that Stainless generates, openai and anthropic among them: alike in streams, raw responses and retries."""

import functools
import inspect
import json
import sys
import weakref
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from operator import attrgetter
from time import perf_counter
from types import AsyncGeneratorType, GeneratorType
from typing import Any, ClassVar, cast

from llmvitals._calls import Call, active_call
from llmvitals._recording import Recorder, error_type
from llmvitals._retries import Retries
from llmvitals._streams import watch_async_generator, watch_generator
from llmvitals._watch import Watch
from llmvitals.integrations import _llm
from llmvitals.integrations._llm import Within, read_another
from llmvitals.integrations._outer import OuterCall
from llmvitals.integrations._session import Session


@dataclass(frozen=True, slots=True)
class Kinds:
    """One SDK's own classes, and what it asks for."""

    streams: tuple[type, ...]
    responses: tuple[type, ...]
    """What ``with_raw_response`` and ``with_streaming_response`` return."""

    client: type
    error: type[Exception]
    """Of a request that has been made."""

    connection_error: type[Exception]
    operations: Mapping[str, str]
    """By how the address of a request ends that is a call."""


class Sdk(_llm.Sdk):
    """One of these SDKs while it is watched."""

    def __init__(self, session: Session, kinds: Kinds, *, provider: Callable[[Any, str], str]) -> None:
        # The property `base_url` imports a module each time.
        super().__init__(session, url=attrgetter("_base_url"), provider=provider)
        self.kinds = kinds
        self.unread = (*kinds.streams, *kinds.responses)
        self.plain: type = object
        """What the last reply was that is neither: to ask about its type again costs most of all."""

        session.patch(kinds.client, "_should_retry", self._note_response)
        session.patch(kinds.client, "_calculate_retry_timeout", self._count_retries)

    def beginning(self, operation: str, reading: "Reading") -> _llm.Begin:
        """Return what begins a use of a resource's method."""
        begin_for, kind = self.begin, self.seen(reading)

        def begin(resource: Any, args: Any, kwargs: Any) -> _llm.Seen | None:  # noqa: ARG001
            client = resource._client  # noqa: SLF001 -- there is no public way to it
            use: Any = begin_for(client, operation, kwargs.get("model"), kind)
            if use is not None:
                use.client = client
            return use  # type: ignore[no-any-return]

        return begin

    def seen(self, reading: "Reading", seen: "type[Seen] | None" = None) -> "type[Seen]":
        """Return the type of the uses whose replies are read so."""
        kind = seen or Seen
        return cast("type[Seen]", type(kind.__name__, (kind,), {"__slots__": (), "sdk": self, "reading": reading}))

    def answered(self, recorder: Recorder, call: Call) -> None:
        """Count an attempt of *call* that the server has answered."""
        if type(call) is not OuterCall:
            Retries(recorder, call.provider).attempted("success")

    def refused(self, recorder: Recorder, call: Call, client: Any, error: BaseException) -> None:
        """Count an attempt after which the SDK gave up, if *error* is of one at all and not of wrong arguments."""
        if isinstance(call, OuterCall) or (isinstance(error, Exception) and not isinstance(error, self.kinds.error)):
            return
        retries = Retries(recorder, call.provider)
        if self._retried(error) and self._retryable(client, error):
            retries.exhausted(error_type(error))
        else:
            retries.attempted("fatal")

    def _retried(self, error: BaseException) -> bool:
        headers = getattr(getattr(error, "request", None), "headers", {})
        return bool(headers.get("x-stainless-retry-count", "0") != "0")

    def _retryable(self, client: Any, error: BaseException) -> bool:
        response = getattr(error, "response", None)
        if response is None:
            return isinstance(error, self.kinds.connection_error)
        return bool(client._should_retry(response))  # noqa: SLF001 -- what the SDK itself would ask

    def _note_response(self, original: Callable[..., bool]) -> Callable[..., bool]:
        @functools.wraps(original)
        def _should_retry(client: Any, response: Any) -> bool:
            _refusal.set(response)
            return original(client, response)

        return _should_retry

    def _count_retries(self, original: Callable[..., float]) -> Callable[..., float]:
        """*original* is asked once for each retry, just before the wait, how long that is to be."""

        @functools.wraps(original)
        def _calculate_retry_timeout(
            client: Any, remaining_retries: int, options: Any, response_headers: Any = None, *args: Any, **kwargs: Any
        ) -> float:
            seconds = original(client, remaining_retries, options, response_headers, *args, **kwargs)
            vitals = self.session.vitals
            if vitals is not None:
                with vitals.recorder.guard(self.session.library):
                    name = self._name(client, options.url.partition("?")[0])
                    if name is not None:
                        number = options.get_max_retries(client.max_retries) - remaining_retries + 1
                        retries = Retries(vitals.recorder, name)
                        retries.scheduled(self._cause(response_headers), number, seconds)
            return seconds

        return _calculate_retry_timeout

    def _name(self, client: Any, url: str) -> str | None:
        """Return the provider of the call that asks *url*; None when it is no call, or one that counts its tries."""
        operations = self.kinds.operations
        operation = next((operations[end] for end in operations if url.endswith(end)), None)
        if operation is None:
            return None
        outer = active_call()
        if outer is None or outer.operation != operation:
            return self.server(client)[0]
        return None if isinstance(outer, OuterCall) else outer.provider

    def _cause(self, response_headers: Any) -> str:
        response = _refusal.get()
        _refusal.set(None)
        if response is not None and response_headers is response.headers:
            return str(response.status_code)
        timeout = "Timeout" in type(sys.exc_info()[1]).__name__
        return "APITimeoutError" if timeout else self.kinds.connection_error.__name__


# The response that the SDK, in this context, has just asked about whether to retry.
_refusal: ContextVar[Any] = ContextVar("llmvitals_refusal", default=None)


@dataclass(frozen=True, slots=True)
class Reading:
    """How the replies of one method are read."""

    read: Callable[[Call, Any], None] = Call.read
    """Takes model and usage out of a plain one."""

    watch: Callable[[Call, Recorder], Watch] = Watch
    """Makes the observer of a stream."""


class Seen(_llm.Seen):
    """One use of such an SDK."""

    __slots__ = ("client", "observer")

    sdk: ClassVar[Sdk]
    reading: ClassVar[Reading]
    client: Any
    observer: "weakref.ref[Watch]"
    """Of the stream, once there is one."""

    def failed(self, error: BaseException) -> None:
        recorder = self.vitals.recorder
        with recorder.guard(self._component):
            completion = getattr(error, "completion", None)
            if completion is None:
                self.sdk.refused(recorder, self.call, self.client, error)
            else:  # A helper of the SDK did not like what the server had answered.
                self.sdk.answered(recorder, self.call)
                self.reading.read(self.call, completion)
        super().failed(error)

    def read_reply(self, reply: Any) -> Any:
        sdk = self.sdk
        if type(reply) is sdk.plain and self._own:
            self.call.is_answered = True
            self.reading.read(self.call, reply)
            return reply
        sdk.answered(self.vitals.recorder, self.call)
        if not isinstance(reply, sdk.unread):
            sdk.plain = type(reply)
            if self._own:
                self.reading.read(self.call, reply)
            else:
                read_another(self.call, self.reading.read, reply)
        elif isinstance(reply, sdk.kinds.streams):
            if not self.call.is_streaming:
                return self.watched(reply)
            # Who makes a reply of this stream reads it itself.
            spoken_for = isinstance(self.call, OuterCall) and self.call.asking
            return reply if spoken_for or _observer(reply) is not None else self.watched(reply, within=True)
        elif not self.call.is_streaming:
            self._read_later(reply)
        return reply

    def watched(self, stream: Any, *, within: bool = False) -> Any:
        """Watch the very object that the SDK returned: its type, attributes and identity stay.

        The call ends with it, unless it is *within* another stream of the call.
        """
        iterator = stream._iterator  # noqa: SLF001 -- the one place that all ways of iterating go through
        watch: Any
        if isinstance(iterator, GeneratorType):
            watch = watch_generator
        elif isinstance(iterator, AsyncGeneratorType):
            watch = watch_async_generator
        else:
            return self.call.stream(stream)
        if within:
            observer = self.reading.watch(cast("Call", Within(self.call)), self.vitals.recorder)
        else:
            observer = self.call.watch(self.reading.watch)
        self.observer = weakref.ref(observer)
        stream._iterator = watch(iterator, observer)  # noqa: SLF001
        stream.close = functools.partial(_close, weakref.ref(stream), observer)
        return stream

    # --- Raw responses ------------------------------------------------------------------------------------------------

    def _read_later(self, raw: Any) -> None:
        """The application parses *raw* itself, or not at all: the call ends when its body has been read or closed."""
        if raw.http_response.is_closed:
            self._read_body(raw)
            return
        body = cast("_Body", self.call.watch(_Body))
        alive = weakref.ref(raw)
        asynchronous = inspect.iscoroutinefunction(type(raw).parse)
        raw.parse = functools.partial(self._parse_async if asynchronous else self._parse, alive, body)
        raw.close = functools.partial(self._close_body, alive, body)

    def _parse(self, alive: "weakref.ref[Any]", body: "_Body", **options: Any) -> Any:
        raw: Any = alive()
        return self._parsed(body, type(raw).parse(raw, **options))

    async def _parse_async(self, alive: "weakref.ref[Any]", body: "_Body", **options: Any) -> Any:
        raw: Any = alive()
        return self._parsed(body, await type(raw).parse(raw, **options))

    def _parsed(self, body: "_Body", reply: Any) -> Any:
        if body.over:
            return reply
        with self.vitals.recorder.guard(self._component):
            if isinstance(reply, self.sdk.kinds.streams):
                body.give_way()
                return self.watched(reply)
            self.reading.read(self.call, reply)
            body.end()
        return reply

    def _close_body(self, alive: "weakref.ref[Any]", body: "_Body") -> Any:
        raw: Any = alive()
        with self.vitals.recorder.guard(self._component):
            if not body.over:
                self._read_body(raw)
            elif body.streams and (observer := self.observer()) is not None:
                observer.closed()
        body.end()
        return type(raw).close(raw)

    def _read_body(self, raw: Any) -> None:
        response = raw.http_response
        if response.is_closed and response.headers.get("content-type", "").startswith("application/json"):
            self.reading.read(self.call, json.loads(response.content))


class _Body(Watch):
    """Of a reply that comes in no chunks, and is read after the call has returned."""

    __slots__ = ("streams",)

    streams: bool
    """Whether it turned out to be a stream, which ends the call instead."""

    @property
    def over(self) -> bool:
        return self._ended

    def give_way(self) -> None:
        self._ended = self.streams = True

    def end(self, error: BaseException | None = None, reason: str | None = None) -> None:
        if not self._ended:
            self._ended, self.streams = True, False
            self._call.end(perf_counter(), error, reason, None)

    def _abandoned(self) -> None:
        if not self._ended:
            self._ended = True
            self._recorder.later(functools.partial(self._call.end, perf_counter(), None, None, None))


def _close(stream: "weakref.ref[Any]", watch: Watch) -> Any:
    # A strong reference from the stream to itself would leave an abandoned one to the cycle collector.
    watch.closed()
    alive = stream()
    return type(alive).close(alive) if alive is not None else None


def _observer(stream: Any) -> Watch | None:
    """Return who has watched *stream* so far."""
    close = vars(stream).get("close")
    return close.args[1] if isinstance(close, functools.partial) and close.func is _close else None


def tell_when_closed(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the ``close`` of a helper around a stream, which closes the response behind the stream's back."""

    def tell(helper: Any) -> None:
        observer = _observer(helper._raw_stream)  # noqa: SLF001 -- there is no public way to it
        if observer is not None:
            observer.closed()

    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def close_async(self: Any) -> Any:
            tell(self)
            return await original(self)

        return close_async

    @functools.wraps(original)
    def close(self: Any) -> Any:
        tell(self)
        return original(self)

    return close
