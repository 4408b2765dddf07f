import asyncio
import logging
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from prometheus_client import CollectorRegistry

from llmvitals._recording import Recorder
from llmvitals._shutdown import Shutdown


@pytest.fixture(name="recorder")
def _recorder():
    return Recorder(CollectorRegistry())


@pytest.fixture(name="shutdown")
def _shutdown(recorder):
    return Shutdown(recorder)


@pytest.fixture(name="release")
def _release():
    """Lets closers that hang go at the end of a test."""
    event = threading.Event()
    yield event
    event.set()


def value(recorder, name, **labels):
    return recorder.registry.get_sample_value(name, labels)


def test_the_highest_priority_is_closed_first_and_of_one_the_latest(shutdown):
    """What was opened last, on top of the rest, is closed first."""
    closed = []
    for name, priority in [("log", 0), ("database", 0), ("server", 10)]:
        shutdown.register(name, lambda name=name: closed.append(name), priority=priority)

    report = shutdown.run()

    assert ["server", "database", "log"] == closed
    assert ("server", "database", "log") == report.closed
    assert report.orderly


def test_sync_and_async_closers_are_called_from_either_side(recorder):
    """A function, a coroutine function, and a function that gives a coroutine."""

    def registered():
        closed = []

        async def close_async():
            await asyncio.sleep(0)
            closed.append("async")

        shutdown = Shutdown(recorder)
        shutdown.register("a", lambda: closed.append("sync"))
        shutdown.register("b", close_async)
        shutdown.register("c", lambda again=close_async: again())
        return shutdown, closed

    shutdown, closed = registered()
    assert shutdown.run().orderly
    assert ["async", "async", "sync"] == closed

    shutdown, closed = registered()
    assert asyncio.run(shutdown.arun()).orderly
    assert ["async", "async", "sync"] == closed


def test_what_fails_or_hangs_is_named_and_the_rest_is_closed(recorder, release, caplog):
    """In time, all of it, however many hang."""
    shutdown = Shutdown(recorder, timeout_seconds=0.4)

    async def deaf():
        while not release.is_set():
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                continue

    shutdown.register("database", lambda: None)
    shutdown.register("deaf", deaf)
    shutdown.register("stuck", release.wait)
    shutdown.register("broken", lambda: 1 / 0)
    started = time.monotonic()

    report = shutdown.run()

    assert ("database",) == report.closed
    assert {"broken", "stuck", "deaf"} == set(report.failed)
    assert "ZeroDivisionError: division by zero" == report.failed["broken"]
    assert report.failed["stuck"].startswith("not closed within")
    assert not report.orderly
    assert time.monotonic() - started < 2
    assert "stuck was not closed" in caplog.text
    assert 1 == value(recorder, "llmvitals_shutdown_resources", state="closed")
    assert 3 == value(recorder, "llmvitals_shutdown_resources", state="failed")
    assert 1 == value(recorder, "llmvitals_shutdown_close_duration_seconds_count", resource="stuck", outcome="timeout")
    assert 0 < value(recorder, "llmvitals_shutdown_duration_seconds") < 2


def test_tasks_may_finish_and_are_cancelled_then(recorder):
    """And one that heeds nothing is told of."""
    shutdown = Shutdown(recorder, timeout_seconds=2, task_seconds=0.05)

    async def end():
        deaf_may_end = asyncio.Event()

        async def deaf():
            while not deaf_may_end.is_set():
                try:
                    await deaf_may_end.wait()
                except asyncio.CancelledError:
                    continue

        tasks = [shutdown.task(asyncio.create_task(work)) for work in (asyncio.sleep(0.01), asyncio.sleep(60), deaf())]
        assert 3 == value(recorder, "llmvitals_shutdown_tasks", state="pending")
        report = await shutdown.arun()
        deaf_may_end.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        return report

    report = asyncio.run(end())

    assert (1, 1, 1) == (report.tasks_finished, report.tasks_cancelled, report.tasks_left)
    assert 1 == value(recorder, "llmvitals_shutdown_tasks", state="cancelled")


def test_from_a_thread_tasks_and_closers_of_a_running_loop_are_served_there(shutdown):
    """As a signal's thread does it while the loop goes on."""

    async def live():
        lock = asyncio.Lock()
        loop = asyncio.get_running_loop()
        seen = []

        async def close():
            async with lock:
                seen.append(asyncio.get_running_loop() is loop)

        shutdown.register("client", close)
        shutdown.register("pool", lambda again=close: again())
        task = shutdown.task(asyncio.create_task(asyncio.sleep(0.01)))
        report = await asyncio.to_thread(shutdown.run)
        return seen, task.done(), report

    seen, done, report = asyncio.run(live())

    assert ([True, True], True, True) == (seen, done, report.orderly)


def test_it_happens_once(shutdown):
    """Whoever comes second gets the first one's report."""
    closed = []
    shutdown.register("database", lambda: closed.append(1))

    async def twice():
        return await asyncio.gather(shutdown.arun(), shutdown.arun())

    first, second = asyncio.run(twice())

    assert first is second is shutdown.run()
    assert [1] == closed
    assert shutdown.begun


def test_a_cancelled_wait_does_not_stop_the_closing(shutdown):
    """The server's own grace may be over before ours."""
    closed = threading.Event()

    async def slow():
        await asyncio.sleep(0.02)
        closed.set()

    async def end():
        shutdown.register("database", slow)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(shutdown.arun(), 0.001)
        await shutdown.arun()

    asyncio.run(end())

    assert closed.is_set()


def test_run_inside_of_a_loop_says_what_to_call(shutdown):
    """It would block the loop that it waits for."""

    async def wrong():
        shutdown.run()

    with pytest.raises(RuntimeError, match=r"await shutdown\.arun"):
        asyncio.run(wrong())


def test_one_may_be_closed_where_the_shutdown_runs(shutdown):
    """For what belongs to one thread, as SQLite's connections do."""
    seen = []
    shutdown.register("sqlite", lambda: seen.append(threading.current_thread()), in_thread=False)
    shutdown.register("gone", lambda: seen.append("gone"))
    shutdown.forget("gone")

    shutdown.run()

    assert [threading.current_thread()] == seen


def test_a_taken_name_and_times_that_are_none_are_refused(recorder, shutdown):
    """At the line that makes the mistake."""
    shutdown.register("database", lambda: None)

    with pytest.raises(ValueError, match="registered already"):
        shutdown.register("database", lambda: None)
    with pytest.raises(ValueError, match="timeout_seconds"):
        Shutdown(recorder, timeout_seconds=0)


PROGRAM = """
    import signal, threading
    from llmvitals import testing

    vitals = testing.fresh()
    shutdown = vitals.shutdown()
    shutdown.register("database", lambda: print("closed", flush=True))
    shutdown.register("slow", HANG, priority=1)
    shutdown.on_signals(THEN)
    print("ready", flush=True)
    forever.wait()
    print("left in peace", flush=True)
"""


@pytest.mark.parametrize(
    ("hang", "then", "signals", "told", "code"),
    [
        ("lambda: None", "", [signal.SIGTERM], "closed\n", -signal.SIGTERM),
        ("lambda: None", "then=lambda _: forever.set()", [signal.SIGTERM], "closed\nleft in peace\n", 0),
        ("lambda: (print('hangs', flush=True), forever.wait())", "", [signal.SIGTERM] * 2, "hangs\n", -signal.SIGTERM),
    ],
    ids=["as if nobody had listened", "then something else", "a second signal"],
)
def test_signals_end_the_process_in_order(hang, then, signals, told, code):
    """Opted in: the first closes everything, and then the process ends by the signal or as it is told; a second one
    does not wait.
    """
    text = textwrap.dedent(PROGRAM).replace("HANG", hang).replace("THEN", then)
    process = subprocess.Popen(
        [sys.executable, "-c", text.replace("vitals =", "forever = threading.Event()\nvitals =")],
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert "ready\n" == process.stdout.readline()
        process.send_signal(signals[0])
        seen = ""
        if len(signals) > 1:
            seen = process.stdout.readline()
            process.send_signal(signals[1])
        seen += process.stdout.read()

        assert (told, code) == (seen, process.wait(10))


def test_a_shutdown_is_logged_in_one_line(shutdown, caplog):
    """With its time and its counts."""
    shutdown.register("database", lambda: None)

    with caplog.at_level(logging.INFO, logger="llmvitals"):
        shutdown.run()

    assert ["1 closed, 0 failed"] == [record.getMessage().split(": ")[2].partition(";")[0] for record in caplog.records]
