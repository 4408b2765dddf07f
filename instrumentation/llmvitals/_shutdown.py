"""The orderly end of an application: what is open is closed, in order and in time; nobody is waited for without end."""

import asyncio
import inspect
import itertools
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from llmvitals import _work_families as families
from llmvitals._awaiting import running_loop
from llmvitals._recording import Recorder
from llmvitals._telling import Level, Tell, tell_nobody

log = logging.getLogger("llmvitals")

Close = Callable[[], Awaitable[object] | object]
Task = TypeVar("Task", bound="asyncio.Task[Any]")

TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class ShutdownReport:
    """How an application's end went."""

    seconds: float
    closed: tuple[str, ...]
    """Names of resources, in the order in which they were closed."""
    failed: dict[str, str]
    """What a resource raised, or that it was not closed in time, by the resource's name."""
    tasks_finished: int
    tasks_cancelled: int
    tasks_left: int
    """Tasks that did not heed their cancellation."""

    @property
    def orderly(self) -> bool:
        """Whether everything was closed and every task ended."""
        return not self.failed and not self.tasks_left


class Shutdown:
    """Closes what was registered, the highest *priority* first, of one priority the latest first; made by
    `Vitals.shutdown`.

    Before that, background tasks get *task_seconds* to finish, and are cancelled then. It takes *timeout_seconds* at
    most: while others wait for their turn, one that hangs gets no more than half of the time that is left. What does
    not close is named in the log and in the report; the rest is closed all the same.
    """

    def __init__(
        self,
        recorder: Recorder,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        task_seconds: float = 5.0,
        tell: Tell = tell_nobody,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not timeout_seconds > 0 or not task_seconds >= 0:
            raise ValueError(
                "of shutdown, timeout_seconds must be above 0 and task_seconds at least 0, "
                f"not {timeout_seconds}, {task_seconds}"
            )
        self.timeout_seconds = timeout_seconds
        self.task_seconds = task_seconds
        self._recorder = recorder
        self._remember = tell
        self._clock = clock
        self._resources: dict[str, _Resource] = {}
        self._numbers = itertools.count()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._lock = threading.Lock()
        self._report: Future[ShutdownReport] | None = None
        recorder.child(families.SHUTDOWN_IN_PROGRESS).set(0)
        recorder.read_at_scrape(families.SHUTDOWN_RESOURCES, "registered", read=lambda: len(self._resources))
        recorder.read_at_scrape(families.SHUTDOWN_TASKS, "pending", read=lambda: len(self._pending()))

    def register(
        self, name: str, close: Close, *, priority: int = 0, timeout_seconds: float = 10.0, in_thread: bool = True
    ) -> None:
        """Have *close*, sync or async, called at the end. Raises ValueError for a name that is taken.

        A sync one runs in a thread, so that it can be given up after *timeout_seconds*; with *in_thread* off it runs
        where the shutdown runs, and nothing can interrupt it. An async one runs on the loop that runs here and now, or,
        when that has stopped, on the shutdown's.
        """
        with self._lock:
            if name in self._resources:
                raise ValueError(f"resource {name!r} is registered already")
            place = (-priority, -next(self._numbers))
            self._resources[name] = _Resource(name, close, place, timeout_seconds, in_thread, running_loop())

    def forget(self, name: str) -> None:
        """Nothing to close any more under this name."""
        with self._lock:
            self._resources.pop(name, None)

    def task(self, task: Task) -> Task:
        """Let *task* finish, or be cancelled, before anything is closed. Returns it."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    @property
    def begun(self) -> bool:
        """Whether the end has begun: a time to take no more work."""
        return self._report is not None

    def run(self) -> ShutdownReport:
        """Close everything, and say how it went. The second time gives the first report, once it is there.

        Raises RuntimeError inside of a running event loop, which it would block: there, await `arun`.
        """
        if running_loop() is not None:
            raise RuntimeError("shutdown.run() would block the event loop that runs here: use `await shutdown.arun()`")
        first, report = self._begin()
        if first:
            loop = asyncio.new_event_loop()
            try:
                # Not asyncio.run: it would wait for a closer that does not heed its cancellation.
                loop.run_until_complete(self._end(report))
            finally:
                loop.close()
        return report.result()

    async def arun(self) -> ShutdownReport:
        """Like `run`, on an event loop. Cancelled, it goes on to the end."""
        first, report = self._begin()
        if first:
            ending = asyncio.create_task(self._end(report), name="llmvitals-shutdown")
            await asyncio.shield(ending)
        return await asyncio.shield(asyncio.wrap_future(report))

    def on_signals(self, *numbers: int, then: Callable[[int], object] | None = None) -> None:
        """Begin the end at these signals (SIGTERM and SIGINT, when none is given). Nobody does it unless asked to.

        The closing runs in a thread, while the main thread goes on. Afterwards *then*(number) is called; without it the
        signal takes its course as if nobody had listened. A second signal takes it at once. Raises ValueError outside
        of the main thread.
        """
        from llmvitals._signals import end_on  # noqa: PLC0415 -- most applications have handlers of their own

        end_on(numbers, self.run, then)

    # --- the end ------------------------------------------------------------------------------------------------------

    def _begin(self) -> "tuple[bool, Future[ShutdownReport]]":
        with self._lock:
            first = self._report is None
            if self._report is None:
                self._report = Future()
            return first, self._report

    async def _end(self, report: "Future[ShutdownReport]") -> None:
        self._recorder.child(families.SHUTDOWN_IN_PROGRESS).set(1)
        started = self._clock()
        try:
            deadline = started + self.timeout_seconds
            finished, cancelled, left = await self._settle_tasks(deadline)
            closed, failed = await self._close_resources(deadline)
            made = ShutdownReport(self._clock() - started, tuple(closed), failed, finished, cancelled, left)
        except BaseException as error:
            report.set_exception(error)
            raise
        with self._recorder.guard("shutdown"):
            self._tell(made)
        report.set_result(made)

    async def _settle_tasks(self, deadline: float) -> tuple[int, int, int]:
        pending = self._pending() - {asyncio.current_task()}
        by_loop: dict[asyncio.AbstractEventLoop, set[asyncio.Task[Any]]] = {}
        for task in pending:
            by_loop.setdefault(task.get_loop(), set()).add(task)
        seconds = min(self.task_seconds, (deadline - self._clock()) / 2)
        # Of a loop that does not run, nobody can finish a task.
        settling = [_on_loop(loop, _settle(tasks, seconds)) for loop, tasks in by_loop.items() if loop.is_running()]
        if settling:
            await asyncio.wait([asyncio.ensure_future(waiting) for waiting in settling], timeout=seconds + 2)
        left = {task for task in pending if not task.done()}
        cancelled = {task for task in pending - left if task.cancelled()}
        for task in left:
            log.warning("llmvitals: task %s does not heed its cancellation", task.get_name())
        return len(pending) - len(left) - len(cancelled), len(cancelled), len(left)

    async def _close_resources(self, deadline: float) -> tuple[list[str], dict[str, str]]:
        with self._lock:
            waiting = sorted(self._resources.values(), key=lambda resource: resource.place)
        closed: list[str] = []
        failed: dict[str, str] = {}
        for behind, resource in zip(range(len(waiting) - 1, -1, -1), waiting, strict=True):
            begun = self._clock()
            left = max(deadline - begun, 0.0)
            seconds = min(resource.timeout_seconds, left / 2 if behind else left)
            error = await resource.closed(seconds)
            outcome = "success" if error is None else "timeout" if isinstance(error, _LateError) else "error"
            self._recorder.child(families.SHUTDOWN_CLOSE_DURATION, resource.name, outcome).observe(
                self._clock() - begun
            )
            if error is None:
                closed.append(resource.name)
            else:
                failed[resource.name] = f"{type(error).__name__}: {error}".removeprefix("_LateError: ")
                log.warning("llmvitals: %s was not closed: %s", resource.name, failed[resource.name])
        return closed, failed

    def _tell(self, report: ShutdownReport) -> None:
        child = self._recorder.child
        child(families.SHUTDOWN_RESOURCES, "closed").set(len(report.closed))
        child(families.SHUTDOWN_RESOURCES, "failed").set(len(report.failed))
        child(families.SHUTDOWN_TASKS, "finished").set(report.tasks_finished)
        child(families.SHUTDOWN_TASKS, "cancelled").set(report.tasks_cancelled)
        child(families.SHUTDOWN_TASKS, "left").set(report.tasks_left)
        child(families.SHUTDOWN_DURATION).set(report.seconds)
        child(families.SHUTDOWN_IN_PROGRESS).set(0)
        level: Level = "info" if report.orderly else "warning"
        self._remember("shutdown", "application", level=level, **asdict(report))
        log.info(
            "llmvitals: shut down in %.1f s: %d closed, %d failed; of the tasks, %d finished, %d cancelled, %d left",
            report.seconds,
            len(report.closed),
            len(report.failed),
            report.tasks_finished,
            report.tasks_cancelled,
            report.tasks_left,
        )

    def _pending(self) -> set[asyncio.Task[Any]]:
        return {task for task in list(self._tasks) if not task.done()}


class _LateError(Exception):
    """It was not closed in time."""


@dataclass(frozen=True, slots=True)
class _Resource:
    name: str
    close: Close
    place: tuple[int, int]
    timeout_seconds: float
    in_thread: bool
    loop: asyncio.AbstractEventLoop | None

    async def closed(self, seconds: float) -> BaseException | None:
        """Close it; what went wrong, or None."""
        closing = asyncio.ensure_future(self._close())
        await asyncio.wait([closing], timeout=seconds)
        if not closing.done():
            # Not awaited: it may not heed it, and others wait.
            closing.cancel()
            await asyncio.sleep(0)
            return _LateError(f"not closed within {seconds:.1f} s")
        return asyncio.CancelledError("its closing was cancelled") if closing.cancelled() else closing.exception()

    async def _close(self) -> None:
        direct = not self.in_thread or inspect.iscoroutinefunction(self.close)
        answer: Any = self.close() if direct else await asyncio.wrap_future(_in_thread(self.close, self.name))
        if inspect.isawaitable(answer):
            await _on_loop(self.loop, _awaited(answer))


def _in_thread(close: Close, name: str) -> "Future[object]":
    """Not a pool's thread: the interpreter would wait for that one, should it hang."""
    answer: Future[object] = Future()
    answer.set_running_or_notify_cancel()

    def work() -> None:
        try:
            answer.set_result(close())
        except BaseException as error:  # noqa: BLE001 -- the application's closer; the one who waits is told
            answer.set_exception(error)

    threading.Thread(target=work, name=f"llmvitals-close-{name}", daemon=True).start()
    return answer


def _on_loop(loop: asyncio.AbstractEventLoop | None, coroutine: Any) -> Awaitable[Any]:
    """Wait here for what has to run on *loop*; on this one, when that does not run."""
    if loop is None or not loop.is_running() or loop is asyncio.get_running_loop():
        here: asyncio.Future[Any] = asyncio.ensure_future(coroutine)
        return here
    return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, loop))


async def _awaited(answer: Awaitable[object]) -> object:
    return await answer


async def _settle(tasks: "set[asyncio.Task[Any]]", seconds: float) -> None:
    _, pending = await asyncio.wait(tasks, timeout=seconds)
    for task in pending:
        task.cancel()
    if pending:
        await asyncio.wait(pending, timeout=1.0)
