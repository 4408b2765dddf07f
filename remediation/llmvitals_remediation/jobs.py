"""Work that may block on somebody else, each piece in a thread of its own, each key at most once at a time."""

import logging
import threading
import time
from collections.abc import Callable

from llmvitals_remediation._metrics import Metrics

_log = logging.getLogger(__name__)


class Jobs:
    """Daemon threads: whoever hangs is left behind at exit, and what it did is found out after the next start."""

    def __init__(self, metrics: Metrics, done: Callable[[], None]) -> None:
        self._metrics = metrics
        self._done = done
        self._lock = threading.Lock()
        self._running: dict[str, threading.Thread] = {}
        self.stopping = threading.Event()

    def run(self, key: str, component: str, work: Callable[[], None]) -> bool:
        """Start *work* unless something under *key* runs already, or all is stopping; says whether it did."""
        with self._lock:
            if key in self._running or self.stopping.is_set():
                return False
            thread = threading.Thread(target=self._work, args=(key, component, work), name=key[:40], daemon=True)
            self._running[key] = thread
            thread.start()
        return True

    def runs(self, key: str) -> bool:
        with self._lock:
            return key in self._running

    def stop(self, timeout: float) -> None:
        """Start nothing more, and wait for what runs, *timeout* seconds in all."""
        self.stopping.set()
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            with self._lock:
                thread = next(iter(self._running.values()), None)
            if thread is None:
                return
            thread.join(0.05)

    def _work(self, key: str, component: str, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:  # noqa: BLE001 -- counted and logged with its trace
            # The rows say how far it came; the next pass of the engine picks it up from there.
            self._metrics.handler_errors.labels(component).inc()
            _log.exception("%s: %s failed", component, key)
        finally:
            with self._lock:
                del self._running[key]
            self._done()
