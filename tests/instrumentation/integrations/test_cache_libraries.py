"""functools.lru_cache and aiocache."""

import asyncio
import functools

import pytest

import llmvitals
from llmvitals.integrations import watch_lru_cache


def counts(vitals, name):
    return {
        dict(labels)["result"]: value
        for labels, value in vitals.samples("llmvitals_cache_requests_total").items()
        if dict(labels)["cache"] == name
    }


def test_an_lru_cache_is_read_at_scrape(vitals):
    """Hits, misses, entries, the most there may be; the function stays itself."""

    @functools.lru_cache(maxsize=2)
    def square(number):
        return number * number

    square(1)
    assert square is watch_lru_cache(vitals, "squares", square)
    for number in (1, 2, 3, 3):
        square(number)

    assert {"hit": 2, "miss": 3} == counts(vitals, "squares")
    assert 2 == vitals.value("llmvitals_cache_entries", cache="squares")
    assert 2 == vitals.value("llmvitals_cache_max_entries", cache="squares")

    square.cache_clear()
    square(1)
    assert {"hit": 2, "miss": 4} == counts(vitals, "squares")
    assert 2 == vitals.value("llmvitals_cache_evictions_total", cache="squares", reason="cleared")
    assert 1 == vitals.value("llmvitals_cache_entries", cache="squares")


def test_an_unlimited_one_has_no_limit(vitals):
    """functools.cache is one."""
    watch_lru_cache(vitals, "all", functools.cache(str))

    assert vitals.value("llmvitals_cache_max_entries") is None


def test_what_is_no_lru_cache_is_refused(vitals):
    """At the line that makes the mistake."""
    with pytest.raises(TypeError, match="no cache_info"):
        watch_lru_cache(vitals, "none", len)


@pytest.fixture(name="aiocache")
def _aiocache():
    return pytest.importorskip("aiocache")


def test_aiocache_by_namespace(vitals, aiocache):
    """Hits, misses, entries and clearings; replies are the cache's own."""

    async def main():
        cache = aiocache.SimpleMemoryCache(namespace="answers")
        default = object()
        value = object()
        await cache.set("a", value)
        assert value is await cache.get("a")
        assert default is await cache.get("b", default)
        assert await cache.get("b") is None
        assert [value, None] == await cache.multi_get(["a", "b"])
        seen = vitals.value("llmvitals_cache_entries", cache="answers")
        await cache.clear()
        return seen, cache

    seen, held = asyncio.run(main())
    assert 1 == seen
    assert {"hit": 2, "miss": 3} == counts(vitals, "answers")
    assert not held._cache
    assert 0 == vitals.value("llmvitals_cache_entries", cache="answers")
    assert 1 == vitals.value("llmvitals_cache_evictions_total", cache="answers", reason="cleared")


def test_aiocache_by_alias_and_by_decorator(vitals, aiocache):
    """Where the application has named it, that is its name; else what it is made of."""

    @aiocache.cached()
    async def ask(question):
        return question

    async def main():
        memory = {"cache": "aiocache.SimpleMemoryCache"}
        aiocache.caches.set_config({"default": memory, "replies": memory})
        await aiocache.caches.get("replies").get("a")
        assert "why" == await ask("why")
        assert "why" == await ask("why")

    try:
        asyncio.run(main())
    finally:
        aiocache.caches.set_config({"default": {"cache": "aiocache.SimpleMemoryCache"}})

    assert {"miss": 1} == counts(vitals, "replies")
    assert {"hit": 1, "miss": 1} == counts(vitals, "aiocache_memory")


def test_aiocache_errors_come_out_as_they_are(vitals, aiocache):
    """And are results of their own; a cancelled look-up is none."""

    class Away(aiocache.SimpleMemoryCache):
        async def _get(self, key, encoding="utf-8", _conn=None):
            if key == "slow":
                await asyncio.sleep(60)
            raise ConnectionError("away")

    async def main():
        cache = Away(namespace="far")
        with pytest.raises(ConnectionError, match="away"):
            await cache.get("a")
        task = asyncio.create_task(cache.get("slow", namespace=""))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert {"error": 1} == counts(vitals, "far")


def test_uninstrument_restores_exactly(aiocache):
    """The very same functions."""
    from aiocache.base import BaseCache

    names = ["get", "multi_get", "clear"]
    before = [vars(BaseCache)[name] for name in names]
    assert "aiocache" in llmvitals.instrument()
    assert not {id(vars(BaseCache)[name]) for name in names} & set(map(id, before))
    llmvitals.uninstrument()

    assert before == [vars(BaseCache)[name] for name in names]
