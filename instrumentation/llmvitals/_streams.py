"""Streams keep what they are, and end exactly once, whatever ends them."""

import weakref
from bisect import bisect_left
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import wraps
from time import perf_counter
from types import AsyncGeneratorType, GeneratorType
from typing import Any, Protocol, TypeVar, cast

from llmvitals._proxy import proxy
from llmvitals._recording import Recorder
from llmvitals.catalogue import TIME_PER_OUTPUT_CHUNK

T = TypeVar("T")

_BOUNDS = TIME_PER_OUTPUT_CHUNK.buckets


class Ending(Protocol):
    """What a `Watch` tells of its stream; a call."""

    def read(self, reply: object) -> None: ...

    def end(self, now: float, error: BaseException | None, reason: str | None, times: "Watch.Times | None") -> None: ...

    def dropped(self, now: float, times: "Watch.Times") -> None: ...


class Watch:
    """Sees one stream's chunks and its end; the stream holds the only reference.

    Times are collected here and recorded once at the end, so that a chunk costs a count.
    """

    @dataclass(slots=True)
    class Times:
        first: float | None = None
        """When the first chunk came, and the last: readings of ``perf_counter``."""

        last: float = 0.0

        gaps: list[int] = field(default_factory=lambda: [0] * (len(_BOUNDS) + 1))
        """How many chunks took how long after the one before, by bucket."""

        odd: dict[str, int] = field(default_factory=dict)

    __slots__ = (
        "__weakref__",
        "_call",
        "_emptiable",
        "_ended",
        "_kind",
        "_mapping",
        "_recorder",
        "_textual",
        "owner",
        "times",
    )

    def __init__(self, call: Ending, recorder: Recorder) -> None:
        self._call = call
        self._recorder = recorder
        self._kind: type | None = None
        self._emptiable = False
        self._textual = self._mapping = False
        self._ended = False
        self.times = Watch.Times()
        self.owner: weakref.ref[Any] | None = None
        """The generator around the stream, if there is one."""

    def chunk(self, chunk: Any) -> None:
        """See a chunk on its way to the consumer. Never raises."""
        now = perf_counter()
        times = self.times
        first = times.first is None
        if first:
            times.first = now
        else:
            times.gaps[bisect_left(_BOUNDS, now - times.last)] += 1
        times.last = now
        try:
            if type(chunk) is not self._kind or (self._emptiable and not chunk):
                self._look_at(chunk)
            if self._textual:
                return
            # The first chunk names the model, the last one may bring the usage.
            usage = chunk.get("usage") if self._mapping else getattr(chunk, "usage", None)
            if usage is not None or first:
                self._call.read(chunk)
        except Exception as fault:  # noqa: BLE001 -- a chunk's own attributes may raise
            self._recorder.fault("streams", fault)

    def end(self, error: BaseException | None = None, reason: str | None = None) -> None:
        """The stream has ended: by itself, or by *error*. Only the first end counts."""
        if not self._ended:
            self._ended = True
            self._call.end(perf_counter(), error, reason, self.times)

    def closed(self) -> None:
        """The consumer has closed the stream, or its generator is being collected."""
        if self.owner is not None and self.owner() is None:
            # CPython clears weak references before it closes a generator that nobody holds any more.
            self._abandoned()
        else:
            self.end(reason="cancelled")

    def __del__(self) -> None:
        self._abandoned()

    def _abandoned(self) -> None:
        if not self._ended:
            self._ended = True
            self._call.dropped(perf_counter(), self.times)

    def _look_at(self, chunk: object) -> None:
        """Tell a chunk that is of another kind than the rest, or empty. The first proper one says what the rest is."""
        kind = type(chunk)
        if chunk is None:
            odd = "none"
        elif kind in _EMPTIABLE and not chunk:
            odd = "empty"
        elif self._kind is None:
            self._kind = kind
            self._emptiable = kind in _EMPTIABLE
            self._textual, self._mapping = kind in _TEXT, issubclass(kind, Mapping)
            return
        elif kind in (bytes, bytearray):
            odd = "bytes"
        else:
            odd = "other"
            self._call.read(chunk)
        self.times.odd[odd] = self.times.odd.get(odd, 0) + 1


_TEXT = frozenset({str, bytes, bytearray})
_EMPTIABLE = frozenset({str, bytes, bytearray, dict, list, tuple})


def end_reason(error: BaseException | None) -> str:
    """Say in a word how an error ends a stream."""
    if error is None:
        return "completed"
    if not isinstance(error, Exception):  # CancelledError, KeyboardInterrupt, GeneratorExit.
        return "cancelled"
    if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
        return "timeout"
    return "error"


def watch_stream(source: T, watch: Watch) -> T:
    """Return *source*, or what behaves just like it, with *watch* seeing its chunks.

    Raises:
        TypeError: It is no stream of any kind.
    """
    if isinstance(source, GeneratorType):
        return cast("T", watch_generator(source, watch))
    if isinstance(source, AsyncGeneratorType):
        return cast("T", watch_async_generator(source, watch))
    return proxy(source, watch)


def watch_generator(source: Generator[Any, Any, Any], watch: Watch) -> Generator[Any, Any, Any]:
    return cast("Generator[Any, Any, Any]", _named(_generator(source, watch), source, watch))


def watch_async_generator(source: AsyncGenerator[Any, Any], watch: Watch) -> AsyncGenerator[Any, Any]:
    return cast("AsyncGenerator[Any, Any]", _named(_async_generator(source, watch), source, watch))


def _named(watched: Any, source: Any, watch: Watch) -> Any:
    watched.__name__ = source.__name__
    watched.__qualname__ = source.__qualname__
    watch.owner = weakref.ref(watched)
    return watched


def _generator(source: Generator[Any, Any, Any], watch: Watch) -> Generator[Any, Any, Any]:
    try:
        chunk = next(source)
        while True:
            watch.chunk(chunk)
            try:
                sent = yield chunk
            except GeneratorExit:
                source.close()
                raise
            except BaseException as error:  # noqa: BLE001 -- whatever is thrown in belongs to the source
                chunk = source.throw(error)
            else:
                chunk = source.send(sent)
    except StopIteration as stop:
        watch.end()
        return stop.value
    except GeneratorExit:
        watch.closed()
        raise
    except BaseException as error:
        watch.end(error)
        raise


async def _async_generator(source: AsyncGenerator[Any, Any], watch: Watch) -> AsyncGenerator[Any, Any]:
    try:
        chunk = await anext(source)
        while True:
            watch.chunk(chunk)
            try:
                sent = yield chunk
            except GeneratorExit:
                await _close(source, watch)
                raise
            except BaseException as error:  # noqa: BLE001 -- whatever is thrown in belongs to the source
                chunk = await source.athrow(error)
            else:
                chunk = await source.asend(sent)
    except StopAsyncIteration:
        watch.end()
    except GeneratorExit:
        watch.closed()
        raise
    except BaseException as error:
        watch.end(error)
        raise


async def _close(source: AsyncGenerator[Any, Any], watch: Watch) -> None:
    # What nobody holds any more is closed by its loop, generator by generator: that the second one to do so fails would
    # be told in the application's log.
    dropped = watch.owner is not None and watch.owner() is None
    if not dropped and not source.ag_running:
        await source.aclose()


def relay_async(
    function: Callable[..., Any],
    source: Callable[..., AsyncGenerator[Any, Any]],
    *,
    around: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Callable[..., AsyncGenerator[Any, Any]]:
    """Make an async generator function like *function* that runs what *source* returns, inside of *around*.

    What is sent, thrown and closed reaches the source: what ``yield from`` does for other generators.
    """

    @wraps(function)
    async def relaying(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        with around():
            chunks = source(*args, **kwargs)
            try:
                chunk = await anext(chunks)
                while True:
                    try:
                        sent = yield chunk
                    except GeneratorExit:
                        await chunks.aclose()
                        raise
                    except BaseException as error:  # noqa: BLE001 -- whatever is thrown in belongs to the source
                        chunk = await chunks.athrow(error)
                    else:
                        chunk = await chunks.asend(sent)
            except StopAsyncIteration:
                return

    return relaying
