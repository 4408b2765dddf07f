import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, Literal, TypeVar

from llmvitals import _work_families as families
from llmvitals import catalogue
from llmvitals._recording import Recorder

Item = TypeVar("Item")
Priority = Literal["normal", "high"]
Trigger = Literal["size", "time", "priority", "shutdown"]


class Batcher(Generic[Item]):
    """Gathers items and hands them to *flush* together: when there are enough, when the first has waited long enough,
    or at once when an urgent one comes. For one event loop at a time.

    `put` returns when the item's batch is flushed, and raises what *flush* raised for it: the waiters learn of it, the
    batcher goes on. Batches of normal items are flushed one after the other, in order; an urgent item goes at once with
    all that waits, itself in front, even while another flush runs. A flush that takes longer than *flush_seconds* is
    cancelled, so that one stuck batch does not hold up all that follow.
    """

    def __init__(
        self,
        recorder: Recorder,
        name: str,
        flush: Callable[[list[Item]], Awaitable[object] | object],
        *,
        max_items: int = 10,
        most_items: int | None = None,
        max_wait_seconds: float = 0.1,
        flush_seconds: float = 30.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.name = name
        self.max_items = max_items
        self.most_items = max_items if most_items is None else most_items
        if self.most_items < max_items:
            raise ValueError(
                f"most_items of batcher {name!r} must be at least max_items, {max_items}, not {most_items}"
            )
        self.max_wait_seconds = max_wait_seconds
        self.flush_seconds = flush_seconds
        self._recorder = recorder
        self._flush = flush
        self._clock = clock
        self._waiting: list[_Waiting[Item]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._in_order: asyncio.Lock | None = None
        # With the batch of each, and since when it is being handed over.
        self._flushes: dict[asyncio.Task[None], _Flush[Item]] = {}
        # Items of batches whose turn has not come, because an earlier one is still being handed over.
        self._behind = 0
        self._closed = False
        recorder.child(catalogue.BATCH_QUEUE_DEPTH, name).set(0)
        recorder.read_at_scrape(families.BATCH_MAX_ITEMS, name, read=lambda: self.limit)

    @property
    def limit(self) -> int:
        """How many items make a batch now: *max_items*, or, under load, up to *most_items*."""
        return max(self._limit, self._max_items)

    @property
    def max_items(self) -> int:
        """May be changed at any time: a tunable for the size under load."""
        return self._max_items

    @max_items.setter
    def max_items(self, value: int) -> None:
        if value < 1:
            raise ValueError(f"max_items of batcher {self.name!r} must be at least 1, not {value}")
        self._max_items = self._limit = value

    @property
    def max_wait_seconds(self) -> float:
        """How long the first item of a batch waits for company. May be changed at any time."""
        return self._max_wait_seconds

    @max_wait_seconds.setter
    def max_wait_seconds(self, value: float) -> None:
        if not value >= 0:
            raise ValueError(f"max_wait_seconds of batcher {self.name!r} must be at least 0, not {value}")
        self._max_wait_seconds = value

    async def put(self, item: Item, *, priority: Priority = "normal") -> None:
        """Wait until *item* is flushed. Cancelled before that, it is taken back; during it, the flush goes on.
        Raises RuntimeError after `close`.
        """
        if priority not in ("normal", "high"):
            raise ValueError(f"priority must be 'normal' or 'high', not {priority!r}")
        if self._closed:
            raise RuntimeError(f"batcher {self.name!r} is closed")
        loop = self._bind()
        waiting = _Waiting(item, loop.create_future(), self._clock(), urgent=priority == "high")
        self._waiting.append(waiting)
        self._recorder.child(catalogue.BATCH_ITEMS, self.name, priority).inc()
        if waiting.urgent:
            self._start_flush("priority")
        elif len(self._waiting) >= self.limit:
            self._start_flush("size")
        elif self._timer is None:
            self._timer = loop.call_later(self.max_wait_seconds, self._start_flush, "time")
        self._show_depth()
        try:
            await waiting.flushed
        except asyncio.CancelledError:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
                self._show_depth()
            raise

    async def close(self) -> None:
        """Flush what waits and wait for the flushes that run. What they raise, their waiters get."""
        self._closed = True
        if self._waiting:
            self._start_flush("shutdown")
        while self._flushes:
            await asyncio.gather(*self._flushes, return_exceptions=True)

    def release_stuck(self, older_than_seconds: float = 30.0) -> int:
        """Cancel flushes that run for longer than that, flush what waits for longer; how many items it was about.

        The waiters of a cancelled flush get TimeoutError. Call it in a thread: it waits for the loop, 5 s at most.
        """
        loop = self._loop
        if loop is None:
            return 0
        if loop.is_closed():
            left, self._waiting, self._behind = len(self._waiting), [], 0
            self._show_depth()
            return left
        return asyncio.run_coroutine_threadsafe(self._release_stuck(older_than_seconds), loop).result(5.0)

    async def _release_stuck(self, seconds: float) -> int:
        before, released = self._clock() - seconds, 0
        for task, flush in list(self._flushes.items()):
            if flush.since is None or flush.since >= before:
                continue
            for waiting in flush.batch:
                if not waiting.flushed.done():
                    waiting.flushed.set_exception(
                        TimeoutError(f"a flush of batcher {self.name!r} was stuck for more than {seconds:g} s")
                    )
                    released += 1
            task.cancel()
        waits = sum(waiting.since < before for waiting in self._waiting)
        if waits:
            self._start_flush("time")
        return released + waits

    def _bind(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            if self._loop is not None and not self._loop.is_closed() and (self._waiting or self._flushes):
                raise RuntimeError(f"batcher {self.name!r} still has items of another event loop")
            # What a closed loop left behind can be neither flushed nor told.
            self._loop, self._timer, self._waiting, self._flushes = loop, None, [], {}
            self._behind = 0
            self._in_order = asyncio.Lock()
        return loop

    def _start_flush(self, trigger: Trigger) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # Urgent ones in front; otherwise as they came.
        batch = sorted(self._waiting, key=lambda waiting: not waiting.urgent)
        self._waiting = []
        self._adapt(len(batch), trigger)
        if not batch or self._loop is None:
            self._show_depth()
            return
        self._behind += len(batch)
        self._show_depth()
        flush = _Flush(batch)
        task = self._loop.create_task(self._run(flush, trigger), name=f"llmvitals-flush-{self.name}")
        flushes = self._flushes
        flushes[task] = flush

        def ended(done: asyncio.Task[None]) -> None:
            if flushes.pop(done, None) and flush.since is None and flushes is self._flushes:
                self._behind -= len(batch)
                self._show_depth()

        task.add_done_callback(ended)

    def _adapt(self, items: int, trigger: Trigger) -> None:
        if trigger == "size" and self._flushes:
            # What it is handed to is behind: fewer and larger batches cost it less.
            self._limit = min(self.limit + (self.limit + 1) // 2, max(self.most_items, self._max_items))
        elif trigger == "time" and items * 2 < self.limit:
            self._limit = max(self.limit * 2 // 3, self._max_items)

    async def _run(self, flush: "_Flush[Item]", trigger: Trigger) -> None:
        batch = flush.batch
        error: BaseException | None = None
        try:
            if trigger == "priority" or self._in_order is None:
                await self._hand_over(flush, trigger)
            else:
                async with self._in_order:
                    await self._hand_over(flush, trigger)
        except asyncio.CancelledError:
            # The loop is being shut down: whoever waits must not wait for ever.
            for waiting in batch:
                waiting.flushed.cancel()
            raise
        except Exception as fault:  # noqa: BLE001 -- the application's flush; its waiters are told
            error = fault
        for waiting in batch:
            if waiting.flushed.done():
                continue
            if error is None:
                waiting.flushed.set_result(None)
            else:
                waiting.flushed.set_exception(error)

    async def _hand_over(self, flush: "_Flush[Item]", trigger: Trigger) -> None:
        batch = flush.batch
        now = flush.since = self._clock()
        self._behind -= len(batch)
        self._show_depth()
        wait = self._recorder.child(catalogue.BATCH_WAIT, self.name)
        for waiting in batch:
            wait.observe(now - waiting.since)
        self._recorder.child(catalogue.BATCH_SIZE, self.name).observe(len(batch))
        self._recorder.child(catalogue.BATCH_FLUSHES, self.name, trigger).inc()
        try:
            async with asyncio.timeout(self.flush_seconds) as limit:
                flushed: Any = self._flush([waiting.item for waiting in batch])
                if inspect.isawaitable(flushed):
                    await flushed
        except TimeoutError:
            if limit.expired():
                raise TimeoutError(
                    f"a flush of batcher {self.name!r} took longer than {self.flush_seconds:g} s"
                ) from None
            raise

    def _show_depth(self) -> None:
        self._recorder.child(catalogue.BATCH_QUEUE_DEPTH, self.name).set(len(self._waiting) + self._behind)


class _Waiting(Generic[Item]):
    __slots__ = ("flushed", "item", "since", "urgent")

    def __init__(self, item: Item, flushed: "asyncio.Future[None]", since: float, *, urgent: bool) -> None:
        self.item = item
        self.flushed = flushed
        self.since = since
        self.urgent = urgent


class _Flush(Generic[Item]):
    __slots__ = ("batch", "since")

    def __init__(self, batch: "Sequence[_Waiting[Item]]") -> None:
        self.batch = batch
        self.since: float | None = None
