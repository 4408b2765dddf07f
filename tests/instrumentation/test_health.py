import asyncio
import threading
import time

import pytest
from prometheus_client import CollectorRegistry

from llmvitals._health import HealthCheck, HealthChecks
from llmvitals._recording import Recorder


@pytest.fixture(name="recorder")
def _recorder():
    return Recorder(CollectorRegistry())


def status(recorder, check="c"):
    return recorder.registry.get_sample_value("llmvitals_health_check_status", {"check": check})


def eventually(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


async def _passes():
    await asyncio.sleep(0)


async def _fails():
    raise OSError("away")


@pytest.mark.parametrize(
    "check", [lambda: None, lambda: True, lambda: 0, _passes], ids=["none", "true", "zero", "async"]
)
def test_what_returns_passes(recorder, check):
    """Anything but False, sync or async, with no loop needed."""
    assert HealthCheck(recorder, "c", check).run_once()
    assert 1 == status(recorder)


@pytest.mark.parametrize("check", [lambda: False, lambda: 1 / 0, _fails], ids=["false", "raises", "async"])
def test_what_raises_or_returns_false_fails(recorder, check):
    """The error's type and text are in the summary."""
    made = HealthCheck(recorder, "c", check)

    assert not made.run_once()
    assert 0 == status(recorder)
    assert made.summary()["error"]
    assert made.summary()["passed_at"] is None


def test_before_the_first_run_there_is_no_status(recorder):
    """Not looked at is not down."""
    check = HealthCheck(recorder, "c", lambda: None)

    assert check.healthy is None
    assert status(recorder) is None


def test_a_check_runs_again_and_again(recorder):
    """Down and up again, with the time of the last success kept."""
    answers = iter([True, False, *[True] * 100_000])
    checks = HealthChecks(recorder)
    seen = set()

    def check():
        answer = next(answers)
        seen.add(answer)
        return answer

    made = checks.add("c", check, interval_seconds=0.01)
    try:
        eventually(lambda: seen == {True, False} and made.healthy)
    finally:
        checks.close()

    assert made.summary()["passed_at"] is not None


def test_a_check_that_hangs_fails_when_its_time_is_over(recorder):
    """The scrape says 0 while it still hangs, and another check is not held up."""
    release, checks = threading.Event(), HealthChecks(recorder)
    passed = iter([True])
    checks.add("c", lambda: next(passed, None) or release.wait(20), interval_seconds=0.01, timeout_seconds=0.05)
    checks.add("other", lambda: None, interval_seconds=0.01)
    try:
        eventually(lambda: status(recorder) == 0)
        eventually(lambda: status(recorder, "other") == 1)
    finally:
        release.set()
        checks.close()


def test_an_async_check_runs_on_the_loop_where_it_was_made(recorder):
    """Its clients belong to that loop."""

    async def run():
        loops = []

        async def check():
            loops.append(asyncio.get_running_loop())

        made = HealthCheck(recorder, "c", check)
        assert await asyncio.to_thread(made.run_once)
        return loops == [asyncio.get_running_loop()]

    assert asyncio.run(run())


def test_an_async_check_that_hangs_is_cancelled(recorder):
    """It times out, and leaves nothing running on the loop."""

    async def run():
        made = HealthCheck(recorder, "c", lambda: asyncio.sleep(60), timeout_seconds=0.02)
        passed = await asyncio.to_thread(made.run_once)
        return passed, made.summary()["error"], len(asyncio.all_tasks())

    passed, error, tasks = asyncio.run(run())

    assert (False, 1) == (passed, tasks)
    assert "TimeoutError" in error


def test_a_loop_that_is_gone_fails_the_check(recorder):
    """The application's loop ended: not healthy, and no error of ours."""

    async def make():
        return HealthCheck(recorder, "c", _passes)

    made = asyncio.run(make())

    assert not made.run_once()
    assert "closed" in made.summary()["error"]


def test_a_name_is_taken_once(recorder):
    """And an interval must be one."""
    checks = HealthChecks(recorder)
    checks.add("c", lambda: None, start=False)

    with pytest.raises(ValueError, match="registered already"):
        checks.add("c", lambda: None, start=False)
    with pytest.raises(ValueError, match="above 0"):
        checks.add("d", lambda: None, interval_seconds=0)
    assert {"c"} == set(checks.summary())
