import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType, TracebackType
from typing import Any, Self

from llmvitals import catalogue
from llmvitals._recording import Recorder


class Pool:
    """What is known of a pool that the application keeps: connections, sockets, workers. Thread-safe.

    It counts, and limits nothing. `with pool:` is `acquire` and `release`; `with pool.waiting():` goes around the wait
    for a free one.
    """

    def __init__(
        self,
        recorder: Recorder,
        name: str,
        *,
        max_size: int,
        close_idle: Callable[[], int | None] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if max_size < 1:
            raise ValueError(f"max_size of pool {name!r} must be at least 1, not {max_size}")
        self.name = name
        self.max_size = max_size
        self.close_idle = close_idle
        self._recorder = recorder
        self._clock = clock
        self._used = 0
        self._idle = 0
        self._pending = 0
        self._lock = threading.Lock()
        recorder.child(catalogue.POOL_MAX_CONNECTIONS, name).set(max_size)
        self._show()

    def acquire(self) -> None:
        """One more is in use; if one was idle, it is the one."""
        with self._lock:
            self._used += 1
            self._idle = max(self._idle - 1, 0)
            self._show()

    def release(self, *, keep: bool = False) -> None:
        """One less is in use: closed, or, with *keep*, idle in the pool from now on."""
        with self._lock:
            missing = self._used == 0
            if not missing:
                self._used -= 1
                self._idle += keep
            self._show()
        if missing:
            self._recorder.fault("pools", ValueError(f"pool {self.name!r} was released more often than acquired"))

    def set_idle(self, count: int) -> None:
        """For a pool that knows how many it keeps idle."""
        with self._lock:
            self._idle = max(count, 0)
            self._show()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around the wait for a free one: counted as pending, and timed."""
        started = self._clock()
        self._pend(1)
        try:
            yield
        finally:
            self._pend(-1)
            self._recorder.child(catalogue.POOL_WAIT, self.name).observe(self._clock() - started)

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def summary(self) -> dict[str, Any]:
        """How many are used, idle and waited for now, and the most there can be."""
        with self._lock:
            return {"used": self._used, "idle": self._idle, "pending": self._pending, "max_size": self.max_size}

    def _pend(self, step: int) -> None:
        with self._lock:
            self._pending += step
            self._recorder.child(catalogue.POOL_PENDING_REQUESTS, self.name).set(self._pending)

    def _show(self) -> None:
        self._recorder.child(catalogue.POOL_CONNECTIONS, self.name, "used").set(self._used)
        self._recorder.child(catalogue.POOL_CONNECTIONS, self.name, "idle").set(self._idle)


class Pools:
    """The pools that an application has named. Thread-safe."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._pools: dict[str, Pool] = {}
        self._closers: dict[str, Callable[[], int | None]] = {}
        self._lock = threading.Lock()

    def pool(self, name: str, *, max_size: int, close_idle: Callable[[], int | None] | None = None) -> Pool:
        """*close_idle* closes the idle ones and says how many: it is what the verb `close_idle_connections` calls.
        Raises ValueError for a name that is taken.
        """
        with self._lock:
            if name in self._pools:
                raise ValueError(f"pool {name!r} is registered already")
            pool = self._pools[name] = Pool(self._recorder, name, max_size=max_size, close_idle=close_idle)
            if close_idle is not None:
                self._closers[name] = close_idle
        return pool

    @property
    def idle_closers(self) -> Mapping[str, Callable[[], int | None]]:
        """A live view: what is registered later is in it."""
        return MappingProxyType(self._closers)

    def close_idle(self) -> int:
        """Have the idle ones of every pool closed; how many, as far as the pools say. All are tried; then the first
        error is raised.
        """
        closed, faults = 0, []
        for closer in list(self._closers.values()):
            try:
                closed += closer() or 0
            except Exception as error:  # noqa: BLE001 -- the application's closer; the other pools have their turn
                faults.append(error)
        if faults:
            raise faults[0]
        return closed

    def summary(self) -> dict[str, Any]:
        with self._lock:
            pools = list(self._pools.values())
        return {pool.name: pool.summary() for pool in pools}
