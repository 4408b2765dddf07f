"""Steps of an agentic application around its calls: a tool's execution, an agent's invocation, a workflow's run."""

import inspect
from collections.abc import Callable
from functools import partial, wraps
from time import perf_counter
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from llmvitals._family import Family
from llmvitals._nesting import Nesting
from llmvitals._recording import Recorder, error_type
from llmvitals._streams import relay_async

Function = TypeVar("Function", bound=Callable[..., Any])


class Step:
    """One tool, agent or workflow, each run of it timed; made by `Vitals.tool`, `Vitals.agent`, `Vitals.workflow`.

    A context manager and a decorator, each sync and async, that may be entered many times at once, from threads and
    tasks. Where a run begins in one place and ends in another, use `start` and `finish`, with a step for each run.
    """

    __slots__ = ("_begun", "_family", "_recorder", "_runs", "name")

    def __init__(self, recorder: Recorder, family: Family, name: str) -> None:
        self.name = name
        self._recorder = recorder
        self._family = family
        self._runs: Nesting[float] = Nesting()
        # Holds one item from start to finish; who pops it, ends the run. Popping is atomic, so there is one such.
        self._begun: list[float] = []

    def start(self) -> Self:
        """Begin a run now, to be ended by `finish`, in any thread. Does nothing while one goes on."""
        if not self._begun:
            self._begun.append(perf_counter())
        return self

    def finish(self, error: BaseException | None = None) -> None:
        """End what `start` began, with the *error* that ended it if there was one. The second time does nothing."""
        try:
            started = self._begun.pop()
        except IndexError:
            return
        self._ended(started, error)

    def __enter__(self) -> Self:
        self._runs.enter(perf_counter())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        started = self._runs.leave()
        if started is not None:
            self._ended(started, error)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __call__(self, function: Function) -> Function:
        """Decorate a function, sync or async: each use of it is a run. A generator's run lasts to its end."""
        if inspect.isgeneratorfunction(function):

            @wraps(function)
            def generating(*args: Any, **kwargs: Any) -> Any:
                with self._run():
                    return (yield from function(*args, **kwargs))

            return cast("Function", generating)

        if inspect.isasyncgenfunction(function):
            return cast("Function", relay_async(function, function, around=self._run))

        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def run_async(*args: Any, **kwargs: Any) -> Any:
                with self._run():
                    return await function(*args, **kwargs)

            return cast("Function", run_async)

        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            with self._run():
                return function(*args, **kwargs)

        return cast("Function", run)

    # --- Inside ---------------------------------------------------------------------------------------------------

    def _run(self) -> "Step":
        """A step of its own for one run, so that a generator may be left in another context than it was entered in."""
        return Step(self._recorder, self._family, self.name)

    def _ended(self, started: float, error: BaseException | None) -> None:
        seconds = perf_counter() - started
        if isinstance(error, GeneratorExit):
            # Its consumer has had enough, which is no error. It may be the garbage collector at work: record soon.
            self._recorder.later(partial(self._record, seconds, ""))
            return
        with self._recorder.guard("steps"):
            self._record(seconds, error_type(error))

    def _record(self, seconds: float, ended: str) -> None:
        self._recorder.child(self._family, self.name, ended).observe(seconds)
