import asyncio
import logging
import threading
import time

import pytest
from prometheus_client import CollectorRegistry

from llmvitals._loop import LoopWatches
from llmvitals._recording import Recorder


@pytest.fixture(name="recorder")
def _recorder():
    return Recorder(CollectorRegistry())


@pytest.fixture(name="watches")
def _watches(recorder):
    watches = LoopWatches(recorder)
    yield watches
    watches.close()


def value(recorder, name, loop="main"):
    return recorder.registry.get_sample_value(f"llmvitals_asyncio_{name}", {"loop": loop})


def the_culprit(seconds):
    time.sleep(seconds)


def test_a_blocked_loop_is_counted_and_the_culprit_named(recorder, watches, caplog):
    """Once for the block, with about its time, and with the function that did it."""

    async def run():
        watches.watch(probe_seconds=0.02, blocked_seconds=0.3)
        await asyncio.sleep(0.05)
        the_culprit(1.0)
        await asyncio.sleep(0.05)

    with caplog.at_level(logging.WARNING, logger="llmvitals"):
        asyncio.run(run())

    assert 1 == value(recorder, "loop_blocked_total")
    assert 0.9 <= value(recorder, "loop_blocked_seconds_total") <= 3
    [record] = caplog.records
    assert "the_culprit" in record.getMessage()
    assert "time.sleep(seconds)" in record.getMessage()


def test_a_block_that_lasts_shows_while_it_lasts(recorder, watches):
    """A loop that never comes back cannot say so itself."""
    seen = []

    async def run():
        watches.watch(probe_seconds=0.02, blocked_seconds=0.1)
        await asyncio.sleep(0.05)
        deadline = time.monotonic() + 5
        while not seen and time.monotonic() < deadline:
            the_culprit(0.02)
            if value(recorder, "loop_blocked_seconds_total") > 0.2:
                seen.append(value(recorder, "loop_blocked_total"))

    asyncio.run(run())

    assert [1] == seen


def test_a_free_loop_is_not_blocked(recorder, watches, caplog):
    """Lag is measured, tasks are counted, nothing is logged."""

    async def run():
        watches.watch(probe_seconds=0.01, blocked_seconds=1.0)
        others = [asyncio.create_task(asyncio.sleep(0.1)) for _ in range(3)]
        await asyncio.gather(*others)

    with caplog.at_level(logging.WARNING, logger="llmvitals"):
        asyncio.run(run())

    assert 0 == value(recorder, "loop_blocked_total")
    assert value(recorder, "loop_lag_seconds_count") >= 2
    assert 4 == value(recorder, "tasks")
    assert [] == caplog.records


def test_a_loop_that_does_not_run_is_not_blocked(recorder, watches):
    """Between two run_until_complete it is nobody's fault."""
    loop = asyncio.new_event_loop()

    async def begin():
        watches.watch(probe_seconds=0.02, blocked_seconds=0.5)
        await asyncio.sleep(0.05)

    try:
        loop.run_until_complete(begin())
        time.sleep(1.0)
        loop.run_until_complete(asyncio.sleep(0.1))
    finally:
        loop.close()

    assert 0 == value(recorder, "loop_blocked_total")


def test_loops_of_threads_are_watched_apart(recorder, watches):
    """asyncio.run beside a running loop is nothing special."""

    async def run(name, block):
        watches.watch(name=name, probe_seconds=0.02, blocked_seconds=0.5)
        await asyncio.sleep(0.05)
        if block:
            the_culprit(1.2)
        await asyncio.sleep(0.05)

    threads = [threading.Thread(target=asyncio.run, args=(run(*args),)) for args in (("a", True), ("b", False))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 1 == value(recorder, "loop_blocked_total", "a")
    assert 0 == value(recorder, "loop_blocked_total", "b")


def test_the_watchdog_ends_with_its_loop(watches):
    """No thread is left behind by a loop that was closed."""

    async def run():
        return watches.watch(probe_seconds=0.01)

    watch = asyncio.run(run())
    watch._watchdog.join(5)

    assert not watch._watchdog.is_alive()
    assert watch.stopped


def test_a_loop_is_watched_once(watches):
    """The second call gives the first watch; outside of a loop there is nothing to watch."""

    async def run():
        return watches.watch() is watches.watch()

    assert asyncio.run(run())
    with pytest.raises(RuntimeError):
        watches.watch()
