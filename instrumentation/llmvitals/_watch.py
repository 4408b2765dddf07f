"""What is seen of one stream: its chunks, its first output, its end."""

import weakref
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter, methodcaller
from time import perf_counter
from typing import Any, Protocol

from llmvitals._recording import Recorder
from llmvitals.catalogue import TIME_PER_OUTPUT_CHUNK

BOUNDS = TIME_PER_OUTPUT_CHUNK.buckets


class Ending(Protocol):
    """What a `Watch` tells of its stream; a call."""

    def read(self, reply: object) -> None: ...

    def end(self, now: float, error: BaseException | None, reason: str | None, times: "Watch.Times | None") -> None: ...

    def dropped(self, now: float, times: "Watch.Times") -> None: ...


class Watch:
    """Sees one stream's chunks and its end; the stream holds the only reference.

    Times are collected here and recorded once at the end. Chunks are looked at until there is output that a person
    would see; from then on each costs a reading of the clock and a count.
    """

    @dataclass(slots=True)
    class Times:
        first: float | None = None
        """When the first chunk came, the first output that is no reasoning, and the last chunk: readings of
        ``perf_counter``."""

        output: float | None = None

        last: float = 0.0

        gaps: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
        """How many chunks took how long after the one before, by bucket."""

        odd: dict[str, int] = field(default_factory=dict)

    __slots__ = (
        "__weakref__",
        "_call",
        "_ended",
        "_recorder",
        "_shape",
        "_visible",
        "bearer",
        "before",
        "kind",
        "latest",
        "owner",
        "times",
        "usage",
    )

    def __init__(self, call: Ending, recorder: Recorder, visible: Callable[[Any], object] | None = None) -> None:
        self._call = call
        self._recorder = recorder
        self._visible: Callable[[Any], object] | None = visible or has_output
        """Whether a chunk has output; None when one had."""

        self._shape: type | None = None
        """What the first proper chunk was."""

        self._ended = False
        self.times = Watch.Times()
        self.owner: weakref.ref[Any] | None = None
        """The generator around the stream, if there is one."""

        self.kind: Any = None
        """Chunks of this type need no `look`, as long as they are not empty and have no usage."""

        self.usage: Callable[[Any], object] | None = None
        """Takes the usage out of those; None when they have none."""

        self.bearer: object = None
        """The last chunk that had usage."""

        self.before: object = None
        """The one before it, which may have the finish reason."""

        self.latest: object = None
        """The last chunk; while one is looked at, the one before it."""

    def chunk(self, chunk: Any) -> None:
        """See a chunk on its way to the consumer. Never raises. The generators below do the same in their loop."""
        now = perf_counter()
        times = self.times
        if times.first is None:
            times.first = now
        else:
            times.gaps[bisect_left(BOUNDS, now - times.last)] += 1
        times.last = now
        try:
            if type(chunk) is not self.kind or not chunk or (self.usage is not None and self.usage(chunk) is not None):
                self.look(chunk, now)
        except Exception:  # noqa: BLE001 -- unlike those before it
            self.kind = None
            self.look(chunk, now)
        self.latest = chunk

    def look(self, chunk: Any, now: float) -> None:
        """Look closer at a chunk that came *now*. Never raises."""
        try:
            self._look(chunk, now)
        except Exception as fault:  # noqa: BLE001 -- a chunk's own attributes may raise
            self._recorder.fault("streams", fault)

    def end(self, error: BaseException | None = None, reason: str | None = None) -> None:
        """The stream has ended: by itself, or by *error*. Only the first end counts."""
        if not self._ended:
            self._ended = True
            now, unread = perf_counter(), self._unread()
            last = self.latest if self.bearer is None else self.before
            # `usage` is known of chunks in OpenAI's shape alone.
            if error is None and reason is None and last is not None and self.usage is not None:
                self._call.read(last)
            if unread is not None:
                unread()
            self._call.end(now, error, reason, self.times)

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
            unread = self._unread()
            if unread is not None:
                self._recorder.later(unread)
            self._call.dropped(perf_counter(), self.times)

    def _unread(self) -> Callable[[], None] | None:
        """Return what takes the usage out of the chunk that brought it, if one did."""
        return None if self.bearer is None else partial(self._call.read, self.bearer)

    def _look(self, chunk: Any, now: float) -> None:
        """Tell a chunk that is of another kind than the rest, or empty. The first proper one says what the rest is."""
        kind = type(chunk)
        if chunk is None or (kind in _EMPTIABLE and not chunk):
            self._odd("none" if chunk is None else "empty")
            return
        if self._shape is None:
            self._shape = kind
            if kind not in _TEXT:
                # The first chunk names the model, the last one may bring the usage.
                self._call.read(chunk)
        elif kind is not self._shape:
            self._odd("bytes" if kind in (bytes, bytearray) else "other")
            if kind not in _TEXT:
                self._call.read(chunk)
        elif kind not in _TEXT and _field(chunk, "usage") is not None:
            self.before, self.bearer = self.latest, chunk
        self._look_for_output(chunk, now)
        if self._visible is None and kind is self._shape:
            if issubclass(kind, Mapping):
                self.usage = _usage_in_mapping
            elif kind not in _TEXT:
                self.usage = _usage if hasattr(chunk, "usage") else _no_usage
            self.kind = kind

    def _look_for_output(self, chunk: Any, now: float) -> None:
        if self._visible is None:
            return
        try:
            if not self._visible(chunk):
                return
            self.times.output = now
        except Exception as fault:  # noqa: BLE001 -- the application's own, perhaps
            self._recorder.fault("streams", fault, "the time to this stream's first output is not recorded")
        self._visible = None

    def _odd(self, kind: str) -> None:
        self.times.odd[kind] = self.times.odd.get(kind, 0) + 1


_TEXT = frozenset({str, bytes, bytearray})
_EMPTIABLE = frozenset({*_TEXT, dict, list, tuple})


_usage = attrgetter("usage")
_usage_in_mapping = methodcaller("get", "usage")


def _no_usage(chunk: object) -> object:
    # The last chunk may have what those before it have not.
    return getattr(chunk, "usage", None)


def has_output(chunk: object) -> bool:
    """Whether a chunk in OpenAI's shape brings output other than reasoning. Chunks of another shape do."""
    choices = None if type(chunk) in _TEXT else _field(chunk, "choices")
    if choices is None:
        return True
    for choice in choices:
        delta = _field(choice, "delta")
        if delta is None:
            if _field(choice, "text"):
                return True
        elif any(_field(delta, name) for name in _OUTPUT):
            return True
    return False


# What servers call reasoning ("reasoning_content", "reasoning", ...) varies; what they call output does not.
_OUTPUT = ("content", "tool_calls", "refusal", "function_call", "audio")


def _field(thing: Any, name: str) -> Any:
    return thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)


def end_reason(error: BaseException | None) -> str:
    """Say in a word how an error ends a stream."""
    if error is None:
        return "completed"
    if not isinstance(error, Exception):  # CancelledError, KeyboardInterrupt, GeneratorExit.
        return "cancelled"
    if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
        return "timeout"
    return "error"
