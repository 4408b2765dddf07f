"""aiocache: look-ups and clearings of every cache, under its alias, its namespace, or what it is made of.

aiocache cannot tell a stored None from nothing; such a look-up is a miss to the application, and so it is here.
"""

import functools
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import aiocache
from aiocache.base import BaseCache

from llmvitals import catalogue
from llmvitals._recording import Recorder
from llmvitals.integrations._session import Session

Count = Callable[[Recorder, Any, tuple[Any, ...], dict[str, Any], Any], None]


def install(session: Session) -> None:
    memories = _Memories(session)
    for method, count in (("get", _count_get), ("multi_get", _count_multi_get), ("clear", None)):
        session.patch(BaseCache, method, functools.partial(_wrap, session, memories, count))


def _wrap(
    session: Session, memories: "_Memories", count: Count | None, original: Callable[..., Any]
) -> Callable[..., Any]:
    @functools.wraps(original)
    async def use(self: Any, *args: Any, **kwargs: Any) -> Any:
        vitals = session.vitals
        if vitals is None:
            return await original(self, *args, **kwargs)
        recorder, before = vitals.recorder, _entries(self)
        try:
            reply = await original(self, *args, **kwargs)
        except Exception:
            with recorder.guard("aiocache"):
                if count is not None:
                    recorder.child(catalogue.CACHE_REQUESTS, _name(self), "error").inc()
            raise
        with recorder.guard("aiocache"):
            memories.saw(recorder, self)
            if count is not None:
                count(recorder, self, args, kwargs, reply)
            elif before:
                cleared = max(before - (_entries(self) or 0), 0)
                recorder.child(catalogue.CACHE_EVICTIONS, _name(self), "cleared").inc(cleared)
        return reply

    return use


def _count_get(recorder: Recorder, cache: Any, args: tuple[Any, ...], kwargs: dict[str, Any], reply: Any) -> None:
    default = args[1] if len(args) > 1 else kwargs.get("default")
    result = "miss" if reply is None or reply is default else "hit"
    recorder.child(catalogue.CACHE_REQUESTS, _name(cache), result).inc()


def _count_multi_get(
    recorder: Recorder,
    cache: Any,
    args: tuple[Any, ...],  # noqa: ARG001 -- as `_count_get`
    kwargs: dict[str, Any],  # noqa: ARG001
    reply: Any,
) -> None:
    hits = sum(value is not None for value in reply)
    recorder.child(catalogue.CACHE_REQUESTS, _name(cache), "hit").inc(hits)
    recorder.child(catalogue.CACHE_REQUESTS, _name(cache), "miss").inc(len(reply) - hits)


def _name(cache: Any) -> str:
    for alias, known in list(aiocache.caches._caches.items()):  # noqa: SLF001 -- nothing public leads to the alias
        if known is cache:
            return str(alias)
    return str(cache.namespace or f"aiocache_{cache.NAME}")


def _entries(cache: Any) -> int | None:
    """How many a cache in memory holds; others cannot tell without asking their server."""
    held = getattr(cache, "_cache", None)
    return len(held) if isinstance(held, dict) else None


class _Memories:
    """The caches in memory that have been used, counted when they are scraped."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._caches: weakref.WeakSet[Any] = weakref.WeakSet()
        self._lock = threading.Lock()

    def saw(self, recorder: Recorder, cache: Any) -> None:
        if _entries(cache) is None:
            return
        with self._lock:
            new = cache not in self._caches
            self._caches.add(cache)
        self._session.look_at_scrape(recorder, self._look)
        if new:
            self._look(recorder)

    def _look(self, recorder: Recorder) -> None:
        entries: Counter[str] = Counter()
        with self._lock:
            for cache in self._caches:
                entries[_name(cache)] += _entries(cache) or 0
        for name, count in entries.items():
            recorder.child(catalogue.CACHE_ENTRIES, name).set(count)
