import asyncio
import threading

import pytest
from prometheus_client import CollectorRegistry

from llmvitals._modules import Module, Modules
from llmvitals._recording import Recorder


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture(name="clock")
def _clock():
    return Clock()


@pytest.fixture(name="recorder")
def _recorder():
    return Recorder(CollectorRegistry())


def runs(recorder, outcome):
    return recorder.registry.get_sample_value(
        "llmvitals_module_duration_seconds_count", {"module": "inner_monologue", "outcome": outcome}
    )


def value(recorder, name, **labels):
    return recorder.registry.get_sample_value(name, {"module": "inner_monologue", **labels})


def test_a_run_is_timed_and_its_end_remembered(recorder, clock):
    """Duration, nothing left in flight, and when it last ended well."""
    module = Module(recorder, "inner_monologue", timeout_seconds=30, clock=clock)

    assert value(recorder, "llmvitals_module_last_success_timestamp_seconds") is None
    with module:
        clock.now += 2
        assert 1 == value(recorder, "llmvitals_module_in_flight")

    assert 1 == runs(recorder, "success")
    assert 0 == value(recorder, "llmvitals_module_in_flight")
    assert 30 == value(recorder, "llmvitals_module_timeout_seconds")
    assert value(recorder, "llmvitals_module_last_success_timestamp_seconds") > 1e9


def test_an_async_run_over_its_time_is_cancelled(recorder):
    """The module is told by TimeoutError, the metrics by outcome and error."""
    module = Module(recorder, "inner_monologue", timeout_seconds=0.01)

    @module
    async def think():
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        asyncio.run(think())

    assert 1 == runs(recorder, "timeout")
    assert 1 == value(recorder, "llmvitals_module_errors_total", error_type="TimeoutError")
    assert {"timeout_runs": 1, "last_error": "TimeoutError"}.items() <= module.summary().items()


def test_a_sync_run_over_its_time_is_overdue_and_then_timed_out(recorder, clock):
    """Nobody can interrupt it; it shows while it goes on, and what it returns is kept."""
    module = Module(recorder, "inner_monologue", timeout_seconds=30, clock=clock)

    @module
    def think():
        clock.now += 31
        return value(recorder, "llmvitals_module_overdue")

    assert 1 == think()
    assert 0 == value(recorder, "llmvitals_module_overdue")
    assert 1 == runs(recorder, "timeout")
    assert 1 == value(recorder, "llmvitals_module_errors_total", error_type="overrun")


def test_an_error_passes_through_and_is_counted(recorder):
    """By its kind."""
    with pytest.raises(ZeroDivisionError), Module(recorder, "inner_monologue"):
        raise ZeroDivisionError

    assert 1 == runs(recorder, "error")
    assert 1 == value(recorder, "llmvitals_module_errors_total", error_type="ZeroDivisionError")


def test_a_cancelled_run_is_no_error(recorder):
    """The application stops it at its end, for one."""
    module = Module(recorder, "inner_monologue", timeout_seconds=60)

    async def cancel():
        async def think():
            async with module:
                entered.set()
                await asyncio.Event().wait()

        entered = asyncio.Event()
        task = asyncio.create_task(think())
        await entered.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()

    asyncio.run(cancel())

    assert 1 == runs(recorder, "cancelled")
    assert value(recorder, "llmvitals_module_errors_total", error_type="CancelledError") is None
    assert module.summary()["last_error"] is None


def test_many_runs_at_once_do_not_mix(recorder):
    """Tasks in several loops share one module; each time-out is its own."""
    module = Module(recorder, "inner_monologue", timeout_seconds=0.2)

    async def run(hang):
        async with module:
            await (asyncio.Event().wait() if hang else asyncio.sleep(0))

    async def many():
        await asyncio.gather(*(run(hang) for hang in (True, False, False)), return_exceptions=True)

    threads = [threading.Thread(target=asyncio.run, args=(many(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (6, 3) == (runs(recorder, "success"), runs(recorder, "timeout"))
    assert 0 == value(recorder, "llmvitals_module_in_flight")


def test_a_name_gives_one_module(recorder):
    """So that it can be asked for where it is used."""
    modules = Modules(recorder)

    assert modules.module("a", timeout_seconds=1) is modules.module("a")
    assert {"a"} == set(modules.summary())


def test_what_cannot_be_timed_is_refused(recorder):
    """A generator's creation, and a time-out of nothing."""
    with pytest.raises(TypeError, match="use `with` inside"):

        @Module(recorder, "stream")
        def stream():
            yield 1

    with pytest.raises(ValueError, match="above 0"):
        Module(recorder, "none", timeout_seconds=0)
