import os
import threading

import cachetools
import pytest
from prometheus_client import CollectorRegistry

from llmvitals._caches import Caches
from llmvitals._recording import Recorder


@pytest.fixture(name="recorder")
def _recorder():
    return Recorder(CollectorRegistry())


@pytest.fixture(name="caches")
def _caches(recorder):
    return Caches(recorder)


def value(recorder, name, **labels):
    return recorder.registry.get_sample_value(name, labels)


def requests(recorder, cache="c"):
    return {
        result: value(recorder, "llmvitals_cache_requests_total", cache=cache, result=result)
        for result in ("hit", "miss", "error")
    }


def evictions(recorder, cache="c"):
    return {
        reason: value(recorder, "llmvitals_cache_evictions_total", cache=cache, reason=reason)
        for reason in ("size", "ttl", "cleared")
    }


def test_hits_and_misses_are_counted_for_each_way_to_look_up(recorder, caches):
    """`get` and `[]` count; `in`, `pop` and `len` do not."""
    cache = caches.wrap("c", cachetools.LRUCache(10))
    cache["a"] = 1

    assert 1 == cache["a"]
    assert 1 == cache.get("a")
    assert cache.get("b") is None
    with pytest.raises(KeyError):
        cache["b"]
    assert "a" in cache
    assert 1 == cache.pop("a")
    assert "no" == cache.pop("a", "no")
    with pytest.raises(KeyError):
        cache.pop("a")
    assert {"hit": 2, "miss": 2, "error": 0} == requests(recorder)


def test_a_key_that_cannot_be_hashed_is_an_error_and_stays_one(recorder, caches):
    """The application's own mistake is counted and raised as it is."""
    cache = caches.wrap("c", cachetools.LRUCache(10))

    with pytest.raises(TypeError):
        cache[["list"]]

    assert 1 == requests(recorder)["error"]


def test_a_full_cache_evicts_by_size(recorder, caches):
    """Twelve in a cache of ten: two had to go. Setting a key again evicts nothing."""
    cache = caches.wrap("c", cachetools.LRUCache(10))

    for number in range(12):
        cache[number] = number
    cache[11] = "again"

    assert {"size": 2, "ttl": 0, "cleared": 0} == evictions(recorder)
    assert 10 == value(recorder, "llmvitals_cache_entries", cache="c")
    assert 10 == value(recorder, "llmvitals_cache_max_entries", cache="c")


def test_old_entries_leave_by_ttl(recorder, caches):
    """The scrape itself notices that time is over, although nobody asks the cache."""
    now = [0.0]
    cache = caches.wrap("c", cachetools.TTLCache(10, ttl=5, timer=lambda: now[0]))
    cache["a"], cache["b"] = 1, 2

    now[0] = 6.0

    assert 0 == value(recorder, "llmvitals_cache_entries", cache="c")
    assert {"size": 0, "ttl": 2, "cleared": 0} == evictions(recorder)
    assert cache.get("a") is None


def test_clear_counts_what_it_removed(recorder, caches):
    """Cleared is neither size nor ttl."""
    cache = caches.wrap("c", cachetools.LRUCache(10))
    cache["a"], cache["b"] = 1, 2

    cache.clear()

    assert {"size": 0, "ttl": 0, "cleared": 2} == evictions(recorder)


def test_a_value_too_large_evicts_nothing_and_raises(recorder, caches):
    """Cachetools refuses it; the view raises the same and counts no ghost."""
    cache = caches.wrap("c", cachetools.LRUCache(10, getsizeof=len))
    cache["a"] = "x"

    with pytest.raises(ValueError, match="too large"):
        cache["b"] = "x" * 11

    assert 0 == evictions(recorder)["size"]
    assert value(recorder, "llmvitals_cache_max_entries", cache="c") is None


def test_the_decorator_of_cachetools_works_on_the_view(recorder, caches):
    """The view is a mapping like any other."""
    cache = caches.wrap("c", cachetools.TTLCache(10, ttl=5))
    calls = []

    @cachetools.cached(cache)
    def double(number):
        calls.append(number)
        return 2 * number

    assert [4, 4] == [double(2), double(2)]
    assert [2] == calls
    assert 1 == requests(recorder)["hit"]


def test_a_plain_dict_will_do(recorder, caches):
    """Without size or age there are entries, hits and misses."""
    cache = caches.wrap("c", {})
    cache["a"] = 1

    assert ["a"] == list(cache)
    assert 1 == value(recorder, "llmvitals_cache_entries", cache="c")
    assert value(recorder, "llmvitals_cache_max_entries", cache="c") is None


def test_threads_lose_no_count(recorder, caches):
    """Cachetools is not thread-safe; the view is."""
    cache = caches.wrap("c", cachetools.TTLCache(50, ttl=60))

    def use():
        for number in range(500):
            cache[number % 100] = number
            cache.get(number % 70)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    counted = requests(recorder)
    assert 2000 == counted["hit"] + counted["miss"]
    assert 50 == len(cache)


def test_drop_empties_them_all_and_says_how_many(recorder, caches):
    """One whose own code raises does not keep the others from their turn."""

    class Stuck(dict):
        def clear(self):
            raise OSError("disk")

    caches.wrap("stuck", Stuck(a=1))
    good = caches.wrap("good", {"a": 1, "b": 2})

    with pytest.raises(OSError, match="disk") as error:
        caches.drop()

    assert 0 == len(good)
    assert ["while dropping cache 'stuck'"] == [note.split(";")[0] for note in error.value.__notes__]


def test_a_name_is_taken_once(caches):
    """Two caches under one name would add up to nonsense."""
    caches.wrap("c", {})

    with pytest.raises(ValueError, match="registered already"):
        caches.wrap("c", {})


def test_an_empty_cache_is_still_a_cache(caches):
    """`if cache` must not mean "if it has entries", as it would with a dict."""
    assert caches.wrap("c", {})


def test_its_bytes_are_estimated(recorder, caches):
    """A cache of 1,000 attachments of 10 kB each shows some 10 MB, and is not moved by being looked at."""
    cache = caches.wrap("attachments", cachetools.LRUCache(1000))
    for number in range(1000):
        cache[number] = b"x" * 10_000

    shown = recorder.registry.get_sample_value("llmvitals_cache_bytes", {"cache": "attachments"})

    assert 10e6 <= shown <= 10.2e6
    cache["new"] = b""
    assert 0 not in cache


def test_the_bytes_of_what_cannot_be_looked_into_are_not_shown(recorder, caches):
    """A mapping of the application's own may do anything when it is read, so it is not."""
    caches.wrap("own", os.environ)

    assert recorder.registry.get_sample_value("llmvitals_cache_bytes", {"cache": "own"}) is None
