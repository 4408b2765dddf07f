"""Whatever happens around us, the application goes on and sees nothing of ours."""

import asyncio
import contextvars
import gc
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from llmvitals import _series, testing
from llmvitals._series import LOCK

DURATIONS = "gen_ai_client_operation_duration_seconds_count"
OPERATIONS = "llmvitals_operation_duration_seconds_count"


@pytest.fixture(name="vitals")
def _vitals():
    with testing.fresh() as vitals:
        yield vitals


def use(vitals):
    with vitals.call(provider="local", model="talker") as call:
        call.usage(input_tokens=3, output_tokens=1)
    list(vitals.call(provider="local", model="talker").stream(chunk for chunk in ("a", "b")))
    with vitals.operation("talk", target_seconds=1):
        pass


def run(program, *, expected=0):
    """Run a program of an application, with every warning an error; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (expected, "") == (done.returncode, done.stderr)
    return done.stdout


def is_free(lock):
    """Whether another thread could take it: a reentrant lock is always free to its owner."""
    taken = []
    other = threading.Thread(target=lambda: taken.append(lock.acquire(blocking=False) and lock.release() is None))
    other.start()
    other.join()
    return taken == [True]


# --- What interrupts ----------------------------------------------------------------------------------------------


def test_an_interrupt_comes_out_and_leaves_the_locks_free(vitals):
    """A KeyboardInterrupt at any moment of recording passes through as it is, and what comes after is counted."""

    def interrupt(*_):
        raise KeyboardInterrupt

    def work():
        # Not for ever: Python swallows an interrupt that comes in a callback of the garbage collector's.
        for _ in range(20_000):
            with vitals.call(provider="local", model="talker") as call:
                call.usage(input_tokens=3)
            with vitals.operation("talk", target_seconds=1):
                pass

    before_ours = signal.signal(signal.SIGALRM, interrupt)
    try:
        for step in range(300):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.000_003 * (step + 1))
                # One that comes between a block's opening and its body leaves its call the active one of this context.
                contextvars.copy_context().run(work)
            except KeyboardInterrupt:
                assert is_free(LOCK)
    finally:
        signal.signal(signal.SIGALRM, before_ours)
    before = vitals.value(DURATIONS)
    use(vitals)

    assert before + 2 == vitals.value(DURATIONS)
    assert vitals.value("llmvitals_instrumentation_errors_total") is None


def test_a_signal_handler_may_record(vitals):
    """In the middle of a recording: nothing waits for itself, nothing is lost."""
    handled = 0

    def handle(*_):
        nonlocal handled
        handled += 1
        use(vitals)

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        number = 0
        while handled < 50:
            use(vitals)
            number += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    assert number + handled == vitals.value(OPERATIONS)
    assert 2 * (number + handled) == vitals.value(DURATIONS)


# --- What runs short ----------------------------------------------------------------------------------------------


def test_memory_that_runs_out_in_ours_is_not_the_applications(vitals, monkeypatch):
    """The call's own result comes out; the fault is counted where there is room for that."""
    use(vitals)

    def full(*args):
        raise MemoryError

    with monkeypatch.context() as short:
        short.setattr(_series.HistogramSeries, "observe", full)
        use(vitals)
        assert ["a", "b"] == list(vitals.call(provider="local", model="talker").stream(iter(["a", "b"])))

    assert vitals.value("llmvitals_instrumentation_errors_total") >= 1
    assert is_free(LOCK)


def test_a_stack_that_runs_out_leaves_everything_as_it_was(vitals):
    """Recording at each depth, until there is no deeper: the application's own error comes out, and all is well."""

    def deeper():
        with vitals.operation("talk"):
            deeper()

    with pytest.raises(RecursionError):
        deeper()
    assert is_free(LOCK)
    before = vitals.value(DURATIONS) or 0
    use(vitals)

    assert before + 2 == vitals.value(DURATIONS)


# --- What looks on ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("install", [sys.settrace, sys.setprofile], ids=["trace", "profile"])
def test_a_debugger_or_profiler_changes_no_number(vitals, install):
    """Not even one that records itself."""
    looking = False

    def look(frame, event, arg):
        nonlocal looking
        if not looking:
            looking = True
            with vitals.operation("look"):
                pass
            looking = False
        return look

    before = sys.gettrace()
    install(look)
    try:
        use(vitals)
    finally:
        install(before if install is sys.settrace else None)

    assert 2 == vitals.value(DURATIONS)
    assert 1 == vitals.value(OPERATIONS, operation="talk")
    assert vitals.value(OPERATIONS, operation="look") > 10


def test_a_stream_is_finalised_without_the_garbage_collector(vitals):
    """Applications switch it off for speed."""
    gc.disable()
    try:
        stream = vitals.call(provider="local", model="talker").stream(chunk for chunk in ("a", "b"))
        next(stream)
        del stream
        assert 1 == vitals.value("llmvitals_stream_ends_total", reason="abandoned")
    finally:
        gc.enable()


# --- Threads and loops --------------------------------------------------------------------------------------------


def test_loops_of_many_threads_beside_a_running_one(vitals):
    """`asyncio.run` in threads while a loop runs: calls, operations and modules are bound to none."""
    module = vitals.module("thinking", timeout_seconds=5)

    @module
    async def think():
        await asyncio.sleep(0)

    @vitals.call(provider="local", model="talker")
    async def ask():
        await think()
        with vitals.operation("talk"):
            return "Fine"

    def in_a_thread():
        return [asyncio.run(ask()) for _ in range(10)]

    async def main():
        asked = [asyncio.to_thread(in_a_thread) for _ in range(8)]
        return await asyncio.gather(*asked, *(ask() for _ in range(20)))

    asyncio.run(main())

    assert 100 == vitals.value(DURATIONS) == vitals.value(OPERATIONS)
    assert 100 == vitals.value("llmvitals_module_duration_seconds_count")
    assert 0 == vitals.value("llmvitals_calls_in_flight") == vitals.value("llmvitals_operations_in_flight")


def test_another_kind_of_loop_makes_no_difference(vitals):
    """uvloop: streams that end, are cancelled and are dropped, and the loop's lag."""
    uvloop = pytest.importorskip("uvloop")

    async def chunks():
        yield "a"
        await asyncio.sleep(3600)

    async def ended():
        async for _ in vitals.call(provider="local", model="talker").stream(chunks()):
            continue

    async def until(happened):
        async with asyncio.timeout(10):
            while not happened():  # noqa: ASYNC110 -- what is waited for is a number
                await asyncio.sleep(0.001)

    async def main():
        watch = vitals.watch_loop("uv")
        waiting = [asyncio.create_task(ended()) for _ in range(20)]
        await until(lambda: vitals.value("llmvitals_calls_in_flight") == 20)
        for task in waiting:
            task.cancel()
        assert all(await asyncio.gather(*waiting, return_exceptions=True))
        stream = vitals.call(provider="local", model="talker").stream(chunks())
        await anext(stream)
        del stream
        await until(lambda: vitals.value("llmvitals_stream_ends_total", reason="abandoned"))
        await until(lambda: vitals.value("llmvitals_asyncio_loop_lag_seconds_count", loop="uv"))
        watch.stop()

    uvloop.run(main())

    assert 21 == vitals.value(DURATIONS)
    assert 0 == vitals.value("llmvitals_calls_in_flight")


# --- The end of the interpreter -----------------------------------------------------------------------------------

START = """
    import atexit, gc, sys, threading
    import llmvitals
    vitals = llmvitals.start("app", port=0)
"""
ENDINGS = {
    "a stream half read": """
        stream = vitals.call(provider="local", model="talker").stream(chunk for chunk in "abc")
        print(next(stream))
    """,
    "an async stream half read": """
        import asyncio
        async def chunks():
            yield "a"
            yield "b"
        async def main():
            global stream
            stream = vitals.call(provider="local", model="talker").stream(chunks())
            print(await anext(stream))
        asyncio.run(main())
    """,
    "a stream in a cycle": """
        class Held: pass
        held = Held()
        held.held, held.stream = held, vitals.call(provider="local", model="t").stream(chunk for chunk in "abc")
        print(next(held.stream))
        gc.disable()
        del held
    """,
    "daemon threads that record": """
        def record():
            while True:
                with vitals.call(provider="local", model="talker"): pass
        for _ in range(4): threading.Thread(target=record, daemon=True).start()
        print("a")
    """,
    "recording at the very end": """
        def late():
            with vitals.call(provider="local", model="talker"), vitals.operation("late"): pass
            vitals.summary()
            print("a")
        atexit.register(late)
        vitals.close()
    """,
    "a call that is never finished": """
        call = vitals.call(provider="local", model="talker").start()
        print("a")
    """,
    "a thread that outlives main": """
        def record():
            for _ in range(2000):
                with vitals.operation("talk"): pass
            print("a")
        threading.Thread(target=record).start()
    """,
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_interpreter_that_ends_says_nothing_of_ours(ending):
    """No traceback, no warning, no hang, and the application's own exit status."""
    assert "a\n" == run(textwrap.dedent(START) + textwrap.dedent(ENDINGS[ending]))


def test_a_disk_that_is_full_is_survived():
    """The history's file can take no more; the application goes on, and the fault is counted."""
    program = """
        import logging, resource, signal, tempfile, pathlib
        import llmvitals
        logging.disable(logging.CRITICAL)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with tempfile.TemporaryDirectory() as folder:
            vitals = llmvitals.start("app", port=0, history_file=pathlib.Path(folder) / "history.jsonl")
            resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))
            for number in range(500):
                vitals.history().record("model_swapped", "thinker", number=number)
                with vitals.operation("talk"): pass
            value = vitals.registry.get_sample_value
            print(value("llmvitals_operation_duration_seconds_count", {"operation": "talk", "error_type": ""}))
            vitals.close()
    """
    assert "500.0\n" == run(program)


def test_a_scrape_that_fails_is_the_scrapers_alone(vitals):
    """A collector of the application's own raises; whoever scrapes is told, and recording goes on."""

    class Broken:
        def describe(self):
            return ()

        def collect(self):
            raise RuntimeError("no numbers today")

    vitals.registry.register(Broken())
    vitals.serve_metrics("127.0.0.1", 0)
    started = time.perf_counter()
    from tests.servers import request

    answer = request(f"http://127.0.0.1:{vitals.metrics_port}/metrics")
    with vitals.operation("talk"):
        pass

    assert answer.status in (200, 500)
    assert time.perf_counter() - started < 10
    series = vitals.recorder.child(testing.catalogue.OPERATION_DURATION, "talk", "")
    assert 1 == series.amounts()[-2]
