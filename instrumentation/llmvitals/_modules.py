"""What an application does in the background, between the questions of its users: inner monologue, motivation, ..."""

import asyncio
import functools
import inspect
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, cast

from llmvitals import _work_families as families
from llmvitals._nesting import Nesting
from llmvitals._recording import Recorder, error_type

Function = TypeVar("Function", bound=Callable[..., Any])
Outcome = Literal["success", "timeout", "error", "cancelled"]


class Module:
    """A background module; each run of it is a ``with`` block or a call of a decorated function, sync or async.

    An async run that takes longer than *timeout_seconds* is cancelled and raises TimeoutError. A sync one cannot be
    interrupted: it counts as overdue while it goes on, and as timed out when it ends. May run many times at once.
    """

    def __init__(
        self,
        recorder: Recorder,
        name: str,
        *,
        timeout_seconds: float | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if timeout_seconds is not None and not timeout_seconds > 0:
            raise ValueError(f"timeout_seconds of module {name!r} must be above 0, not {timeout_seconds}")
        self.name = name
        self.timeout_seconds = timeout_seconds
        self._recorder = recorder
        self._clock = clock
        self._runs: Nesting[_Run] = Nesting()
        self._ended: dict[Outcome, int] = {}
        self._last_success: float | None = None
        self._last_error: str | None = None
        self._lock = threading.Lock()
        recorder.read_at_scrape(families.MODULE_IN_FLIGHT, name, read=lambda: len(self._runs.all()))
        if timeout_seconds is not None:
            recorder.child(families.MODULE_TIMEOUT, name).set(timeout_seconds)
            recorder.read_at_scrape(families.MODULE_OVERDUE, name, read=self._overdue)

    def __enter__(self) -> Self:
        self._runs.enter(_Run(self._clock()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._recorder.guard("modules"):
            run = self._runs.leave()
            if run is not None:
                self._record(run, error)

    async def __aenter__(self) -> Self:
        run = _Run(self._clock())
        if self.timeout_seconds is not None:
            run.limit = asyncio.timeout(self.timeout_seconds)
            await run.limit.__aenter__()
        self._runs.enter(run)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        run = self._runs.leave()
        if run is None:
            return
        try:
            if run.limit is not None:
                await run.limit.__aexit__(kind, error, traceback)
        except TimeoutError as late:
            error = late
            raise
        finally:
            with self._recorder.guard("modules"):
                self._record(run, error)

    def __call__(self, function: Function) -> Function:
        """Decorate a function, sync or async: each call of it is a run. Raises TypeError for a generator."""
        if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
            raise TypeError(f"module {self.name!r} cannot decorate a generator: use `with` inside it, around one run")
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def run_async(*args: Any, **kwargs: Any) -> Any:
                async with self:
                    return await function(*args, **kwargs)

            return cast("Function", run_async)

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return cast("Function", run)

    def summary(self) -> dict[str, Any]:
        """Runs by outcome, how many go on now, when one last ended well (unix seconds), and the last error's kind."""
        with self._lock:
            return {
                **{f"{outcome}_runs": count for outcome, count in sorted(self._ended.items())},
                "running": len(self._runs.all()),
                "overdue": int(self._overdue()),
                "succeeded_at": self._last_success,
                "last_error": self._last_error,
            }

    def _record(self, run: "_Run", error: BaseException | None) -> None:
        seconds = self._clock() - run.started
        outcome = self._outcome(seconds, error)
        kind = error_type(error) or ("overrun" if outcome == "timeout" else "")
        self._recorder.child(families.MODULE_DURATION, self.name, outcome).observe(seconds)
        with self._lock:
            self._ended[outcome] = self._ended.get(outcome, 0) + 1
            if outcome == "success":
                self._last_success = time.time()
            elif outcome != "cancelled":
                self._last_error = kind
        if outcome == "success":
            self._recorder.child(families.MODULE_LAST_SUCCESS, self.name).set(time.time())
        elif outcome != "cancelled":
            self._recorder.child(families.MODULE_ERRORS, self.name, kind).inc()

    def _outcome(self, seconds: float, error: BaseException | None) -> Outcome:
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            return "cancelled"
        if isinstance(error, TimeoutError) or (self.timeout_seconds is not None and seconds > self.timeout_seconds):
            return "timeout"
        return "success" if error is None else "error"

    def _overdue(self) -> float:
        if self.timeout_seconds is None:
            return 0.0
        begun_before = self._clock() - self.timeout_seconds
        return float(sum(run.started < begun_before for run in self._runs.all()))


class _Run:
    __slots__ = ("limit", "started")

    def __init__(self, started: float) -> None:
        self.started = started
        self.limit: asyncio.Timeout | None = None


class Modules:
    """The background modules of an application, by name. Thread-safe."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._modules: dict[str, Module] = {}
        self._lock = threading.Lock()

    def module(self, name: str, *, timeout_seconds: float | None = None) -> Module:
        """The module of this name; the time-out of the first time counts."""
        with self._lock:
            if name not in self._modules:
                self._modules[name] = Module(self._recorder, name, timeout_seconds=timeout_seconds)
            return self._modules[name]

    def summary(self) -> dict[str, Any]:
        with self._lock:
            modules = list(self._modules.values())
        return {module.name: module.summary() for module in modules}
