"""A circuit breaker that sees every call, also those that it refuses."""

import functools
import inspect
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Literal, ParamSpec, TypeVar, cast

from llmvitals import catalogue
from llmvitals._errors import CircuitOpenError
from llmvitals._recording import Recorder

State = Literal["closed", "open", "half_open"]
STATES: tuple[State, ...] = ("closed", "open", "half_open")

P = ParamSpec("P")
T = TypeVar("T")


class Breaker:
    """Refuses calls to a service that keeps failing; made by `Vitals.breaker`. Threads and event loops may share it.

    It opens after *failure_threshold* failures in a row, and after *reset_timeout_seconds* lets one call through as a
    probe: its success closes the breaker, its failure opens it again. Errors of the kinds in *ignore* (the caller's own
    mistakes) say nothing about the service, nor does a cancelled call.
    """

    def __init__(
        self,
        recorder: Recorder,
        name: str,
        *,
        failure_threshold: int = 5,
        reset_timeout_seconds: float = 30.0,
        ignore: tuple[type[BaseException], ...] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.failure_threshold = failure_threshold
        self.reset_timeout_seconds = reset_timeout_seconds
        self.ignore = tuple(ignore)
        self._recorder = recorder
        self._clock = clock
        self._lock = threading.Lock()
        self._state: State = "closed"
        self._forced = False
        self._failures = 0
        self._opened_at = 0.0
        self._probing = False
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

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        """Decorate a function, sync or async, so that each call of it goes through the breaker."""
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
        self._state = state
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


class Breakers(Mapping[str, Breaker]):
    """The breakers of one application, by name."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
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
                )
            return self._breakers[name]

    def __getitem__(self, name: str) -> Breaker:
        return self._breakers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._breakers))

    def __len__(self) -> int:
        return len(self._breakers)
