"""Streams keep what they are, and end exactly once, whatever ends them."""

import weakref
from bisect import bisect_left
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import ContextVar
from functools import wraps
from math import inf
from time import perf_counter
from types import AsyncGeneratorType, GeneratorType
from typing import Any, Self, TypeVar, cast

from llmvitals._proxy import proxy
from llmvitals._watch import BOUNDS, Watch

T = TypeVar("T")


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


def _span(gap: float) -> tuple[int, float, float]:
    """Return the bucket that a gap between chunks falls into, and its bounds."""
    index = bisect_left(BOUNDS, gap)
    return index, BOUNDS[index - 1] if index else -1.0, BOUNDS[index] if index < len(BOUNDS) else inf


# The two loops below are the hot path, where a call would cost as much as all the rest, so they do in place what
# Watch.chunk does. Chunks mostly come as fast as the one before, so its bucket is tried first.


def _generator(source: Generator[Any, Any, Any], watch: Watch) -> Generator[Any, Any, Any]:  # noqa: C901 -- hot
    times = watch.times
    gaps = times.gaps
    bucket, low, high = _span(0.0)
    chunk: Any
    try:
        chunk = next(source)
        watch.chunk(chunk)
        kind, usage = watch.kind, watch.usage
        while True:
            try:
                sent = yield chunk
            except GeneratorExit:
                returned = source.close()  # type: ignore[func-returns-value]
                if returned is not None:  # What close() returns, since Python 3.13.
                    watch.closed()
                    return returned
                raise
            except BaseException as error:  # noqa: BLE001 -- whatever is thrown in belongs to the source
                chunk = source.throw(error)
            else:
                chunk = next(source) if sent is None else source.send(sent)
            now = perf_counter()
            gap = now - times.last
            times.last = now
            if not low < gap <= high:
                bucket, low, high = _span(gap)
            gaps[bucket] += 1
            try:
                if type(chunk) is not kind or not chunk or (usage is not None and usage(chunk) is not None):
                    watch.look(chunk, now)
                    kind, usage = watch.kind, watch.usage
            except Exception:  # noqa: BLE001 -- unlike those before it
                watch.kind = kind = None
                watch.look(chunk, now)
            watch.latest = chunk
    except StopIteration as stop:
        watch.end()
        return stop.value
    except GeneratorExit:
        watch.closed()
        raise
    except BaseException as error:
        watch.end(error)
        raise


async def _async_generator(  # noqa: C901, PLR0912 -- hot
    source: AsyncGenerator[Any, Any], watch: Watch
) -> AsyncGenerator[Any, Any]:
    times = watch.times
    gaps = times.gaps
    bucket, low, high = _span(0.0)
    kind, usage = watch.kind, watch.usage
    chunks: AsyncIterator[Any] = source
    step: Awaitable[Any]
    chunk: Any
    try:
        while True:
            async for chunk in chunks:
                now = perf_counter()
                if times.first is None:
                    times.first = now
                else:
                    gap = now - times.last
                    if not low < gap <= high:
                        bucket, low, high = _span(gap)
                    gaps[bucket] += 1
                times.last = now
                try:
                    if type(chunk) is not kind or not chunk or (usage is not None and usage(chunk) is not None):
                        watch.look(chunk, now)
                        kind, usage = watch.kind, watch.usage
                except Exception:  # noqa: BLE001 -- unlike those before it
                    watch.kind = kind = None
                    watch.look(chunk, now)
                watch.latest = chunk
                try:
                    sent = yield chunk
                except GeneratorExit:
                    await _close(source, watch)
                    raise
                except BaseException as error:  # noqa: BLE001 -- whatever is thrown in belongs to the source
                    step = source.athrow(error)
                    break
                if sent is not None:
                    step = source.asend(sent)
                    break
            else:
                watch.end()
                return
            chunks = _Resumed(step, source)
    except GeneratorExit:
        watch.closed()
        raise
    except BaseException as error:
        watch.end(error)
        raise


class _Resumed:
    """An async generator that goes on with one *step*, what was sent or thrown into it."""

    def __init__(self, step: Awaitable[Any], source: AsyncGenerator[Any, Any]) -> None:
        self._step: Awaitable[Any] | None = step
        self._source = source

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[Any]:
        step, self._step = self._step, None
        return anext(self._source) if step is None else step


async def _close(source: AsyncGenerator[Any, Any], watch: Watch) -> None:
    # What nobody holds any more is closed by its loop, generator by generator: that the second one to do so fails would
    # be told in the application's log.
    dropped = watch.owner is not None and watch.owner() is None
    if not dropped and not getattr(source, "ag_running", False):
        await source.aclose()


def each_step(source: Generator[Any, Any, Any], variable: ContextVar[T], value: T) -> Generator[Any, Any, Any]:
    """Run a generator with *variable* set to *value*, and not its consumer, whose context it runs in."""

    def step(advance: Callable[..., Any], *given: Any) -> Any:
        token = variable.set(value)
        try:
            return advance(*given)
        finally:
            variable.reset(token)

    try:
        chunk = step(next, source)
        while True:
            try:
                sent = yield chunk
            except GeneratorExit:
                returned = step(source.close)
                if returned is not None:  # What close() returns, since Python 3.13.
                    return returned
                raise
            except BaseException as error:  # noqa: BLE001 -- whatever is thrown in belongs to the source
                chunk = step(source.throw, error)
            else:
                chunk = step(source.send, sent)
    except StopIteration as stop:
        return stop.value


async def each_step_async(
    source: AsyncGenerator[Any, Any], variable: ContextVar[T], value: T
) -> AsyncGenerator[Any, Any]:
    """The same for an async generator."""

    async def step(advance: Awaitable[Any]) -> Any:
        token = variable.set(value)
        try:
            return await advance
        finally:
            with suppress(ValueError):  # It is closed from another context; its own is gone.
                variable.reset(token)

    try:
        chunk = await step(anext(source))
        while True:
            try:
                sent = yield chunk
            except GeneratorExit:
                await step(source.aclose())
                raise
            except BaseException as error:  # noqa: BLE001 -- whatever is thrown in belongs to the source
                chunk = await step(source.athrow(error))
            else:
                chunk = await step(source.asend(sent))
    except StopAsyncIteration:
        return


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
