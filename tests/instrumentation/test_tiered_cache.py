"""Against a real Redis, which is killed, stopped in its tracks, and started again in the middle."""

import asyncio
import json
import threading
import time

import pytest
from tests.redis_server import RedisServer
from tests.servers import eventually

from llmvitals import testing

redis = pytest.importorskip("redis")

LIMIT = 0.2
# What a machine with much to do may add to a wait.
SLACK = 0.5


def client_of(server, **more):
    return redis.Redis(port=server.port, socket_timeout=2, **more)


def async_client_of(server):
    return redis.asyncio.Redis(port=server.port, socket_timeout=2)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture(name="server", scope="module")
def _server(tmp_path_factory):
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(name="vitals")
def _vitals():
    with testing.fresh() as fresh:
        yield fresh


@pytest.fixture(name="cache")
def _cache(server, vitals):
    """A cache whose clock stands still until a test moves it; Redis is empty, and there at the end."""
    with client_of(server) as client:
        client.flushall()
        cache = vitals.tiered_cache("responses", client, timeout_seconds=LIMIT, retry_seconds=5.0, clock=Clock())
        yield cache
        cache._threads.submit(lambda: None)
    if not server.runs:
        server.start()


def tiers(vitals):
    counted = vitals.samples("llmvitals_cache_tier_requests_total")
    told = {(dict(labels)["tier"], dict(labels)["result"]): count for labels, count in counted.items()}
    return {key: count for key, count in told.items() if count}


def fallbacks(vitals):
    counted = vitals.samples("llmvitals_cache_fallbacks_total")
    return {dict(labels)["reason"]: count for labels, count in counted.items() if count}


def failed(vitals):
    """Fallbacks of those who asked and got no answer."""
    return sum(count for reason, count in fallbacks(vitals).items() if reason in {"error", "timeout"})


def in_time(call, *arguments):
    """What *call* gives; it takes no more than the limit."""
    begun = time.monotonic()
    given = call(*arguments)
    assert time.monotonic() - begun < LIMIT + SLACK
    return given


def test_each_tier_answers(cache, vitals):
    """First this process, then Redis, whose answer is kept here; a miss in both is one."""
    cache.set("tea", {"reply": "Fine."})
    assert {"reply": "Fine."} == cache.get("tea")
    assert "tea" in cache
    assert 1 == cache.drop()
    assert {"reply": "Fine."} == cache.get("tea")
    assert {"reply": "Fine."} == cache.get("tea")
    assert "nothing" == cache.get("coffee", "nothing")

    assert {("local", "hit"): 2, ("local", "miss"): 2, ("redis", "hit"): 1, ("redis", "miss"): 1} == tiers(vitals)
    requests = "llmvitals_cache_requests_total"
    assert (3, 1) == tuple(vitals.value(requests, cache="responses", result=result) for result in ("hit", "miss"))
    assert 1 == vitals.value("llmvitals_cache_entries", cache="responses")
    assert {} == fallbacks(vitals)


def test_repeats_hit(cache):
    """A thousand questions of fifty kinds are answered from the cache nine times in ten."""
    for number in range(1000):
        if cache.get(f"question {number % 50}") is None:
            cache.set(f"question {number % 50}", "answer")

    assert cache.summary()["hit_ratio"] >= 0.9


def test_entries_expire_in_both(cache, server, vitals):
    """Here by our clock, there by Redis' own, and never later here than there."""
    cache.set("tea", 1, ttl_seconds=0.5)
    with client_of(server) as client:
        assert 0 < client.pttl("responses:tea") <= 500
        cache.drop()
        assert 1 == cache.get("tea")
        cache._clock.now = 0.6
        eventually(lambda: client.get("responses:tea") is None, what="the end of Redis' entry")

    assert "tea" not in cache
    assert cache.get("tea") is None
    assert 1 == vitals.value("llmvitals_cache_evictions_total", reason="ttl")


def test_deletion(cache, server):
    """What is deleted is in neither tier."""
    cache.set("tea", 1)
    cache.delete("tea")

    assert cache.get("tea") is None
    with client_of(server) as client:
        assert [] == client.keys()


def test_a_dead_redis_is_done_without(cache, server, vitals):
    """One call learns of it, the rest does not wait and does not ask; when it is back it is asked again."""
    cache.set("tea", 1)
    server.kill()
    in_time(cache.set, "milk", 2)

    begun = time.monotonic()
    assert [1, 2, None] == [cache.get(key) for key in ("tea", "milk", "sugar")]
    for _ in range(1000):
        cache.get("sugar")
    # A thousand refused connections, 0.1 ms each, would show.
    assert time.monotonic() - begun < 0.5
    # redis-py may still be trying when the limit is over.
    assert (1, 1001) == (failed(vitals), fallbacks(vitals)["away"])
    assert 0 == vitals.value("llmvitals_cache_tier_up", cache="responses", tier="redis")

    server.start()
    cache._clock.now = 5.1
    cache.set("honey", 3)
    with client_of(server) as client:
        assert b"3" == client.get("responses:honey")
    assert cache.redis_is_up
    assert 1 == vitals.value("llmvitals_cache_tier_up", cache="responses", tier="redis")
    events = [(event["event"], event["level"], event["up"]) for event in vitals.history().recent(2)]
    assert {("cache_tier", "warning", False), ("cache_tier", "info", True)} == set(events)


def test_a_frozen_redis_costs_one_time_limit(cache, server, vitals):
    """A server that takes connections and answers nothing holds one caller up, for the limit, and no other."""
    cache.set("tea", 1)
    cache.drop()
    server.freeze()
    try:
        assert in_time(cache.get, "tea") is None
        begun = time.monotonic()
        assert [None] * 100 == [cache.get("tea") for _ in range(100)]
        assert time.monotonic() - begun < LIMIT
        assert {"timeout": 1, "away": 100} == fallbacks(vitals)
    finally:
        server.thaw()
    cache._clock.now = 5.1

    assert 1 == cache.get("tea")
    assert cache.redis_is_up


def test_only_one_looks_whether_it_is_back(cache, server, vitals):
    """When it is time to try again, one of many callers does; the others go on without."""
    server.freeze()
    try:
        in_time(cache.get, "tea")
        cache._clock.now = 5.1
        threads = [threading.Thread(target=cache.get, args=("tea",)) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        server.thaw()

    assert {"timeout": 2, "away": 19} == fallbacks(vitals)


def test_what_was_written_meanwhile_is_not_served_old(cache, server):
    """A value that Redis kept through its absence, and that is deleted or replaced here, is gone when it is back."""
    cache.set("tea", "old")
    cache.set("milk", "old")
    server.freeze()
    try:
        in_time(cache.get, "sugar")
        cache.set("tea", "new")
        cache.delete("milk")
    finally:
        server.thaw()
    cache._clock.now = 5.1
    cache.get("sugar")
    with client_of(server) as client:
        assert [] == client.keys()

    assert "new" == cache.get("tea")
    cache.drop()
    assert cache.get("milk") is None


def test_one_that_refuses_is_there(cache, server, vitals):
    """A command that Redis refuses is an error, and the next one is asked for all the same."""
    with client_of(server) as client:
        client.lpush("responses:list", "x")
        client.set("responses:garbage", b"\xff{")

    assert [None, None] == [cache.get(key) for key in ("list", "garbage")]
    assert {"error": 1} == fallbacks(vitals)
    assert cache.redis_is_up
    assert 1 == tiers(vitals)[("redis", "error")]


def test_what_cannot_be_encoded_is_told(cache):
    """It is the caller's mistake, and keeps nothing."""
    with pytest.raises(TypeError, match="not JSON serializable"):
        cache.set("tea", object())

    assert cache.get("tea") is None


def test_many_threads(cache, vitals):
    """Thirty threads lose no answer and no count."""
    wrong = []

    def use(number):
        for step in range(50):
            key = f"{number}-{step}"
            cache.set(key, step)
            if cache.get(key) != step:
                wrong.append(key)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [] == wrong
    assert 1500 == vitals.value("llmvitals_cache_requests_total", result="hit")


@pytest.mark.parametrize("client_for", [client_of, async_client_of])
def test_on_an_event_loop(server, vitals, client_for):
    """The same on a loop, by either kind of client: two tiers, a death, a return; the loop is never held up."""

    async def use():
        clock = Clock()
        client = client_for(server)
        cache = vitals.tiered_cache("responses", client, timeout_seconds=LIMIT, retry_seconds=5.0, clock=clock)
        await cache.aset("tea", 1)
        cache.drop()
        first = await cache.aget("tea"), await cache.aget("coffee", "none")
        server.freeze()
        try:
            begun = time.monotonic()
            frozen = await asyncio.gather(*(cache.aget(f"{number}") for number in range(20)), cache.aset("tea", 2))
            took = time.monotonic() - begun
            told = fallbacks(vitals)
        finally:
            server.thaw()
        async with asyncio.timeout(5):
            # The threads that hung come back one by one.
            while not cache.redis_is_up:
                clock.now += 5.1
                await cache.adelete("coffee")
        cache.drop()
        again = await cache.aget("tea")
        closed = client.aclose() if client_for is async_client_of else client.close()
        if closed is not None:
            await closed
        return first, frozen, took, again, told

    first, frozen, took, again, reasons = asyncio.run(use())

    assert (1, "none") == first
    assert [None] * 21 == frozen
    assert took < LIMIT + SLACK
    assert again is None  # What Redis had was out of date.
    assert reasons.get("timeout", 0) >= 1
    assert 21 == sum(reasons.values())


def test_a_cancelled_look_is_no_failure(server, vitals):
    """Who is cancelled while Redis is slow is cancelled, and Redis is not given up for it."""

    async def use():
        async with async_client_of(server) as client:
            cache = vitals.tiered_cache("responses", client, timeout_seconds=5.0)
            await cache.aset("tea", 1)
            server.freeze()
            try:
                asking = asyncio.create_task(cache.aget("coffee"))
                await asyncio.sleep(0.02)
                asking.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asking
            finally:
                server.thaw()
            return cache.redis_is_up

    assert asyncio.run(use())
    assert {} == fallbacks(vitals)


def test_an_async_client_needs_the_async_methods(server, vitals):
    """The error says which."""
    cache = vitals.tiered_cache("responses", async_client_of(server))

    with pytest.raises(TypeError, match=r"use `await cache\.aget"):
        cache.get("tea")


def test_it_is_dropped_with_the_others(cache, vitals):
    """Remediation empties this process' tier, not the one that others share; its name is taken."""
    cache.set("tea", json.loads("[1]"))

    assert {"responses": 1} == vitals._caches.drop()
    assert [1] == cache.get("tea")
    assert 1 == vitals.summary()["caches"]["responses"]["entries"]
    with pytest.raises(ValueError, match="'responses' is registered already"):
        vitals.cache("responses", {})


@pytest.mark.parametrize("wrong", [{"max_entries": 0}, {"ttl_seconds": 0}, {"timeout_seconds": -1}])
def test_limits_that_are_none(server, vitals, wrong):
    """They are told where the cache is made."""
    with client_of(server) as client, pytest.raises(ValueError, match="of cache 'responses', max_entries must be"):
        vitals.tiered_cache("responses", client, **wrong)
