import asyncio
import logging
import threading

import pytest
from prometheus_client import CollectorRegistry

from llmvitals._operations import Operation, Operations, level_of
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


def value(recorder, name, **labels):
    return recorder.registry.get_sample_value(name, labels)


@pytest.mark.parametrize(
    ("seconds", "level"),
    [
        (0.0, "excellent"),
        (1.25, "excellent"),
        (1.26, "good"),
        (2.5, "good"),
        (2.51, "acceptable"),
        (5.0, "acceptable"),
        (5.01, "slow"),
        (10.0, "slow"),
        (10.01, "critical"),
        (90.0, "critical"),
    ],
)
def test_levels_are_shares_of_the_target(seconds, level):
    """With a target of 5 s, 90 s are critical and 5 s are acceptable."""
    assert level == level_of(seconds, 5.0)


def test_an_operation_is_timed_and_levelled(recorder, clock):
    """Duration, level, target, and nothing left in flight."""
    operation = Operation(recorder, "talker", target_seconds=2.0, clock=clock)

    with operation:
        assert 1 == value(recorder, "llmvitals_operations_in_flight", operation="talker")
        clock.now += 0.4

    assert 1 == value(recorder, "llmvitals_operations_total", operation="talker", level="excellent")
    assert 0.4 == value(recorder, "llmvitals_operation_duration_seconds_sum", operation="talker", error_type="")
    assert 0 == value(recorder, "llmvitals_operations_in_flight", operation="talker")
    assert 2.0 == value(recorder, "llmvitals_operation_target_seconds", operation="talker")


def test_without_a_target_there_is_no_level(recorder, clock):
    """A level means nothing without something to measure against."""
    with Operation(recorder, "rag_search", clock=clock):
        clock.now += 1

    assert value(recorder, "llmvitals_operations_total", operation="rag_search", level="critical") is None
    assert 1 == value(recorder, "llmvitals_operation_duration_seconds_count", operation="rag_search", error_type="")


def test_a_failure_is_told_by_its_error_and_passes_through(recorder, clock):
    """A quick failure is no excellent answer."""
    with pytest.raises(ZeroDivisionError), Operation(recorder, "talker", target_seconds=2.0, clock=clock):
        raise ZeroDivisionError

    assert value(recorder, "llmvitals_operations_total", operation="talker", level="excellent") is None
    assert 1 == value(
        recorder, "llmvitals_operation_duration_seconds_count", operation="talker", error_type="ZeroDivisionError"
    )


def test_a_slow_failure_earns_its_level(recorder, clock):
    """A timeout after 90 s is critical for whoever waited."""

    @Operation(recorder, "talker", target_seconds=5.0, clock=clock)
    def ask():
        clock.now += 90
        raise TimeoutError

    with pytest.raises(TimeoutError):
        ask()

    assert 1 == value(recorder, "llmvitals_operations_total", operation="talker", level="critical")


def test_critical_ones_are_logged_with_context(recorder, clock, caplog):
    """What was given at the start and what was noted on the way both stand in the line."""
    operation = Operation(recorder, "thinker", target_seconds=5.0, context={"model": "big"}, clock=clock)

    with caplog.at_level(logging.WARNING, logger="llmvitals"), operation:
        operation.note(chunks=3)
        clock.now += 11

    assert ["operation thinker took 11.000 s; its target is 5 s; model='big'; chunks=3"] == [
        record.getMessage().removeprefix("llmvitals: ") for record in caplog.records
    ]


def test_what_is_not_critical_is_not_logged(recorder, clock, caplog):
    """Slow is a matter for the metrics."""
    with caplog.at_level(logging.DEBUG, logger="llmvitals"), Operation(recorder, "t", target_seconds=5, clock=clock):
        clock.now += 9

    assert [] == caplog.records


def test_it_decorates_functions_and_coroutine_functions(recorder):
    """A coroutine function stays one, and the time is that of its end, not of its creation."""
    operations = Operations(recorder)

    @operations.operation("sync")
    def double(number):
        return 2 * number

    @operations.operation("async")
    async def slow_double(number):
        await asyncio.sleep(0.02)
        return 2 * number

    assert asyncio.iscoroutinefunction(slow_double)
    assert [4, 6] == [double(2), asyncio.run(slow_double(3))]
    assert 1 == value(recorder, "llmvitals_operation_duration_seconds_count", operation="sync", error_type="")
    assert 0.02 <= value(recorder, "llmvitals_operation_duration_seconds_sum", operation="async", error_type="")


def test_a_generator_cannot_be_decorated(recorder):
    """It would time the creation of the generator: a wrong number is worse than an error at import."""
    with pytest.raises(TypeError, match="use `with` inside"):

        @Operations(recorder).operation("stream")
        def stream():
            yield 1


def test_one_object_may_run_many_times_at_once(recorder):
    """Tasks and threads that share an operation do not mix up their times."""
    operation = Operations(recorder).operation("talker")

    async def run(seconds):
        async with operation:
            await asyncio.sleep(seconds)

    async def both():
        await asyncio.gather(run(0.01), run(0.05), run(0.03))

    threads = [threading.Thread(target=asyncio.run, args=(both(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    total = value(recorder, "llmvitals_operation_duration_seconds_sum", operation="talker", error_type="")
    assert 9 == value(recorder, "llmvitals_operation_duration_seconds_count", operation="talker", error_type="")
    assert 0.27 <= total < 1.0
    assert 0 == value(recorder, "llmvitals_operations_in_flight", operation="talker")


def test_it_may_be_left_in_another_task_than_it_was_entered(recorder):
    """Frameworks run the set-up and the tear-down of a request in two contexts."""
    operation = Operations(recorder).operation("talker")

    async def split():
        await asyncio.create_task(operation.__aenter__())
        await asyncio.create_task(operation.__aexit__(None, None, None))

    asyncio.run(split())

    assert 0 == value(recorder, "llmvitals_operations_in_flight", operation="talker")
    assert 1 == value(recorder, "llmvitals_operation_duration_seconds_count", operation="talker", error_type="")


def test_a_target_must_be_above_zero(recorder):
    """Otherwise everything would be critical."""
    with pytest.raises(ValueError, match="above 0"):
        Operations(recorder).operation("talker", target_seconds=0)
