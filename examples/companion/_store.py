"""What is kept on disk: every exchange, in SQLite, written behind the reply and never on the loop."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import aiosqlite

from companion._dials import Dials
from llmvitals import Vitals

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
_BATCH_SECONDS = 0.05
# Reading all of the file may take this share of the time.
_CHECKED_SHARE = 0.02


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
    One connection, whose thread does the work; writes go in batches, a moment after they came, at most so many at once.

    llmvitals' integration with aiosqlite tells of every statement, and how long it waited for the thread.
    """

    def __init__(self, db: aiosqlite.Connection, path: Path, vitals: Vitals, dials: Dials) -> None:
        self._db = db
        self._path = path
        self._dials = dials
        self._whole_at = 0.0
        self._inbox = vitals.batcher("store", self._insert, max_items=_BATCH, max_wait_seconds=_BATCH_SECONDS)
        self._on_the_way: set[asyncio.Task[None]] = set()
        # One transaction at a time: the connection has no more.
        self._writing = asyncio.Lock()
        self._lost = 0

    @classmethod
    async def open(cls, path: Path, vitals: Vitals, dials: Dials) -> Self:
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
        vitals.sqlite_file("companion", path)
        return cls(db, path, vitals, dials)

    def remember(self, exchange: Exchange) -> None:
        """Write *exchange* soon. When the backlog is full it is lost, and the log says so."""
        if len(self._on_the_way) >= _BACKLOG:
            self._lost += 1
            if self._lost == 1 or self._lost % 1000 == 0:
                log.warning("store: backlog of %d is full, %d exchanges lost so far", _BACKLOG, self._lost)
            return
        going = asyncio.create_task(self._put(exchange))
        self._on_the_way.add(going)
        going.add_done_callback(self._on_the_way.discard)

    async def recent(self, user: str, limit: int) -> list[Exchange]:
        """The user's latest exchanges, oldest first; those of a moment ago, which are being written, included."""
        if self._on_the_way:
            await asyncio.wait(set(self._on_the_way))
        rows = await self._rows(
            "SELECT user, mode, question, answer, at FROM exchanges WHERE user = ? ORDER BY id DESC LIMIT ?",
            (user, limit),
        )
        return [Exchange(*row) for row in reversed(rows)]

    async def frequent_questions(self, mode: str, *, since: float, limit: int) -> list[str]:
        """What was asked most in *mode* after the Unix time *since*, most frequent first."""
        rows = await self._rows(
            "SELECT question FROM exchanges WHERE mode = ? AND at > ? AND length(question) < 1000 "
            "GROUP BY question HAVING count(*) > 1 ORDER BY count(*) DESC, question LIMIT ?",
            (mode, since, limit),
        )
        return [row[0] for row in rows]

    async def questions(self, *, since: float, limit: int) -> list[str]:
        """What was asked last, by anybody, after the Unix time *since*; newest first."""
        rows = await self._rows("SELECT question FROM exchanges WHERE at > ? ORDER BY at DESC LIMIT ?", (since, limit))
        return [row[0] for row in rows]

    async def delete_before(self, before: float) -> int:
        """Delete the exchanges from before that Unix time; how many."""
        async with self._writing:
            cursor = await self._db.execute("DELETE FROM exchanges WHERE at < ?", (before,))
            await self._db.commit()
        deleted: int = cursor.rowcount
        await cursor.close()
        return deleted

    async def check(self) -> None:
        """Raise sqlite3.Error when what is on disk cannot be read, or is no longer the database that it was."""
        await asyncio.to_thread(self._look)

    async def close(self) -> None:
        """Write what waits, then close."""
        time.sleep(self._dials.close_seconds)  # noqa: ASYNC251 -- what the dial is for
        # What was remembered just now has not even been queued.
        await asyncio.sleep(0)
        await self._inbox.close()
        await asyncio.gather(*self._on_the_way)
        await self._db.close()

    def _look(self) -> None:
        # On a connection of its own: the open one answers from memory, even when its file is gone or overwritten.
        begun = time.monotonic()
        with closing(sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=rw", uri=True, timeout=1)) as db:
            db.execute("SELECT * FROM exchanges ORDER BY id DESC LIMIT 1").fetchone()
            if begun < self._whole_at:
                return
            found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        # Not before, so that a fault is told until it is gone.
        if found != "ok":
            raise sqlite3.DatabaseError(found)
        self._whole_at = time.monotonic() + (time.monotonic() - begun) / _CHECKED_SHARE

    async def _rows(self, sql: str, parameters: tuple[Any, ...]) -> list[Any]:
        return list(await self._db.execute_fetchall(sql, parameters))

    async def _put(self, exchange: Exchange) -> None:
        try:
            await self._inbox.put(exchange)
        except Exception as error:  # noqa: BLE001 -- a full disk, say; the next one may fit
            log.warning("store: an exchange could not be written: %s: %s", type(error).__name__, error)

    async def _insert(self, exchanges: list[Exchange]) -> None:
        rows = [(e.user, e.mode, e.question, e.answer, e.at) for e in exchanges]
        async with self._writing:
            try:
                await self._db.executemany(
                    "INSERT INTO exchanges (user, mode, question, answer, at) VALUES (?, ?, ?, ?, ?)", rows
                )
                await self._db.commit()
            except BaseException:
                await self._db.rollback()
                raise
