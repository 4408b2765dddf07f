import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

_RUNS = 200
_NAMES = 200


class Performance:
    """How an operation did lately: its last 200 runs of the last five minutes. Thread-safe."""

    __slots__ = ("_clock", "_level", "_runs", "target_seconds")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.target_seconds: float | None = None
        self._clock = clock
        self._level: str | None = None
        self._runs: deque[tuple[float, float, bool]] = deque(maxlen=_RUNS)

    def add(self, seconds: float, *, failed: bool) -> None:
        """One run has ended."""
        self._runs.append((self._clock(), seconds, failed))

    def new_level(self, level: str, level_of: Callable[[float], str]) -> tuple[str, str] | None:
        """The former and the present level, when that has changed with a run of *level*: of the median of the last ten,
        because one run is no change.
        """
        if level == self._level or len(self._runs) < 10:
            return None
        latest = sorted(seconds for _, seconds, _ in itertools.islice(reversed(self._runs.copy()), 10))
        now = level_of(latest[4])
        before, self._level = self._level, now
        return (before, now) if before is not None and before != now else None

    def summary(self) -> dict[str, Any]:
        """Runs looked at, their mean and 95th percentile in seconds, the share that failed, and the target."""
        since = self._clock() - 300.0
        runs = [(seconds, failed) for at, seconds, failed in self._runs.copy() if at >= since]
        seconds = sorted(took for took, _ in runs)
        return {
            "runs": len(runs),
            "mean_seconds": round(sum(seconds) / len(seconds), 6) if runs else None,
            "p95_seconds": round(seconds[min(int(len(seconds) * 0.95), len(seconds) - 1)], 6) if runs else None,
            "error_ratio": round(sum(failed for _, failed in runs) / len(runs), 4) if runs else None,
            "target_seconds": self.target_seconds,
        }


class Performances:
    """By operation; of more than 200 names the later ones are not kept, as their metrics are folded, too."""

    def __init__(self) -> None:
        self._by_name: dict[str, Performance] = {}
        self._lock = threading.Lock()

    def of(self, name: str, target_seconds: float | None) -> Performance:
        performance = self._by_name.get(name)
        if performance is None:
            with self._lock:
                performance = self._by_name.get(name) or Performance()
                if len(self._by_name) < _NAMES:
                    self._by_name[name] = performance
        if target_seconds is not None:
            performance.target_seconds = target_seconds
        return performance

    def summary(self) -> dict[str, Any]:
        with self._lock:
            performances = dict(self._by_name)
        return {name: performance.summary() for name, performance in performances.items()}
