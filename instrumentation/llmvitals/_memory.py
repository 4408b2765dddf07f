import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmvitals import catalogue
from llmvitals._recording import Recorder
from llmvitals._resident import resident_bytes

log = logging.getLogger("llmvitals")

BASELINE_AFTER_VARIABLE = "LLMVITALS_MEMORY_BASELINE_AFTER_SECONDS"
BASELINE_AFTER_SECONDS = 60.0
SAMPLE_SECONDS = 1.0
WINDOW_SECONDS = 120.0
# Before, a slope says more about the start than about growth.
LEAST_WINDOW_SECONDS = 10.0


class Memory:
    """The process's resident memory against what it was when the application had settled.

    The baseline is the median of the last samples at *baseline_after_seconds* after `start` (by default what the
    variable LLMVITALS_MEMORY_BASELINE_AFTER_SECONDS says, else 60). Growth is the slope over the last two minutes.
    """

    def __init__(
        self,
        recorder: Recorder,
        *,
        baseline_after_seconds: float | None = None,
        resident: Callable[[], int] = resident_bytes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._recorder = recorder
        self._baseline_after_seconds = (
            _from_environment() if baseline_after_seconds is None else max(baseline_after_seconds, 0.0)
        )
        self._resident = resident
        self._clock = clock
        self._started_at = clock()
        self._samples: deque[tuple[float, int]] = deque(maxlen=int(WINDOW_SECONDS / SAMPLE_SECONDS))
        self._baseline: float | None = None
        self._peak = 0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Sample once a second from now on, and show it."""
        self._started_at = self._clock()
        self.sample()
        self._recorder.read_at_scrape(catalogue.MEMORY_PEAK, read=lambda: float(self.peak_bytes))
        self._recorder.read_at_scrape(catalogue.PYTHON_ALLOCATED_BLOCKS, read=lambda: float(sys.getallocatedblocks()))
        self._thread = threading.Thread(target=self._run, name="llmvitals-memory", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(1.0)

    def sample(self) -> None:
        """Look once; takes the baseline when it is time. Called by the thread, or by a test with a clock of its own."""
        now, resident = self._clock(), self._resident()
        with self._lock:
            self._samples.append((now, resident))
            self._peak = max(self._peak, resident)
            take = self._baseline is None and now - self._started_at >= self._baseline_after_seconds
        if take:
            self.take_baseline()
        growth = self.growth_bytes_per_second
        if growth is not None:
            self._recorder.child(catalogue.MEMORY_GROWTH).set(growth)

    def take_baseline(self) -> None:
        """Call what is used now the baseline: also for an application that knows better when it has settled."""
        with self._lock:
            recent = sorted(resident for _, resident in list(self._samples)[-5:]) or [self._resident()]
            self._baseline = (recent[(len(recent) - 1) // 2] + recent[len(recent) // 2]) / 2
            baseline = self._baseline
        self._recorder.child(catalogue.MEMORY_BASELINE).set(baseline)
        self._recorder.read_at_scrape(catalogue.MEMORY_RATIO, read=lambda: self._resident() / (self._baseline or 1.0))
        log.info("llmvitals: memory baseline is %.1f MiB", baseline / 2**20)

    @property
    def baseline_bytes(self) -> float | None:
        return self._baseline

    @property
    def peak_bytes(self) -> int:
        """The highest value the kernel saw, where it tells; else the highest that was sampled."""
        return max(self._peak, _high_water_bytes() or 0) if self._resident is resident_bytes else self._peak

    @property
    def growth_bytes_per_second(self) -> float | None:
        """The slope of the samples of the last two minutes, or None while there are too few."""
        with self._lock:
            samples = list(self._samples)
        if len(samples) < 3 or samples[-1][0] - samples[0][0] < LEAST_WINDOW_SECONDS:
            return None
        import statistics  # noqa: PLC0415 -- 5 ms that the start need not cost

        return statistics.linear_regression([at for at, _ in samples], [resident for _, resident in samples]).slope

    def summary(self) -> dict[str, Any]:
        resident = self._resident()
        return {
            "resident_bytes": resident,
            "baseline_bytes": self._baseline,
            "baseline_ratio": None if not self._baseline else resident / self._baseline,
            "peak_bytes": self.peak_bytes,
            "growth_bytes_per_second": self.growth_bytes_per_second,
        }

    def _run(self) -> None:
        while not self._stopped.wait(SAMPLE_SECONDS):
            with self._recorder.guard("memory"):
                self.sample()


def _from_environment() -> float:
    text = os.environ.get(BASELINE_AFTER_VARIABLE, "").strip()
    if not text:
        return BASELINE_AFTER_SECONDS
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        log.warning("llmvitals: %s=%r is no number of seconds; %g is used", BASELINE_AFTER_VARIABLE, text, 60.0)
        return BASELINE_AFTER_SECONDS
    return seconds


def _high_water_bytes() -> int | None:
    """Linux's VmHWM. Not getrusage's: that one survives exec, and then speaks of the parent's peak."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return None
    return None
