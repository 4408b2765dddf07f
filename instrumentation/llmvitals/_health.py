import logging
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

from llmvitals import catalogue
from llmvitals._awaiting import running_loop, settled
from llmvitals._recording import Recorder
from llmvitals._telling import Tell, tell_nobody

log = logging.getLogger("llmvitals")

Check = Callable[[], Awaitable[object] | object]


class HealthCheck:
    """One check, run in a thread of its own every *interval_seconds*.

    It passes when *check* returns and what it returns is not False; it fails when it raises, returns False, or takes
    longer than *timeout_seconds*. What it returns to be awaited is awaited on the loop that ran when the check was
    made, or, when none did, on a private one.
    """

    def __init__(
        self,
        recorder: Recorder,
        name: str,
        check: Check,
        *,
        interval_seconds: float = 5.0,
        timeout_seconds: float | None = None,
        tell: Tell = tell_nobody,
    ) -> None:
        if not interval_seconds > 0:
            raise ValueError(f"interval_seconds of health check {name!r} must be above 0, not {interval_seconds}")
        self.name = name
        self._recorder = recorder
        self._tell = tell
        self._check = check
        self._interval_seconds = interval_seconds
        self._timeout_seconds = timeout_seconds if timeout_seconds is not None else max(interval_seconds, 5.0)
        self._loop = running_loop()
        self._running_since: float | None = None
        self._healthy: bool | None = None
        self._error: str | None = None
        self._seconds: float | None = None
        self._checked_at: float | None = None
        self._passed_at: float | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"llmvitals-health-{name}", daemon=True)

    def start(self) -> None:
        """Run from now on; `Vitals.health_check` has done this already."""
        self._thread.start()

    def stop(self, timeout: float = 0.0) -> None:
        """Run no more; a run under way is waited for, *timeout* seconds at most."""
        self._stopped.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    @property
    def healthy(self) -> bool | None:
        """None before the first run has ended. A run that hangs is a failure as soon as its time is over."""
        since = self._running_since
        if since is not None and time.monotonic() - since > self._timeout_seconds:
            return False
        return self._healthy

    def summary(self) -> dict[str, Any]:
        """Status, duration, the last error, and when it ran and passed last (unix seconds)."""
        return {
            "healthy": self.healthy,
            "duration_seconds": self._seconds,
            "error": self._error,
            "checked_at": self._checked_at,
            "passed_at": self._passed_at,
        }

    def run_once(self) -> bool:
        """Run the check here and now; whether it passed."""
        started = self._running_since = time.monotonic()
        try:
            self._ask()
            error = None
        except Exception as fault:  # noqa: BLE001 -- the application's check: whatever it raises means "not healthy"
            error = f"{type(fault).__name__}: {fault}"
        seconds = time.monotonic() - started
        if error is None and seconds > self._timeout_seconds:
            error = f"it took {seconds:.1f} s; {self._timeout_seconds:g} s are allowed"
        self._record(error, seconds)
        self._running_since = None
        return error is None

    def _record(self, error: str | None, seconds: float) -> None:
        first, was = self._healthy is None, self._healthy
        self._healthy, self._error, self._seconds, self._checked_at = error is None, error, seconds, time.time()
        if error is None:
            self._passed_at = self._checked_at
        self._recorder.child(catalogue.HEALTH_DURATION, self.name).observe(seconds)
        if first:
            # Not before there is a result: a gauge that starts with 0 would say "down" of what nobody has looked at.
            self._recorder.read_at_scrape(catalogue.HEALTH_STATUS, self.name, read=lambda: float(bool(self.healthy)))
        if error is not None and was is not False:
            self._tell("health_check", self.name, level="critical", healthy=False, error=error)
            log.warning("llmvitals: health check %s fails: %s", self.name, error)
        elif error is None and was is False:
            self._tell("health_check", self.name, healthy=True)
            log.info("llmvitals: health check %s passes again", self.name)

    def _ask(self) -> None:
        if self._loop is not None and self._loop.is_closed():
            raise _FailedError("the event loop of the check is closed")
        if settled(self._check(), self._loop, self._timeout_seconds) is False:
            raise _FailedError("the check returned False")

    def _run(self) -> None:
        while not self._stopped.is_set():
            with self._recorder.guard("health"):
                self.run_once()
            self._stopped.wait(self._interval_seconds)


class HealthChecks:
    """The health checks of an application. Thread-safe."""

    def __init__(self, recorder: Recorder, *, tell: Tell = tell_nobody) -> None:
        self._recorder = recorder
        self._tell = tell
        self._checks: dict[str, HealthCheck] = {}
        self._lock = threading.Lock()

    def add(
        self,
        name: str,
        check: Check,
        *,
        interval_seconds: float = 5.0,
        timeout_seconds: float | None = None,
        start: bool = True,
    ) -> HealthCheck:
        """Raises ValueError for a name that is taken."""
        with self._lock:
            if name in self._checks:
                raise ValueError(f"health check {name!r} is registered already")
            added = self._checks[name] = HealthCheck(
                self._recorder,
                name,
                check,
                interval_seconds=interval_seconds,
                timeout_seconds=timeout_seconds,
                tell=self._tell,
            )
        if start:
            added.start()
        return added

    def summary(self) -> dict[str, dict[str, Any]]:
        with self._lock:
            checks = list(self._checks.values())
        return {check.name: check.summary() for check in checks}

    def close(self) -> None:
        """Stop them all; one that runs is waited for, half a second in all."""
        with self._lock:
            checks = list(self._checks.values())
        for check in checks:
            check.stop()
        deadline = time.monotonic() + 0.5
        for check in checks:
            check.stop(max(deadline - time.monotonic(), 0.0))


class _FailedError(Exception):
    """A check that did not raise, but did not pass."""
