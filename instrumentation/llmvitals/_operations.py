import asyncio
import functools
import inspect
import logging
import time
from collections.abc import Callable, Mapping
from sys import modules
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, cast

from llmvitals import catalogue
from llmvitals._nesting import Nesting
from llmvitals._performance import Performance, Performances
from llmvitals._recording import Recorder, error_type
from llmvitals._telling import Level as HistoryLevel
from llmvitals._telling import Tell, tell_nobody
from llmvitals._traces import OPENTELEMETRY, current_trace, exemplify

log = logging.getLogger("llmvitals")

Level = Literal["excellent", "good", "acceptable", "slow", "critical"]
Function = TypeVar("Function", bound=Callable[..., Any])

# Shares of the target, each the most that still earns the level; beyond the last it is critical.
_LEVELS: tuple[tuple[float, Level], ...] = ((0.25, "excellent"), (0.5, "good"), (1.0, "acceptable"), (2.0, "slow"))


def level_of(seconds: float, target_seconds: float) -> Level:
    """How good a duration is, measured against its target."""
    for share, level in _LEVELS:
        if seconds <= share * target_seconds:
            return level
    return "critical"


class Operation:
    """One of the application's own operations, timed: a context manager and a decorator, each sync and async.

    May be entered many times at once, from threads and tasks. An operation that fails is counted with its error; a
    level it earns only when it was slow as well, because a failure is never an excellent answer.
    """

    def __init__(
        self,
        recorder: Recorder,
        name: str,
        *,
        target_seconds: float | None = None,
        context: Mapping[str, object] | None = None,
        performance: Performance | None = None,
        tell: Tell = tell_nobody,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if target_seconds is not None and not target_seconds > 0:
            raise ValueError(f"target_seconds of operation {name!r} must be above 0, not {target_seconds}")
        self.name = name
        self.target_seconds = target_seconds
        self._context = dict(context or {})
        self._runs: Nesting[_Run] = Nesting()
        self._recorder = recorder
        self._tell = tell
        self._performance = performance or Performance()
        self._clock = clock
        if target_seconds is not None:
            recorder.child(catalogue.OPERATION_TARGET, name).set(target_seconds)

    def note(self, **context: object) -> None:
        """Add to what is logged should the innermost running operation of this name turn out critical."""
        run = self._runs.innermost()
        if run is not None:
            run.context |= context

    def __enter__(self) -> Self:
        self._runs.enter(_Run(self._clock(), dict(self._context)))
        self._recorder.child(catalogue.OPERATIONS_IN_FLIGHT, self.name).inc()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._recorder.guard("operations"):
            self._ended(error)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __call__(self, function: Function) -> Function:
        if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
            raise TypeError(
                f"operation {self.name!r} cannot decorate a generator: use `with` inside it, around what is to be timed"
            )
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def timed_async(*args: Any, **kwargs: Any) -> Any:
                with self:
                    return await function(*args, **kwargs)

            return cast("Function", timed_async)

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return cast("Function", timed)

    def _ended(self, error: BaseException | None) -> None:
        run = self._runs.leave()
        if run is None:
            return
        seconds = self._clock() - run.started
        self._recorder.child(catalogue.OPERATIONS_IN_FLIGHT, self.name).dec()
        duration = self._recorder.child(catalogue.OPERATION_DURATION, self.name, error_type(error))
        duration.observe(seconds)
        exemplify(duration, seconds, run.trace)
        self._performance.add(seconds, failed=error is not None)
        if self.target_seconds is None:
            return
        level = level_of(seconds, self.target_seconds)
        if error is None or level in ("slow", "critical"):
            self._recorder.child(catalogue.OPERATIONS, self.name, level).inc()
        target = self.target_seconds
        changed = self._performance.new_level(level, lambda took: level_of(took, target))
        if changed is not None:
            worse: HistoryLevel = "warning" if changed[1] in ("slow", "critical") else "info"
            self._tell("operation_level", self.name, level=worse, before=changed[0], now=changed[1])
        if level == "critical" and not isinstance(error, asyncio.CancelledError):
            self._tell(
                "critical_operation",
                self.name,
                level="critical",
                seconds=round(seconds, 4),
                target_seconds=self.target_seconds,
                error=error_type(error) or None,
            )
            log.warning(
                "llmvitals: operation %s took %.3f s; its target is %g s%s%s",
                self.name,
                seconds,
                self.target_seconds,
                f"; it failed with {type(error).__name__}" if error is not None else "",
                "".join(f"; {key}={value!r}" for key, value in run.context.items()),
                extra={"operation": self.name, "seconds": seconds, "target_seconds": self.target_seconds},
            )


class _Run:
    __slots__ = ("context", "started", "trace")

    def __init__(self, started: float, context: dict[str, object]) -> None:
        self.started = started
        self.context = context
        self.trace = current_trace() if OPENTELEMETRY in modules else None


class Operations:
    """Makes operations that record in one place."""

    def __init__(self, recorder: Recorder, *, tell: Tell = tell_nobody) -> None:
        self._recorder = recorder
        self._tell = tell
        self._performances = Performances()

    def operation(
        self, name: str, *, target_seconds: float | None = None, context: Mapping[str, object] | None = None
    ) -> Operation:
        """*context* is logged with a critical run; it never becomes a label."""
        performance = self._performances.of(name, target_seconds)
        return Operation(
            self._recorder,
            name,
            target_seconds=target_seconds,
            context=context,
            performance=performance,
            tell=self._tell,
        )

    def summary(self) -> dict[str, Any]:
        """How each one did lately: see `Performance`."""
        return self._performances.summary()
