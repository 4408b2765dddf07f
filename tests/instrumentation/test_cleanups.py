import asyncio
import threading
import time

import cachetools
import pytest
from prometheus_client import CollectorRegistry
from tests.servers import eventually

from llmvitals._cleanups import CleanUp
from llmvitals._recording import Recorder


@pytest.fixture(name="recorder")
def _recorder():
    return Recorder(CollectorRegistry())


def value(recorder, name, **labels):
    return recorder.registry.get_sample_value(name, labels)


@pytest.mark.parametrize(
    ("answer", "removed"),
    [(3, 3), (["a", "b"], 2), ({"a": 1}, 1), (None, 0), (-1, 0), (object(), 0)],
    ids=["number", "list", "mapping", "nothing", "negative", "anything"],
)
def test_what_was_removed_is_counted(recorder, answer, removed):
    """A clean-up says a number, or gives what it removed."""
    cleanup = CleanUp(recorder, "old_rows", lambda: answer, interval_seconds=60)

    assert removed == cleanup.run_once()
    assert removed == value(recorder, "llmvitals_cleanup_removed_total", cleanup="old_rows")
    assert 1 == value(recorder, "llmvitals_cleanup_duration_seconds_count", cleanup="old_rows", error_type="")
    assert 60 == value(recorder, "llmvitals_cleanup_interval_seconds", cleanup="old_rows")
    assert time.time() - 60 < value(recorder, "llmvitals_cleanup_last_run_timestamp_seconds", cleanup="old_rows")


def test_it_runs_at_its_interval_and_goes_on_after_an_error(recorder, caplog):
    """One warning for a row of errors."""
    runs = []

    def clean():
        runs.append(1)
        if len(runs) < 3:
            raise OSError("disk is full")
        return 1

    cleanup = CleanUp(recorder, "old_rows", clean, interval_seconds=0.005)
    assert [] == runs
    cleanup.start()
    eventually(lambda: len(runs) >= 3 and cleanup.summary()["error"] is None)
    cleanup.stop(5)

    assert 2 == value(recorder, "llmvitals_cleanup_duration_seconds_count", cleanup="old_rows", error_type="OSError")
    assert 1 == caplog.text.count("clean-up old_rows fails: OSError: disk is full")
    assert len(runs) == cleanup.summary()["runs"]


def test_an_async_one_runs_on_the_loop_where_it_was_made(recorder):
    """Because what it cleans belongs there; without a loop it gets one of its own."""

    async def clean():
        return [asyncio.get_running_loop()]

    async def made_here():
        cleanup = CleanUp(recorder, "here", clean, interval_seconds=60)
        return await asyncio.to_thread(cleanup.run_once)

    assert 1 == asyncio.run(made_here())
    assert 1 == CleanUp(recorder, "anywhere", clean, interval_seconds=60).run_once()


def test_expired_entries_are_removed(vitals):
    """From every cache, as evicted by their age."""
    now = [0.0]
    cache = vitals.cache("tools", cachetools.TTLCache(50, ttl=10, timer=lambda: now[0]))
    vitals.cache("plain", {})["a"] = 1
    cache["a"] = cache["b"] = 1
    now[0] = 11.0

    assert 2 == vitals.cleanup("expired_cache_entries").run_once()
    assert 2 == vitals.value("llmvitals_cache_evictions_total", cache="tools", reason="ttl")
    assert 60 == vitals.summary()["cleanups"]["expired_cache_entries"]["interval_seconds"]


def test_idle_users_are_evicted(vitals):
    """Those beyond the application's own limit of idleness; none, before it has users."""
    cleanup = vitals.cleanup("idle_users")
    assert 0 == cleanup.run_once()
    users = vitals.users(idle_seconds=1e-9)
    users.get_or_create("ann", dict)

    assert 1 == cleanup.run_once()


def test_idle_connections_are_closed_in_every_pool(vitals):
    """Also when one of them fails to."""
    vitals.pool("broken", max_size=1, close_idle=lambda: 1 / 0)
    vitals.pool("websocket", max_size=100, close_idle=lambda: 3)
    closed = []
    vitals.pool("quiet", max_size=1, close_idle=lambda: closed.append(1))
    cleanup = vitals.cleanup("idle_connections")

    with pytest.raises(ZeroDivisionError):
        cleanup.run_once()

    assert [1] == closed
    assert "ZeroDivisionError" in cleanup.summary()["error"]


def test_a_stuck_batch_is_released(vitals):
    """Its waiters are told, the next batch goes on, and a flush that is not old stays."""

    async def run():
        hanging = asyncio.Event()
        flushed = []

        async def flush(items):
            if items == ["stuck"]:
                await hanging.wait()
            flushed.extend(items)

        outbox = vitals.batcher("outbox", flush, max_items=1)
        stuck = asyncio.create_task(outbox.put("stuck"))
        behind = asyncio.create_task(outbox.put("behind"))
        await asyncio.sleep(0.01)
        assert 0 == await asyncio.to_thread(outbox.release_stuck, 60)
        assert 1 == await asyncio.to_thread(outbox.release_stuck, 0.001)
        with pytest.raises(TimeoutError, match="was stuck"):
            await stuck
        await behind
        return flushed

    assert ["behind"] == asyncio.run(run())


def test_what_waits_without_a_timer_is_flushed_and_a_closed_loops_items_are_let_go(vitals):
    """Nobody is left to flush the latter."""

    async def wait_long():
        outbox = vitals.batcher("outbox", lambda _: None, max_wait_seconds=600)
        waiting = asyncio.create_task(outbox.put("a"))
        await asyncio.sleep(0.005)
        assert 1 == await asyncio.to_thread(outbox.release_stuck, 0.001)
        await waiting

    def leave():
        outbox = vitals.batcher("left", lambda _: None, max_wait_seconds=600)
        loop = asyncio.new_event_loop()
        waiting = loop.create_task(outbox.put("a"))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        return outbox, waiting

    asyncio.run(wait_long())
    left, waiting = leave()

    assert 1 == left.release_stuck()
    assert 0 == vitals.value("llmvitals_batch_queue_depth", queue="left")
    assert 0 == vitals.cleanup("stuck_batches").run_once()
    # It can never end: its loop is closed.
    waiting._log_destroy_pending = False


def test_a_batch_queue_that_was_never_used_has_nothing_stuck(vitals):
    """It has no loop yet."""
    assert 0 == vitals.batcher("outbox", lambda _: None).release_stuck()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"name": "old_rows"}, "needs a function; built in are expired_cache_entries, idle_connections"),
        ({"name": "old_rows", "clean": list, "interval_seconds": 0}, "above 0"),
        ({"name": "idle_users"}, "registered already"),
    ],
    ids=["unknown", "no interval", "taken"],
)
def test_mistakes_are_told_where_they_are_made(vitals, arguments, told):
    """With what would be right."""
    vitals.cleanup("idle_users")

    with pytest.raises(ValueError, match=told):
        vitals.cleanup(**arguments)


def test_closing_stops_them(recorder):
    """Without waiting for one that hangs."""
    release, begun = threading.Event(), threading.Event()
    cleanup = CleanUp(recorder, "hangs", lambda: (begun.set(), release.wait()), interval_seconds=0.001)
    cleanup.start()
    assert begun.wait(5)
    cleanup.stop(0.01)

    assert cleanup._thread.is_alive()
    release.set()
    cleanup.stop(5)
    assert not cleanup._thread.is_alive()
