import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from typing import Generic, Literal, TypeVar

from llmvitals import _work_families as families
from llmvitals._pools import Pool
from llmvitals._recording import Recorder

Thing = TypeVar("Thing")


class ObjectPool(Generic[Thing]):
    """Things that are dear to make, made when they are needed, at most so many, and used again. Made by
    `Vitals.object_pool`.

    `with pool.take() as thing:` in threads, `async with pool.atake() as thing:` on event loops; both may share one
    pool. Who waits is served in turn. One that comes back by an exception counts as broken, and is closed. *make* and
    *close* are called where the pool is used, so they should not block an event loop for long.
    """

    def __init__(
        self,
        recorder: Recorder,
        pool: Pool,
        make: Callable[[], Thing],
        *,
        close: Callable[[Thing], object] | None = None,
        idle_seconds: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not idle_seconds > 0:
            raise ValueError(f"idle_seconds of pool {pool.name!r} must be above 0, not {idle_seconds}")
        self.name = pool.name
        self.idle_seconds = idle_seconds
        self._recorder = recorder
        self._pool = pool
        self._make = make
        self._close = close
        self._clock = clock
        self._lock = threading.Lock()
        # The one that was used last is taken first, so that those too many grow old.
        self._idle: list[tuple[float, Thing]] = []
        self._waiting: deque[Future[None]] = deque()
        self._used = 0
        self._closed = False
        recorder.child(families.POOL_CREATED, self.name)
        for reason in ("idle", "broken", "closed"):
            recorder.child(families.POOL_CLOSED, self.name, reason)

    @contextmanager
    def take(self, timeout_seconds: float | None = None) -> Iterator[Thing]:
        """Around the use of one. Raises TimeoutError when none is free in that time, RuntimeError after `close`."""
        turn = self._turn()
        try:
            with self._pool.waiting():
                turn.result(timeout_seconds)
        except BaseException:
            self._leave(turn)
            raise
        with self._lent() as thing:
            yield thing

    @asynccontextmanager
    async def atake(self) -> AsyncIterator[Thing]:
        """Like `take`, on an event loop; for a time-out, use `asyncio.timeout`."""
        turn = self._turn()
        try:
            with self._pool.waiting():
                if not turn.done():
                    await asyncio.wrap_future(turn)
                turn.result()
        except BaseException:
            self._leave(turn)
            raise
        with self._lent() as thing:
            yield thing

    @contextmanager
    def _lent(self) -> Iterator[Thing]:
        """Around the use of one whose turn has come; what an error was raised beside is broken."""
        thing = self._taken()
        broken = True
        try:
            yield thing
            broken = False
        finally:
            self._back(thing, broken=broken)

    def close_idle(self, older_than_seconds: float | None = None) -> int:
        """Close those that nobody has used for so long, by default *idle_seconds*; how many."""
        before = self._clock() - (self.idle_seconds if older_than_seconds is None else older_than_seconds)
        with self._lock:
            old = [thing for since, thing in self._idle if since <= before]
            self._idle = [kept for kept in self._idle if kept[0] > before]
        self._discard(old, "idle")
        return len(old)

    def close(self) -> None:
        """Close all that are idle now, and those in use when they come back. Who waits, and who comes, is refused."""
        with self._lock:
            self._closed = True
            idle, self._idle = [thing for _, thing in self._idle], []
            waiting, self._waiting = list(self._waiting), deque()
        for turn in waiting:
            if turn.set_running_or_notify_cancel():
                turn.set_exception(self._refusal())
        self._discard(idle, "closed")

    def __len__(self) -> int:
        """How many there are, idle and in use."""
        with self._lock:
            return len(self._idle) + self._used

    def _turn(self) -> "Future[None]":
        """A turn, which is had when it is done."""
        turn: Future[None] = Future()
        with self._lock:
            if self._closed:
                raise self._refusal()
            if self._used < self._pool.max_size:
                self._used += 1
                turn.set_result(None)
            else:
                self._waiting.append(turn)
        return turn

    def _leave(self, turn: "Future[None]") -> None:
        """Nobody waits for *turn* any more; if it was given all the same, the next one has it."""
        with self._lock:
            if turn in self._waiting:
                self._waiting.remove(turn)
                return
            given = turn.done() and not turn.cancelled() and turn.exception() is None
        if given:
            self._free()

    def _free(self) -> None:
        with self._lock:
            while self._waiting:
                turn = self._waiting.popleft()
                if turn.set_running_or_notify_cancel():
                    turn.set_result(None)
                    return
            self._used -= 1

    def _taken(self) -> Thing:
        with self._lock:
            found = self._idle.pop()[1:] if self._idle else ()
        try:
            thing = found[0] if found else self._made()
        except BaseException:
            self._free()
            raise
        self._pool.acquire()
        self._show_idle()
        return thing

    def _made(self) -> Thing:
        thing = self._make()
        self._recorder.child(families.POOL_CREATED, self.name).inc()
        return thing

    def _back(self, thing: Thing, *, broken: bool) -> None:
        with self._lock:
            keep = not broken and not self._closed
            if keep:
                self._idle.append((self._clock(), thing))
        self._pool.release()
        self._show_idle()
        self._free()
        if not keep:
            self._discard([thing], "broken" if broken else "closed")

    def _discard(self, things: list[Thing], reason: Literal["idle", "broken", "closed"]) -> None:
        self._show_idle()
        for thing in things:
            self._recorder.child(families.POOL_CLOSED, self.name, reason).inc()
            if self._close is not None:
                # It is of no more use; that it cannot even be closed must not fail who used it.
                with self._recorder.guard("pools"):
                    self._close(thing)

    def _show_idle(self) -> None:
        with self._lock:
            self._pool.set_idle(len(self._idle))

    def _refusal(self) -> RuntimeError:
        return RuntimeError(f"pool {self.name!r} is closed")
