"""Whether an event loop is late, and what makes it late.

A timer on the loop measures its delay. It cannot say who blocks the loop, nor anything at all while it is blocked, so a
thread beside it looks for the timer's sign of life, and when that is missing, at the stack of the loop's thread.
"""

import asyncio
import logging
import threading
import time
import traceback

from llmvitals import _python_families as families
from llmvitals import catalogue
from llmvitals._frames import current_frames
from llmvitals._paced import REST
from llmvitals._recording import Recorder

log = logging.getLogger("llmvitals")

PROBE_SECONDS = 0.1
BLOCKED_SECONDS = 0.25
TASKS_SECONDS = 2.0
_STACK_FRAMES = 30


class LoopWatch:
    """Watches one loop from the moment it is made, in that loop's thread, until `stop` or the loop's end."""

    def __init__(
        self,
        recorder: Recorder,
        loop: asyncio.AbstractEventLoop,
        *,
        name: str = "main",
        probe_seconds: float = PROBE_SECONDS,
        blocked_seconds: float = BLOCKED_SECONDS,
    ) -> None:
        self.name = name
        self.loop = loop
        self._recorder = recorder
        self._probe_seconds = probe_seconds
        self._blocked_seconds = blocked_seconds
        self._thread_id = threading.get_ident()
        self._alive_at = time.monotonic()
        self._tasks_at = 0.0
        self._handle: asyncio.TimerHandle | None = None
        # The sign of life after which a block was told, and how much of that block is counted.
        self._told_for = 0.0
        self._counted = 0.0
        # The loop did not run for a while: it is not late, it was not asked.
        self._paused = False
        self._counting = threading.Lock()
        self._stopped = threading.Event()
        self._watchdog = threading.Thread(target=self._watch, name=f"llmvitals-loop-{name}", daemon=True)
        # They start with 0: "was never blocked" is a fact from now on.
        self._blocked = recorder.child(catalogue.LOOP_BLOCKED, name)
        self._blocked_for = recorder.child(catalogue.LOOP_BLOCKED_SECONDS, name)
        self._lag = recorder.child(catalogue.LOOP_LAG, name)
        self._cpu = recorder.child(families.LOOP_CPU, name)
        self._cpu_seconds: float | None = None

    def start(self) -> None:
        """Call in the loop's thread."""
        self._schedule()
        self._watchdog.start()

    def stop(self) -> None:
        """From any thread. The timer on the loop ends by itself."""
        self._stopped.set()
        if self._watchdog.is_alive() and self._watchdog is not threading.current_thread():
            self._watchdog.join(1.0)
        self._recorder.forget(catalogue.LOOP_TASKS, self.name)

    @property
    def stopped(self) -> bool:
        """Whether the watch is over: by `stop`, or because its loop was closed."""
        return self._stopped.is_set()

    # --- on the loop --------------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        self._alive_at = time.monotonic()
        self._handle = self.loop.call_later(self._probe_seconds, self._probe, self._alive_at + self._probe_seconds)

    def _probe(self, due_at: float) -> None:
        if self._stopped.is_set():
            return
        now = time.monotonic()
        with self._recorder.guard("loop"):
            self._thread_id = threading.get_ident()
            if not self._paused:
                lag = max(now - due_at, 0.0)
                self._lag.observe(lag)
                if lag >= self._blocked_seconds:
                    self._count(self._alive_at, lag)
            self._paused = False
            self._count_cpu()
            if now >= self._tasks_at:
                # Not at every probe: it takes 2 ms with 10,000 tasks, and more with more.
                self._recorder.child(catalogue.LOOP_TASKS, self.name).set(len(asyncio.all_tasks(self.loop)))
                self._tasks_at = now + max(TASKS_SECONDS, (time.monotonic() - now) * REST)
        self._schedule()

    def _count_cpu(self) -> None:
        before, self._cpu_seconds = self._cpu_seconds, time.thread_time()
        # Less than before: the loop runs in another thread now.
        if before is not None and self._cpu_seconds >= before:
            self._cpu.inc(self._cpu_seconds - before)

    # --- beside it ----------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._stopped.wait(self._probe_seconds):
            if self.loop.is_closed():
                self._stopped.set()
                return
            if not self.loop.is_running():
                self._paused = True
                continue
            alive_at = self._alive_at
            silent = time.monotonic() - alive_at - self._probe_seconds
            if silent < self._blocked_seconds or self._paused:
                continue
            with self._recorder.guard("loop"):
                # Counted as it goes on: a block that never ends must show, too.
                if self._count(alive_at, silent):
                    self._tell(silent)

    def _count(self, alive_at: float, seconds: float) -> bool:
        """Count a block of *seconds* so far, since that sign of life, from either side; whether it is news."""
        with self._counting:
            news = self._told_for != alive_at
            if news:
                self._told_for, self._counted = alive_at, 0.0
                self._blocked.inc()
            self._blocked_for.inc(max(seconds - self._counted, 0.0))
            self._counted = max(seconds, self._counted)
            return news

    def _tell(self, silent: float) -> None:
        frame = current_frames().get(self._thread_id)
        stack = "".join(traceback.format_stack(frame, limit=None)[-_STACK_FRAMES:]) if frame is not None else ""
        log.warning(
            "llmvitals: event loop %s has been blocked for %.2f s; its thread is at:\n%s",
            self.name,
            silent,
            stack or "(its thread is gone)",
            extra={"loop": self.name, "blocked_seconds": silent},
        )


class LoopWatches:
    """The loops under watch. Thread-safe."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._watches: list[LoopWatch] = []
        self._lock = threading.Lock()

    def watch(
        self, *, name: str = "main", probe_seconds: float = PROBE_SECONDS, blocked_seconds: float = BLOCKED_SECONDS
    ) -> LoopWatch:
        """Watch the running loop. Raises RuntimeError when none runs here. The second time gives the first watch."""
        loop = asyncio.get_running_loop()
        with self._lock:
            self._watches = [watch for watch in self._watches if not watch.stopped]
            for watch in self._watches:
                if watch.loop is loop:
                    return watch
            watch = LoopWatch(
                self._recorder, loop, name=name, probe_seconds=probe_seconds, blocked_seconds=blocked_seconds
            )
            self._watches.append(watch)
        watch.start()
        return watch

    def close(self) -> None:
        with self._lock:
            watches, self._watches = self._watches, []
        for watch in watches:
            watch.stop()
