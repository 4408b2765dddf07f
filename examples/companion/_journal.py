"""What was said, searched by meaning: candidates by their words, from an index on disk, ranked by their embeddings."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from companion._dials import Dials
from companion._embedding import embed, similarity, words_of
from llmvitals import Vitals

__all__ = ["Journal", "Memory"]

_SCHEMA = "CREATE VIRTUAL TABLE IF NOT EXISTS documents USING fts5(text, user UNINDEXED)"
_CANDIDATES = 50
_BATCH = 100
_FILLED_AT_ONCE = 5000
_BATCH_SECONDS = 2.0
_READERS = 8
_LEAST_SIMILARITY = 0.7
_LONGEST = 2000


@dataclass(frozen=True, slots=True)
class Memory:
    """A document that was found, and how much it is like what was searched for, from 0 to 1."""

    text: str
    similarity: float


class Journal:
    """
    Documents of all users; a search sees those of one. Lives on one loop, works in threads.

    Documents are written together, up to a hundred at once, a moment after they came. Beyond *max_documents*, the
    oldest go when the journal is tidied.
    """

    def __init__(self, path: Path, vitals: Vitals, dials: Dials, *, max_documents: int) -> None:
        self._path = path
        self._dials = dials
        self._max = max_documents
        self._count = 0
        self._memory = vitals.semantic_memory(
            "journal",
            size=self._size,
            max_documents=max_documents,
            least_similarity=_LEAST_SIMILARITY,
            target_seconds=2.0,
        )
        self._writer = self._connect()
        self._readers = vitals.object_pool(
            "journal_readers", self._connect, max_size=_READERS, close=sqlite3.Connection.close
        )
        self._inbox = vitals.batcher(
            "journal", self._write, max_items=_BATCH, max_wait_seconds=_BATCH_SECONDS, flush_seconds=30
        )
        self._writing = asyncio.Lock()
        vitals.sqlite_file("journal", path)
        self._on_the_way: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, path: Path, vitals: Vitals, dials: Dials, *, max_documents: int) -> Self:
        """Open or make the journal. Raises sqlite3.Error when the file is none, or cannot be written."""
        journal = cls(path, vitals, dials, max_documents=max_documents)
        try:
            await asyncio.to_thread(journal._prepare)
        except BaseException:
            journal._writer.close()
            raise
        return journal

    def keep(self, user: str, text: str) -> None:
        """Write *text* soon. What cannot be written is told by the batcher's numbers, and is no error here."""
        going = asyncio.create_task(self._put(user, text[:_LONGEST]))
        self._on_the_way.add(going)
        going.add_done_callback(self._on_the_way.discard)

    async def search(self, user: str, text: str, limit: int) -> list[Memory]:
        """What *user* said that is most like *text*, best first."""
        with self._memory.search() as search:
            found = await asyncio.to_thread(self._find, user, text, limit)
            search.found([memory.similarity for memory in found])
        return found

    async def context(self, user: str, text: str, limit: int = 10) -> str:
        """What a model should know of earlier talks to answer *text*; empty when nothing is like it."""
        memories = await self.search(user, text, limit)
        with self._memory.context():
            lines = [f"- {memory.text}" for memory in memories if memory.similarity >= _LEAST_SIMILARITY]
            return "The user said earlier:\n" + "\n".join(lines) if lines else ""

    async def fill(self, count: int) -> None:
        """Write so many documents that nobody will ask for."""
        async with self._writing:
            for start in range(0, count, _FILLED_AT_ONCE):
                numbers = range(start, min(start + _FILLED_AT_ONCE, count))
                await asyncio.to_thread(self._insert, [("nobody", f"page {number}") for number in numbers])

    async def tidy(self) -> int:
        """Remove doubles and, over the limit, the oldest; merge the index. How many documents went."""
        with self._memory.optimise():
            async with self._writing:
                return await asyncio.to_thread(self._tidy)

    async def close(self) -> None:
        """Write what waits, then close."""
        # What was kept just now has not even been queued.
        await asyncio.sleep(0)
        await self._inbox.close()
        await asyncio.gather(*self._on_the_way, return_exceptions=True)
        self._readers.close()
        self._writer.close()

    def _size(self) -> int:
        if random.random() < self._dials.size_error_ratio:
            raise RuntimeError("the dials ask for an error")
        return self._count

    async def _put(self, user: str, text: str) -> None:
        with contextlib.suppress(sqlite3.Error, TimeoutError, RuntimeError):
            await self._inbox.put((user, text))

    async def _write(self, documents: list[tuple[str, str]]) -> None:
        with self._memory.store(len(documents)):
            async with self._writing:
                await asyncio.to_thread(self._insert, documents)

    # --- in threads ---------------------------------------------------------------------------------------------------

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=5, check_same_thread=False)

    def _prepare(self) -> None:
        self._writer.execute("PRAGMA journal_mode = WAL")
        self._writer.execute("PRAGMA synchronous = NORMAL")
        self._writer.execute(_SCHEMA)
        self._writer.commit()
        self._recount()

    def _recount(self) -> None:
        self._count = self._writer.execute("SELECT count(*) FROM documents").fetchone()[0]

    def _insert(self, documents: list[tuple[str, str]]) -> None:
        with self._writer:
            self._writer.executemany("INSERT INTO documents (user, text) VALUES (?, ?)", documents)
        self._count += len(documents)

    def _find(self, user: str, text: str, limit: int) -> list[Memory]:
        time.sleep(self._dials.search_seconds)
        # Quoted, each word is a word and no operator of the query.
        query = " OR ".join(f'"{word}"' for word in sorted(set(words_of(text)))[:100])
        if not query:
            return []
        sql = "SELECT text FROM documents WHERE documents MATCH ? AND user = ? ORDER BY rank LIMIT ?"
        with self._readers.take(5.0) as reader:
            rows = reader.execute(sql, (query, user, _CANDIDATES)).fetchall()
        asked = embed(text)
        found = {row[0]: similarity(asked, embed(row[0])) for row in rows}
        best = sorted(found.items(), key=lambda item: -item[1])[:limit]
        return [Memory(*item) for item in best]

    def _tidy(self) -> int:
        before = self._count
        with self._writer:
            self._writer.execute(
                "DELETE FROM documents WHERE rowid NOT IN (SELECT max(rowid) FROM documents GROUP BY user, text)"
            )
            over = "SELECT rowid FROM documents ORDER BY rowid DESC LIMIT -1 OFFSET ?"
            self._writer.execute(f"DELETE FROM documents WHERE rowid IN ({over})", (self._max,))  # noqa: S608 -- no input
            self._writer.execute("INSERT INTO documents (documents) VALUES ('optimize')")
        self._recount()
        return max(before - self._count, 0)
