"""What has to be tidied now and then: expired entries, idle users, idle connections, stuck batches, and one's own."""

import logging
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sized
from typing import Any

from llmvitals import _work_families as families
from llmvitals._awaiting import running_loop, settled
from llmvitals._recording import Recorder, error_type
from llmvitals._telling import Tell, tell_nobody

log = logging.getLogger("llmvitals")

Clean = Callable[[], Awaitable[object] | object]

# In seconds. Every other one that has nothing to do here and now costs a few microseconds.
INTERVALS = {"expired_cache_entries": 60.0, "idle_users": 300.0, "idle_connections": 300.0, "stuck_batches": 30.0}


class CleanUp:
    """One clean-up, run in a thread of its own every *interval_seconds*, the first time after one of them.

    What *clean* returns says how many things it removed: a number, or what they are. It may be async: then it is
    awaited on the loop that ran when the clean-up was made, or, when none did, on a private one, for an interval and
    60 s at least. What it raises is logged, counted, and tried again the next time.
    """

    def __init__(
        self, recorder: Recorder, name: str, clean: Clean, *, interval_seconds: float, tell: Tell = tell_nobody
    ) -> None:
        if not interval_seconds > 0:
            raise ValueError(f"interval_seconds of clean-up {name!r} must be above 0, not {interval_seconds}")
        self.name = name
        self.interval_seconds = interval_seconds
        self._recorder = recorder
        self._tell = tell
        self._clean = clean
        self._loop = running_loop()
        self._runs = 0
        self._removed = 0
        self._error: str | None = None
        self._seconds: float | None = None
        self._ran_at: float | None = None
        self._turn = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"llmvitals-cleanup-{name}", daemon=True)
        recorder.child(families.CLEANUP_INTERVAL, name).set(interval_seconds)
        recorder.child(families.CLEANUP_REMOVED, name)

    def start(self) -> None:
        """Run from now on; `Vitals.cleanup` has done this already."""
        self._thread.start()

    def stop(self, timeout: float = 0.0) -> None:
        """Run no more; a run under way is waited for, *timeout* seconds at most."""
        self._stopped.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def run_once(self) -> int:
        """Clean here and now; how many things were removed. Raises what the clean-up raises."""
        with self._turn:
            started = time.perf_counter()
            try:
                removed = _count(settled(self._clean(), self._loop, max(self.interval_seconds, 60.0)))
            except BaseException as error:
                self._record(time.perf_counter() - started, 0, error)
                raise
            self._record(time.perf_counter() - started, removed, None)
            return removed

    def summary(self) -> dict[str, Any]:
        """Its interval, when it ran last (unix seconds), how long that took, what it removed in all, its last error."""
        return {
            "interval_seconds": self.interval_seconds,
            "runs": self._runs,
            "removed": self._removed,
            "ran_at": self._ran_at,
            "duration_seconds": self._seconds,
            "error": self._error,
        }

    def _record(self, seconds: float, removed: int, error: BaseException | None) -> None:
        with self._recorder.guard("cleanups"):
            was = self._error
            self._error = None if error is None else f"{type(error).__name__}: {error}"
            self._runs, self._removed = self._runs + 1, self._removed + removed
            self._seconds, self._ran_at = seconds, time.time()
            child = self._recorder.child
            child(families.CLEANUP_DURATION, self.name, error_type(error)).observe(seconds)
            child(families.CLEANUP_LAST_RUN, self.name).set(self._ran_at)
            child(families.CLEANUP_REMOVED, self.name).inc(removed)
            if error is not None and was is None:
                self._tell("cleanup", self.name, level="warning", error=self._error)
                log.warning("llmvitals: clean-up %s fails: %s", self.name, self._error)

    def _run(self) -> None:
        while not self._stopped.wait(self.interval_seconds):
            try:
                self.run_once()
            except Exception:
                log.debug("llmvitals: clean-up %s failed", self.name, exc_info=True)


class CleanUps:
    """The clean-ups of an application. Thread-safe."""

    def __init__(self, recorder: Recorder, built_in: Mapping[str, Clean], *, tell: Tell = tell_nobody) -> None:
        """*built_in* are those that the library can do itself, by the names of `INTERVALS`."""
        self._recorder = recorder
        self._tell = tell
        self._built_in = built_in
        self._jobs: dict[str, CleanUp] = {}
        self._lock = threading.Lock()

    def add(self, name: str, clean: Clean | None, *, interval_seconds: float | None, start: bool) -> CleanUp:
        """Raises ValueError for a name that is taken, and for one without *clean* that is not built in."""
        if clean is None:
            clean = self._built_in.get(name)
        if clean is None:
            raise ValueError(f"clean-up {name!r} needs a function; built in are {', '.join(sorted(self._built_in))}")
        seconds = INTERVALS.get(name, 60.0) if interval_seconds is None else interval_seconds
        with self._lock:
            if name in self._jobs:
                raise ValueError(f"clean-up {name!r} is registered already")
            job = self._jobs[name] = CleanUp(self._recorder, name, clean, interval_seconds=seconds, tell=self._tell)
        if start:
            job.start()
        return job

    def summary(self) -> dict[str, Any]:
        with self._lock:
            jobs = list(self._jobs.values())
        return {job.name: job.summary() for job in jobs}

    def close(self) -> None:
        """Stop them all; one that runs is waited for, half a second in all."""
        with self._lock:
            jobs = list(self._jobs.values())
        for job in jobs:
            job.stop()
        deadline = time.monotonic() + 0.5
        for job in jobs:
            job.stop(max(deadline - time.monotonic(), 0.0))


def _count(answer: object) -> int:
    if isinstance(answer, int | float):
        return max(int(answer), 0)
    return len(answer) if isinstance(answer, Sized) else 0
