import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from llmvitals import _work_families as families
from llmvitals._recording import Recorder, error_type

log = logging.getLogger("llmvitals")

State = Literal["waiting", "running", "done", "failed"]


class Startup:
    """How an application comes up: its phases and their durations, what is loaded later, and when it was ready.

    Made by `Vitals.startup`. Progress is the share of *phases* that are done; a phase that was not announced joins
    them. Phases may run side by side, in threads and tasks.
    """

    def __init__(
        self, recorder: Recorder, phases: Sequence[str] = (), *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._recorder = recorder
        self._clock = clock
        self._started = clock()
        self._states: dict[str, State] = dict.fromkeys(phases, "waiting")
        self._seconds: dict[str, float] = {}
        self._lazy: dict[str, float] = {}
        self._total: float | None = None
        self._lock = threading.Lock()
        recorder.child(families.STARTUP_COMPLETE).set(0)
        self._show()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Around one phase, sync or async. One that raises has failed, and may be tried again."""
        self._set(name, "running")
        started = self._clock()
        try:
            yield
        except BaseException as error:
            self._ended(name, "failed", self._clock() - started)
            self._recorder.child(families.STARTUP_FAILURES, name, error_type(error)).inc()
            raise
        self._ended(name, "done", self._clock() - started)

    @contextmanager
    def lazy(self, name: str) -> Iterator[None]:
        """Around a load that was put off until it was needed: timed, and no part of the progress."""
        started = self._clock()
        error: BaseException | None = None
        try:
            yield
        except BaseException as raised:
            error = raised
            raise
        finally:
            seconds = self._clock() - started
            self._recorder.child(families.LAZY_LOAD_DURATION, name, error_type(error)).observe(seconds)
            with self._lock:
                if error is None and (name in self._lazy or len(self._lazy) < 200):
                    self._lazy[name] = round(seconds, 4)

    def ready(self) -> float:
        """The application is up: in how many seconds. The first time counts; the log tells what was not done."""
        with self._lock:
            if self._total is not None:
                return self._total
            total = self._total = self._clock() - self._started
            left = [name for name, state in self._states.items() if state != "done"]
            longest = sorted(self._seconds.items(), key=lambda phase: -phase[1])[:3]
        self._recorder.child(families.STARTUP_DURATION).set(total)
        self._recorder.child(families.STARTUP_COMPLETE).set(1)
        log.info(
            "llmvitals: ready after %.2f s; longest: %s%s",
            total,
            ", ".join(f"{name} {seconds:.2f} s" for name, seconds in longest) or "no phase",
            f"; not done: {', '.join(left)}" if left else "",
        )
        return total

    @property
    def progress(self) -> float:
        """From 0 to 1."""
        with self._lock:
            if self._total is not None or not self._states:
                return float(self._total is not None)
            return sum(state == "done" for state in self._states.values()) / len(self._states)

    def summary(self) -> dict[str, Any]:
        """Progress, the total in seconds (None before it is ready), and each phase's state and duration."""
        progress = self.progress
        with self._lock:
            return {
                "progress_ratio": round(progress, 4),
                "total_seconds": self._total,
                "phases": {
                    name: {"state": state, "seconds": self._seconds.get(name)} for name, state in self._states.items()
                },
                "lazy_loads_seconds": dict(self._lazy),
            }

    def _ended(self, name: str, state: State, seconds: float) -> None:
        with self._lock:
            self._seconds[name] = round(seconds, 4)
        self._recorder.child(families.STARTUP_PHASE_DURATION, name).set(seconds)
        self._set(name, state)

    def _set(self, name: str, state: State) -> None:
        with self._lock:
            if name in self._states or len(self._states) < 200:
                self._states[name] = state
        self._show()

    def _show(self) -> None:
        self._recorder.child(families.STARTUP_PROGRESS).set(self.progress)
