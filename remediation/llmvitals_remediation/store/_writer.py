"""One thread writes. Callers that come at the same time share one commit, and each waits for that commit."""

import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from llmvitals_remediation.errors import StoreUnavailableError

_log = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

_MAX_BATCH = 256
_MAX_WAITING = 4096


class Writer:
    """Runs closures in transactions on one connection, in the order in which they came.

    Each closure has its own savepoint: one that raises undoes itself only. A closure may run on a transaction that
    then fails to commit, so it does nothing but SQL.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._queue: queue.Queue[tuple[Work[Any], Future[Any]] | None] = queue.Queue(_MAX_WAITING)
        self._closed = False
        self._lock = threading.Lock()
        self.fault: str | None = None
        self._thread = threading.Thread(target=self._write, name="store-writer", daemon=True)
        self._thread.start()

    def run(self, work: Work[T], *, timeout: float = 10.0) -> T:
        """Run *work* in a transaction and return its result once that is durable.

        Raises:
            StoreUnavailableError: closed, too many are waiting, or the commit failed; nothing of *work* was kept,
                except after *timeout* seconds, when it is unknown.
        """
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise StoreUnavailableError("the store is closed")
            try:
                self._queue.put_nowait((work, future))
            except queue.Full:
                raise StoreUnavailableError(f"{_MAX_WAITING} writes are waiting already") from None
        try:
            return future.result(timeout)
        except TimeoutError:
            raise StoreUnavailableError(f"no commit within {timeout:.0f} s") from None

    def close(self) -> None:
        """Finish what was asked for, then stop."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._queue.put(None)
        self._thread.join()
        self._connection.close()

    def _write(self) -> None:
        last = False
        while not last:
            batch = [self._queue.get()]
            while len(batch) < _MAX_BATCH:
                try:
                    batch.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            last = None in batch
            self._commit([item for item in batch if item is not None])

    def _commit(self, batch: list[tuple[Work[Any], Future[Any]]]) -> None:
        if not batch:
            return
        answers: list[tuple[Future[Any], Any, Exception | None]] = []
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for work, future in batch:
                answers.append((future, *self._one(work)))
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._give_up(error, batch)
            return
        if self.fault is not None:
            _log.warning("the database can be written again")
        self.fault = None
        for future, result, problem in answers:
            if problem is None:
                future.set_result(result)
            else:
                future.set_exception(problem)

    def _one(self, work: Work[Any]) -> tuple[Any, Exception | None]:
        self._connection.execute("SAVEPOINT one")
        try:
            result = work(self._connection)
        except sqlite3.OperationalError:
            raise  # The disk, not the closure: nobody in this batch can be told that it is kept.
        except Exception as error:  # noqa: BLE001 -- handed to whoever asked
            self._connection.execute("ROLLBACK TO one")
            self._connection.execute("RELEASE one")
            return None, error
        self._connection.execute("RELEASE one")
        return result, None

    def _give_up(self, error: sqlite3.Error, batch: list[tuple[Work[Any], Future[Any]]]) -> None:
        if self.fault is None:
            _log.error("the database cannot be written: %s", error)
        self.fault = str(error)
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error as second:
                _log.error("rollback failed as well: %s", second)
        for _, future in batch:
            future.set_exception(StoreUnavailableError(f"the database cannot be written: {error}"))
