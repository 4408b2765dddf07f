import asyncio
import pickle
import threading

import pytest

import llmvitals
from llmvitals._breaker import Breaker


class Clock:
    """A clock that goes when told."""

    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture(name="clock")
def _clock():
    return Clock()


@pytest.fixture(name="breaker")
def _breaker(vitals, clock):
    return Breaker(
        vitals.recorder, "llm", failure_threshold=3, reset_timeout_seconds=30, ignore=(KeyError,), clock=clock
    )


def call_sync(breaker, function):
    return breaker.call(function)


def call_async(breaker, function):
    async def afunction():
        return function()

    return asyncio.run(breaker.acall(afunction))


def call_decorated(breaker, function):
    return breaker(function)()


def call_decorated_async(breaker, function):
    @breaker
    async def afunction():
        return function()

    return asyncio.run(afunction())


def call_block(breaker, function):
    with breaker:
        return function()


def call_async_block(breaker, function):
    async def main():
        async with breaker:
            await asyncio.sleep(0)
            return function()

    return asyncio.run(main())


def call_decorated_generator(breaker, function):
    @breaker
    def pieces():
        yield "first"
        return function()

    def consume():
        return (yield from pieces())

    consuming = consume()
    try:
        while True:
            next(consuming)
    except StopIteration as end:
        return end.value


def call_decorated_async_generator(breaker, function):
    @breaker
    async def pieces():
        yield "first"
        yield function()

    async def main():
        return [piece async for piece in pieces()][-1]

    return asyncio.run(main())


@pytest.fixture(
    name="call",
    params=[
        call_sync,
        call_async,
        call_decorated,
        call_decorated_async,
        call_block,
        call_async_block,
        call_decorated_generator,
        call_decorated_async_generator,
    ],
    ids=lambda way: way.__name__,
)
def _call(request, breaker):
    """Every way through the breaker."""
    return lambda function: request.param(breaker, function)


def fail():
    raise ConnectionError


def ok():
    return "reply"


def outcomes(vitals):
    return {
        dict(labels)["outcome"]: value
        for labels, value in vitals.samples("llmvitals_circuit_breaker_calls_total").items()
        if value
    }


def states(vitals):
    return {dict(labels)["state"]: value for labels, value in vitals.samples("llmvitals_circuit_breaker_state").items()}


def trip(breaker):
    for _ in range(breaker.failure_threshold):
        with pytest.raises(ConnectionError):
            breaker.call(fail)


def test_it_opens_after_failures_in_a_row_and_counts_what_it_refuses(vitals, call, breaker):
    """A refused call is not made; it is seen."""
    for _ in range(3):
        with pytest.raises(ConnectionError):
            call(fail)
    for _ in range(2):
        with pytest.raises(llmvitals.CircuitOpenError):
            call(lambda: pytest.fail("called"))

    assert "open" == breaker.state
    assert {"failure": 3, "rejected": 2} == outcomes(vitals)
    assert {"closed": 0, "open": 1, "half_open": 0} == states(vitals)
    assert 1 == vitals.value("llmvitals_circuit_breaker_transitions_total", to_state="open")


def test_a_success_between_failures_starts_over(breaker, call):
    """Only failures in a row open it."""
    for function in (fail, fail, ok, fail, fail):
        try:
            assert "reply" == call(function)
        except ConnectionError:
            continue

    assert "closed" == breaker.state


def test_the_probe_closes_it(vitals, breaker, clock, call):
    """After the time-out one call goes through; its success is the end of it."""
    trip(breaker)
    clock.now += 30

    assert "reply" == call(ok)

    assert "closed" == breaker.state
    assert {"closed": 1, "open": 0, "half_open": 0} == states(vitals)
    assert 1 == vitals.value("llmvitals_circuit_breaker_transitions_total", to_state="half_open")


def test_a_failed_probe_opens_it_again(breaker, clock, call):
    """For the whole time-out."""
    trip(breaker)
    clock.now += 30
    with pytest.raises(ConnectionError):
        call(fail)
    clock.now += 29

    with pytest.raises(llmvitals.CircuitOpenError) as refused:
        call(ok)
    assert 1 == refused.value.retry_after_seconds
    assert "llm" == refused.value.name


def test_one_probe_at_a_time(vitals, breaker, clock):
    """While it is under way, all other threads are refused."""
    trip(breaker)
    clock.now += 30
    probing, release = threading.Event(), threading.Event()

    def probe():
        probing.set()
        release.wait(10)

    thread = threading.Thread(target=breaker.call, args=(probe,))
    thread.start()
    probing.wait(10)
    for _ in range(20):
        with pytest.raises(llmvitals.CircuitOpenError):
            breaker.call(ok)
    assert "half_open" == breaker.state
    release.set()
    thread.join()

    assert "closed" == breaker.state
    assert {"failure": 3, "rejected": 20, "success": 1} == outcomes(vitals)


def test_ignored_errors_say_nothing_about_the_service(vitals, breaker, clock, call):
    """Neither for nor against it; as a probe they leave the question open."""

    def mistake():
        raise KeyError

    for _ in range(5):
        with pytest.raises(KeyError):
            call(mistake)
    assert "closed" == breaker.state

    trip(breaker)
    clock.now += 30
    with pytest.raises(KeyError):
        call(mistake)
    assert "half_open" == breaker.state
    assert "reply" == call(ok)
    assert "closed" == breaker.state
    assert 6 == outcomes(vitals)["ignored"]


def test_a_cancelled_probe_gives_its_place_back(vitals, breaker, clock):
    """Else nobody would ever probe again."""
    trip(breaker)
    clock.now += 30

    async def main():
        task = asyncio.create_task(breaker.acall(asyncio.sleep, 30))
        await asyncio.sleep(0)
        with pytest.raises(llmvitals.CircuitOpenError):
            breaker.call(ok)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    assert "reply" == breaker.call(ok)
    assert 1 == outcomes(vitals)["ignored"]


def test_a_cancelled_block_is_no_failure(vitals, breaker, clock):
    """Nor one that a time-out outside of it ends; a time-out inside of it is."""

    async def patient():
        async with breaker:
            await asyncio.sleep(30)

    async def main():
        task = asyncio.create_task(patient())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(patient(), 0.01)
        with pytest.raises(TimeoutError):
            async with breaker, asyncio.timeout(0.01):
                await asyncio.sleep(30)

    asyncio.run(main())

    assert {"ignored": 2, "failure": 1} == outcomes(vitals)


def test_blocks_of_many_tasks_and_threads_are_told_apart(vitals, breaker):
    """Each block's end is its own, in whatever order they end."""

    async def ask(number):
        async with breaker:
            await asyncio.sleep(0.001 * (number % 7))
            if number % 4 == 0:
                raise KeyError

    async def main():
        return await asyncio.gather(*(ask(number) for number in range(40)), return_exceptions=True)

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {"success": 120, "ignored": 40} == outcomes(vitals)
    assert not breaker._blocks


def test_a_stream_that_is_left_says_nothing(vitals, breaker, clock):
    """A probe whose reader goes away, or drops it, gives its place back."""

    @breaker
    def pieces():
        yield from "abc"

    trip(breaker)
    for leave in (lambda stream: stream.close(), lambda stream: None):
        clock.now += 30
        stream = pieces()
        assert "a" == next(stream)
        with pytest.raises(llmvitals.CircuitOpenError):
            breaker.call(ok)
        leave(stream)
        del stream

    assert "reply" == breaker.call(ok)
    assert 2 == outcomes(vitals)["ignored"]


def test_a_dropped_stream_may_be_collected_while_the_breaker_is_at_work(vitals, breaker):
    """A finaliser runs anywhere: even where its own thread holds the lock, it waits for nothing."""

    @breaker
    def pieces():
        yield from "abc"

    stream = pieces()
    next(stream)

    def drop():
        nonlocal stream
        with breaker._lock:
            stream = None

    dropping = threading.Thread(target=drop, daemon=True)
    dropping.start()
    dropping.join(5)

    assert not dropping.is_alive()
    vitals.recorder.drain()
    assert {"ignored": 1} == outcomes(vitals)


def test_a_block_may_be_left_in_another_context(vitals, breaker):
    """As when an event loop closes a stream whose reader is gone."""

    async def pieces():
        async with breaker:
            yield 1
            yield 2

    async def main():
        stream = pieces()
        await asyncio.create_task(anext(stream))
        await asyncio.create_task(stream.aclose())

    asyncio.run(main())
    vitals.recorder.drain()

    assert {"ignored": 1} == outcomes(vitals)
    assert not breaker._blocks


def test_a_call_from_before_the_opening_does_not_close_it(breaker):
    """Late news of the past say nothing about the present."""
    begun, release = threading.Event(), threading.Event()

    def slow():
        begun.set()
        release.wait(10)

    thread = threading.Thread(target=breaker.call, args=(slow,))
    thread.start()
    begun.wait(10)
    trip(breaker)
    release.set()
    thread.join()

    assert "open" == breaker.state


def test_it_can_be_forced_open_and_reset(vitals, breaker, clock):
    """Forced, it stays open whatever the time; reset closes it."""
    breaker.force_open()
    clock.now += 1_000_000
    with pytest.raises(llmvitals.CircuitOpenError) as refused:
        breaker.call(ok)
    assert float("inf") == refused.value.retry_after_seconds

    breaker.reset()

    assert "reply" == breaker.call(ok)
    assert {"closed": 1, "open": 0, "half_open": 0} == states(vitals)


def test_fallbacks_are_counted(vitals, breaker):
    """Answered, but not by the service."""
    assert 0 == vitals.value("llmvitals_circuit_breaker_fallbacks_total", name="llm")
    breaker.fallback_used()

    assert 1 == vitals.value("llmvitals_circuit_breaker_fallbacks_total", name="llm")


def test_threads_together_trip_it_once(vitals, breaker):
    """Every call has exactly one outcome."""
    barrier = threading.Barrier(16)

    def hammer():
        barrier.wait()
        for _ in range(50):
            try:
                breaker.call(fail)
            except (ConnectionError, llmvitals.CircuitOpenError):
                continue

    threads = [threading.Thread(target=hammer) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 16 * 50 == sum(outcomes(vitals).values())
    assert 1 == vitals.value("llmvitals_circuit_breaker_transitions_total", to_state="open")


def test_a_name_gives_the_same_breaker(vitals):
    """The settings of the first time count, and all are known by name."""
    first = vitals.breaker("llm", failure_threshold=2)

    assert first is vitals.breaker("llm")
    assert first is not vitals.breaker("other")
    assert 2 == first.failure_threshold


def test_arguments_and_signatures_pass_through(breaker):
    """The decorated function is the function, with a breaker."""

    @breaker
    def add(left, right=1):
        """Docstring."""
        return left + right

    assert (3, 5) == (add(2), breaker.call(add, 2, right=3))
    assert ("add", "Docstring.") == (add.__name__, add.__doc__)


def test_the_error_can_be_pickled():
    """It may cross to another process."""
    error = pickle.loads(pickle.dumps(llmvitals.CircuitOpenError("llm", 3.5)))

    assert ("llm", 3.5) == (error.name, error.retry_after_seconds)
