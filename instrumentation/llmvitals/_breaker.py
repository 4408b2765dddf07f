"""A circuit breaker that sees every call, also those that it refuses."""

import functools
import inspect
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Literal, ParamSpec, Self, TypeVar, cast

from llmvitals import catalogue
from llmvitals._errors import CircuitOpenError
from llmvitals._recording import Recorder
from llmvitals._telling import Tell, tell_nobody

State = Literal["closed", "open", "half_open"]
STATES: tuple[State, ...] = ("closed", "open", "half_open")

P = ParamSpec("P")
T = TypeVar("T")


class Breaker:
    """Refuses calls to a service that keeps failing; made by `Vitals.breaker`. Threads and event loops may share it.

    It opens after *failure_threshold* failures in a row, and after *reset_timeout_seconds* lets one call through as a
    probe: its success closes the breaker, its failure opens it again. Errors of the kinds in *ignore* (the caller's own
    mistakes) say nothing about the service, nor does a cancelled call or a stream that its reader left.

    It goes around a function (`call`, `acall`, or as a decorator; of a generator it guards the whole run), or around a
    block, so that what a stream does after its first chunk counts, too:

    ```python
    async with breaker:
        async for chunk in await client.chat.completions.create(stream=True, ...):
            ...
    ```

    A time-out counts as a failure when it is raised inside: ``async with breaker, asyncio.timeout(30):``.
    """

    def __init__(
        self,
        recorder: Recorder,
        name: str,
        *,
        failure_threshold: int = 5,
        reset_timeout_seconds: float = 30.0,
        ignore: tuple[type[BaseException], ...] = (),
        tell: Tell = tell_nobody,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.failure_threshold = failure_threshold
        self.reset_timeout_seconds = reset_timeout_seconds
        self.ignore = tuple(ignore)
        self._recorder = recorder
        self._tell = tell
        self._clock = clock
        self._lock = threading.Lock()
        self._state: State = "closed"
        self._forced = False
        self._failures = 0
        self._opened_at = 0.0
        self._probing = False
        # The blocks that run, and the era in which each was admitted.
        self._blocks: dict[_Block, int] = {}
        # Counts changes of state: a call that began before the last one has nothing to say about the present.
        self._era = 0
        self._show()
        # From zero, so that the first rejection is already an increase.
        for state in STATES:
            recorder.child(catalogue.BREAKER_TRANSITIONS, name, state)
        for outcome in ("success", "failure", "rejected", "ignored"):
            recorder.child(catalogue.BREAKER_CALLS, name, outcome)
        recorder.child(catalogue.BREAKER_FALLBACKS, name)

    @property
    def state(self) -> State:
        """``open`` lasts until the first call after the time-out, which is the probe."""
        return self._state

    def call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call *function* unless the breaker is open.

        Raises:
            CircuitOpenError: The call was refused; *function* was not called.
        """
        era = self._admit()
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            self._failed(era, error)
            raise
        self._succeeded(era)
        return result

    async def acall(self, function: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Like `call`, for an async *function*."""
        era = self._admit()
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            self._failed(era, error)
            raise
        self._succeeded(era)
        return result

    def __enter__(self) -> Self:
        """Begin a block; threads and tasks may be in blocks of the same breaker at once.

        Raises:
            CircuitOpenError: The block was refused; nothing of it runs.
        """
        era, block = self._admit(), _Block(self)
        self._blocks[block] = era
        _entered.set((*_entered.get(), block))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        era = self._leave()
        if era is None:
            return
        if error is None:
            self._succeeded(era)
        elif isinstance(error, GeneratorExit):
            # Perhaps a dropped generator, and the garbage collector at work while this very thread holds our lock.
            self._recorder.later(functools.partial(self._failed, era, GeneratorExit()))
        else:
            self._failed(era, error)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        """Decorate a function, sync or async, so that each call of it goes through the breaker.

        A generator, sync or async, is in it from its first item until it ends, fails or is closed.
        """
        if inspect.isasyncgenfunction(function):

            @functools.wraps(function)
            async def through_async_generator(*args: P.args, **kwargs: P.kwargs) -> Any:
                async with self, aclosing(function(*args, **kwargs)) as items:
                    async for item in items:
                        yield item

            return cast("Callable[P, T]", through_async_generator)

        if inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def through_generator(*args: P.args, **kwargs: P.kwargs) -> Any:
                with self:
                    return (yield from function(*args, **kwargs))

            return cast("Callable[P, T]", through_generator)

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def through_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                return await self.acall(function, *args, **kwargs)

            return cast("Callable[P, T]", through_async)

        @functools.wraps(function)
        def through(*args: P.args, **kwargs: P.kwargs) -> T:
            return self.call(function, *args, **kwargs)

        return through

    def fallback_used(self) -> None:
        """Say that the application answered from a fallback instead."""
        with self._recorder.guard("breaker"):
            self._recorder.child(catalogue.BREAKER_FALLBACKS, self.name).inc()

    def reset(self) -> None:
        """Close the breaker, also one that was forced open."""
        with self._lock:
            self._forced = False
            self._failures = 0
            self._enter("closed")

    def force_open(self) -> None:
        """Refuse all calls until `reset`."""
        with self._lock:
            self._forced = True
            self._enter("open")

    def _admit(self) -> int:
        """Return the era of the admitted call, or refuse it."""
        # A probe that was dropped gives its place back here.
        self._recorder.drain()
        with self._lock:
            if self._state == "open" and not self._forced and self._seconds_left() <= 0:
                self._enter("half_open")
            if self._state == "closed":
                return self._era
            if self._state == "half_open" and not self._probing:
                self._probing = True
                return self._era
            seconds_left = float("inf") if self._forced else max(self._seconds_left(), 0.0)
        self._count("rejected")
        raise CircuitOpenError(self.name, seconds_left)

    def _leave(self) -> int | None:
        """The era of this thread's or task's innermost open block. Takes no lock: see `__exit__`."""
        stack = _entered.get()
        for block in reversed(stack):
            if block.breaker is self and (era := self._blocks.pop(block, None)) is not None:
                _entered.set(tuple(other for other in stack if other is not block))
                return era
        try:
            # Entered in another context than it is left in: a generator that its event loop closes, for one.
            return self._blocks.popitem()[1]
        except KeyError:
            return None

    def _succeeded(self, era: int) -> None:
        self._count("success")
        with self._lock:
            if era == self._era:
                self._failures = 0
                if self._state == "half_open":
                    self._enter("closed")

    def _failed(self, era: int, error: BaseException) -> None:
        if not isinstance(error, Exception) or isinstance(error, self.ignore):
            self._count("ignored")
            with self._lock:
                if era == self._era:
                    self._probing = False
            return
        self._count("failure")
        with self._lock:
            if era != self._era:
                return
            self._failures += 1
            if self._state == "half_open" or self._failures >= self.failure_threshold:
                self._enter("open")

    def _seconds_left(self) -> float:
        return self._opened_at + self.reset_timeout_seconds - self._clock()

    def _enter(self, state: State) -> None:
        """Change state; the lock is held."""
        self._era += 1
        self._probing = False
        if state == "open":
            self._failures = 0
            self._opened_at = self._clock()
        if state == self._state:
            return
        before, self._state = self._state, state
        # It only puts it down: nothing of the application's runs under the lock.
        self._tell("breaker", self.name, level="warning" if state == "open" else "info", before=before, state=state)
        with self._recorder.guard("breaker"):
            self._recorder.child(catalogue.BREAKER_TRANSITIONS, self.name, state).inc()
        self._show()

    def _show(self) -> None:
        with self._recorder.guard("breaker"):
            for state in STATES:
                self._recorder.child(catalogue.BREAKER_STATE, self.name, state).set(1 if state == self._state else 0)

    def _count(self, outcome: str) -> None:
        with self._recorder.guard("breaker"):
            self._recorder.child(catalogue.BREAKER_CALLS, self.name, outcome).inc()


class _Block:
    """A ``with`` block that runs."""

    __slots__ = ("breaker",)

    def __init__(self, breaker: Breaker) -> None:
        self.breaker = breaker


# A tuple, not a list: a task inherits its parent's stack, and must not take from it.
_entered: ContextVar[tuple[_Block, ...]] = ContextVar("llmvitals_breaker_blocks", default=())


class Breakers(Mapping[str, Breaker]):
    """The breakers of one application, by name."""

    def __init__(self, recorder: Recorder, *, tell: Tell = tell_nobody) -> None:
        self._recorder = recorder
        self._tell = tell
        self._lock = threading.Lock()
        self._breakers: dict[str, Breaker] = {}

    def breaker(
        self,
        name: str,
        *,
        failure_threshold: int = 5,
        reset_timeout_seconds: float = 30.0,
        ignore: tuple[type[BaseException], ...] = (),
    ) -> Breaker:
        """Return the breaker of this name; the settings of the first time count."""
        with self._lock:
            if name not in self._breakers:
                self._breakers[name] = Breaker(
                    self._recorder,
                    name,
                    failure_threshold=failure_threshold,
                    reset_timeout_seconds=reset_timeout_seconds,
                    ignore=ignore,
                    tell=self._tell,
                )
            return self._breakers[name]

    def __getitem__(self, name: str) -> Breaker:
        return self._breakers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._breakers))

    def __len__(self) -> int:
        return len(self._breakers)
