"""What is kept on disk: every exchange, in SQLite, written behind the reply and never on the loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import aiosqlite

__all__ = ["Exchange", "Store"]

log = logging.getLogger("companion")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS exchanges (
    id INTEGER PRIMARY KEY,
    user TEXT NOT NULL,
    mode TEXT NOT NULL,
    question TEXT NOT NULL,
    answer TEXT NOT NULL,
    at REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS exchanges_by_user ON exchanges (user, id);
CREATE INDEX IF NOT EXISTS exchanges_by_time ON exchanges (at);
"""

_BACKLOG = 10_000
_BATCH = 100


@dataclass(frozen=True, slots=True)
class Exchange:
    """One question and its answer; `at` is Unix time in seconds."""

    user: str
    mode: str
    question: str
    answer: str
    at: float


class Store:
    """
    One connection, whose thread does the work; writes wait in a bounded backlog and go in batches.

    *observe* is given an operation's name, its duration in seconds, and its error or None. The wait of a write in the
    backlog is an operation of its own, `queue_wait`.
    """

    def __init__(self, db: aiosqlite.Connection, observe: Callable[[str, float, BaseException | None], None]) -> None:
        self._db = db
        self._observe = observe
        self._backlog: asyncio.Queue[tuple[float, Exchange]] = asyncio.Queue(_BACKLOG)
        self._writer = asyncio.create_task(self._write_behind(), name="companion-store-writer")
        self._lost = 0

    @classmethod
    async def open(cls, path: Path, observe: Callable[[str, float, BaseException | None], None]) -> Self:
        """Open or make the database. Raises sqlite3.Error when the file is not one, or cannot be written."""
        db = await aiosqlite.connect(path)
        try:
            await db.execute("PRAGMA journal_mode = WAL")
            await db.execute("PRAGMA synchronous = NORMAL")
            await db.executescript(_SCHEMA)
            await db.commit()
        except BaseException:
            await db.close()
            raise
        return cls(db, observe)

    def remember(self, exchange: Exchange) -> None:
        """Write *exchange* soon. When the backlog is full it is lost, and the log says so."""
        try:
            self._backlog.put_nowait((time.monotonic(), exchange))
        except asyncio.QueueFull:
            self._lost += 1
            if self._lost == 1 or self._lost % 1000 == 0:
                log.warning("store: backlog of %d is full, %d exchanges lost so far", _BACKLOG, self._lost)

    async def recent(self, user: str, limit: int) -> list[Exchange]:
        """The user's latest exchanges, oldest first."""
        rows = await self._rows(
            "select",
            "SELECT user, mode, question, answer, at FROM exchanges WHERE user = ? ORDER BY id DESC LIMIT ?",
            (user, limit),
        )
        return [Exchange(*row) for row in reversed(rows)]

    async def frequent_questions(self, mode: str, *, since: float, limit: int) -> list[str]:
        """What was asked most in *mode* after the Unix time *since*, most frequent first."""
        rows = await self._rows(
            "select",
            "SELECT question FROM exchanges WHERE mode = ? AND at > ? AND length(question) < 1000 "
            "GROUP BY question HAVING count(*) > 1 ORDER BY count(*) DESC, question LIMIT ?",
            (mode, since, limit),
        )
        return [row[0] for row in rows]

    async def questions(self, *, since: float, limit: int) -> list[str]:
        """What was asked last, by anybody, after the Unix time *since*; newest first."""
        rows = await self._rows(
            "select", "SELECT question FROM exchanges WHERE at > ? ORDER BY at DESC LIMIT ?", (since, limit)
        )
        return [row[0] for row in rows]

    async def delete_before(self, before: float) -> int:
        """Delete the exchanges from before that Unix time; how many."""
        async with self._timed("delete"):
            cursor = await self._db.execute("DELETE FROM exchanges WHERE at < ?", (before,))
            await self._db.commit()
        deleted: int = cursor.rowcount
        await cursor.close()
        return deleted

    async def check(self) -> None:
        """Raise sqlite3.Error when the database does not answer."""
        await self._rows("ping", "SELECT 1", ())

    async def close(self) -> None:
        """Write what waits, then close."""
        await self._backlog.join()
        self._writer.cancel()
        await asyncio.gather(self._writer, return_exceptions=True)
        await self._db.close()

    async def _rows(self, operation: str, sql: str, parameters: tuple[Any, ...]) -> list[Any]:
        async with self._timed(operation):
            return list(await self._db.execute_fetchall(sql, parameters))

    async def _write_behind(self) -> None:
        while True:
            waiting = [await self._backlog.get()]
            while len(waiting) < _BATCH and not self._backlog.empty():
                waiting.append(self._backlog.get_nowait())
            taken = time.monotonic()
            try:
                for put, _ in waiting:
                    self._observe("queue_wait", taken - put, None)
                await self._insert([exchange for _, exchange in waiting])
            except Exception:
                # A full disk must not end the writer: the next batch may fit.
                log.exception("store: %d exchanges could not be written", len(waiting))
            finally:
                for _ in waiting:
                    self._backlog.task_done()

    async def _insert(self, exchanges: list[Exchange]) -> None:
        rows = [(e.user, e.mode, e.question, e.answer, e.at) for e in exchanges]
        async with self._timed("insert"):
            try:
                await self._db.executemany(
                    "INSERT INTO exchanges (user, mode, question, answer, at) VALUES (?, ?, ?, ?, ?)", rows
                )
                await self._db.commit()
            except BaseException:
                await self._db.rollback()
                raise

    @asynccontextmanager
    async def _timed(self, operation: str) -> AsyncIterator[None]:
        begun = time.monotonic()
        error: BaseException | None = None
        try:
            yield
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._observe(operation, time.monotonic() - begun, error)
