import asyncio
import threading

import pytest

from llmvitals import testing


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Thing:
    """Something dear to make, that knows whether it is closed."""

    closed = False

    def close(self):
        self.closed = True


@pytest.fixture(name="vitals")
def _vitals():
    with testing.fresh() as fresh:
        yield fresh


def pool_of(vitals, **settings):
    return vitals.object_pool("things", Thing, close=Thing.close, **settings)


def connections(vitals):
    return {state: vitals.value("llmvitals_pool_connections", pool="things", state=state) for state in ("used", "idle")}


def closed(vitals):
    counted = vitals.samples("llmvitals_pool_closed_total")
    return {dict(labels)["reason"]: count for labels, count in counted.items() if count}


def test_what_comes_back_is_lent_again(vitals):
    """One is made when it is needed, and used again afterwards, by threads and on event loops alike."""
    pool = pool_of(vitals)

    async def borrow():
        async with pool.atake() as thing:
            return thing

    with pool.take() as first:
        assert {"used": 1, "idle": 0} == connections(vitals)
        with pool.take() as second:
            assert first is not second
    assert asyncio.run(borrow()) is first

    assert {"used": 0, "idle": 2} == connections(vitals)
    assert 2 == vitals.value("llmvitals_pool_created_total", pool="things")
    assert 3 == vitals.value("llmvitals_pool_wait_seconds_count", pool="things")


def test_who_comes_to_an_empty_pool_waits(vitals):
    """With all in use, the next one waits, is seen to wait, and gets what comes back."""
    pool = pool_of(vitals, max_size=1)
    got = []

    def borrow():
        with pool.take() as thing:
            got.append(thing)

    with pool.take() as thing:
        waiting = threading.Thread(target=borrow)
        waiting.start()
        while vitals.value("llmvitals_pool_pending_requests", pool="things") != 1:
            assert waiting.is_alive()
    waiting.join(5)

    assert [thing] == got
    assert 0 == vitals.value("llmvitals_pool_pending_requests", pool="things")


def test_who_gives_up_waiting_takes_nothing(vitals):
    """A time-out and a cancellation leave the pool as it was."""
    pool = pool_of(vitals, max_size=1)

    async def give_up():
        async with asyncio.timeout(0.01), pool.atake():
            pytest.fail("it was free")

    with pool.take():
        with pytest.raises(TimeoutError), pool.take(0.01):
            pytest.fail("it was free")
        with pytest.raises(TimeoutError):
            asyncio.run(give_up())

    with pool.take(0.01):
        assert {"used": 1, "idle": 0} == connections(vitals)


def test_a_broken_one_is_closed(vitals):
    """What comes back by an exception is not lent again; the exception goes on."""
    pool = pool_of(vitals)

    with pytest.raises(OSError, match="gone"), pool.take() as thing:
        raise OSError("gone")

    assert thing.closed
    assert {"broken": 1} == closed(vitals)
    assert {"used": 0, "idle": 0} == connections(vitals)


def test_one_that_cannot_be_made_takes_no_room(vitals):
    """The error is the caller's, and the next one may try."""
    things = iter([OSError("no file"), Thing()])

    def make():
        thing = next(things)
        if isinstance(thing, OSError):
            raise thing
        return thing

    pool = vitals.object_pool("things", make, max_size=1)
    with pytest.raises(OSError, match="no file"), pool.take():
        pytest.fail("it was made")

    with pool.take(0):
        assert 1 == vitals.value("llmvitals_pool_created_total", pool="things")


def test_idle_ones_are_cleaned_up(vitals):
    """Those that nobody used for so long are closed, by the built-in clean-up, too; the others stay."""
    pool = pool_of(vitals, idle_seconds=300)
    pool._clock = clock = Clock()
    with pool.take(), pool.take():
        clock.now = 0.0
    clock.now = 200.0
    with pool.take():
        pass
    clock.now = 400.0

    assert 1 == vitals.cleanup("idle_connections").run_once()
    assert {"idle": 1} == closed(vitals)
    assert {"used": 0, "idle": 1} == connections(vitals)


def test_its_end(vitals):
    """Idle ones are closed, one in use when it comes back; who comes later is refused."""
    pool = pool_of(vitals)
    with pool.take() as used:
        with pool.take() as idle:
            pass
        pool.close()
        assert (True, False) == (idle.closed, used.closed)

    assert used.closed
    assert {"closed": 2} == closed(vitals)
    with pytest.raises(RuntimeError, match="pool 'things' is closed"), pool.take():
        pytest.fail("it is closed")


def test_many_share_few(vitals):
    """Fifty threads never use more than there may be, and each has its turn."""
    pool = pool_of(vitals, max_size=3)
    most, used, lock = 0, 0, threading.Lock()

    def borrow():
        nonlocal most, used
        for _ in range(20):
            with pool.take():
                with lock:
                    used += 1
                    most = max(most, used)
                with lock:
                    used -= 1

    threads = [threading.Thread(target=borrow) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert most <= 3
    assert vitals.value("llmvitals_pool_created_total", pool="things") <= 3
    assert 1000 == vitals.value("llmvitals_pool_wait_seconds_count", pool="things")
    assert {"used": 0, "idle": len(pool)} == connections(vitals)


@pytest.mark.parametrize("wrong", [{"max_size": 0}, {"idle_seconds": 0}])
def test_limits_that_are_none(vitals, wrong):
    """They are told where the pool is made."""
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} of pool 'things' must be"):
        pool_of(vitals, **wrong)
