import asyncio

import pytest
import tenacity

import llmvitals


@pytest.fixture(name="options")
def _options(vitals):
    """What an application gives to tenacity."""
    return {
        "stop": tenacity.stop_after_attempt(3),
        "retry": tenacity.retry_if_exception_type(ConnectionError),
        "wait": tenacity.wait_fixed(0.001),
    } | vitals.retries("llm").tenacity()


def failing(times, error=ConnectionError):
    """A function that fails so many times, then succeeds."""
    left = [times]

    def ask():
        if left[0]:
            left[0] -= 1
            raise error
        return "reply"

    return ask


def attempts(vitals):
    return {dict(labels)["outcome"]: value for labels, value in vitals.samples("llmvitals_attempts_total").items()}


def in_decorator(options, ask):
    return tenacity.retry(**options)(ask)()


def in_call(options, ask):
    return tenacity.Retrying(**options)(ask)


def in_block(options, ask):
    for attempt in tenacity.Retrying(**options):
        with attempt:
            reply = ask()
    return reply


def in_async_decorator(options, ask):
    @tenacity.retry(**options)
    async def asked():
        return ask()

    return asyncio.run(asked())


def in_async_block(options, ask):
    async def asked():
        async for attempt in tenacity.AsyncRetrying(**options):
            with attempt:
                reply = ask()
        return reply

    return asyncio.run(asked())


@pytest.fixture(
    name="retrying",
    params=[in_decorator, in_call, in_block, in_async_decorator, in_async_block],
    ids=lambda way: way.__name__,
)
def _retrying(request, options):
    """Every way of using tenacity."""
    return lambda ask: request.param(options, ask)


def test_success_after_retries(vitals, retrying):
    """Every attempt, every retry with its cause and number, every wait."""
    assert "reply" == retrying(failing(2))

    assert {"retryable": 2, "success": 1} == attempts(vitals)
    assert 1 == vitals.value("llmvitals_retries_total", name="llm", error_type="ConnectionError", attempt="1")
    assert 1 == vitals.value("llmvitals_retries_total", name="llm", error_type="ConnectionError", attempt="2")
    assert 2 == vitals.value("llmvitals_retry_wait_seconds_count", name="llm")
    assert pytest.approx(0.002) == vitals.value("llmvitals_retry_wait_seconds_sum")
    assert vitals.value("llmvitals_retries_exhausted_total") is None


def test_success_at_once(vitals, retrying):
    """One attempt and nothing else."""
    assert "reply" == retrying(failing(0))

    assert {"success": 1} == attempts(vitals)
    assert vitals.value("llmvitals_retries_total") is None


def test_giving_up(vitals, retrying):
    """Tenacity's own error goes through, and giving up is counted once."""
    with pytest.raises(tenacity.RetryError):
        retrying(failing(9))

    assert {"retryable": 3} == attempts(vitals)
    assert 1 == vitals.value("llmvitals_retries_exhausted_total", name="llm", error_type="ConnectionError")
    assert 2 == vitals.value("llmvitals_retries_total")


def test_an_error_that_is_not_retried(vitals, retrying):
    """It is fatal, not exhausted."""
    with pytest.raises(KeyError):
        retrying(failing(1, KeyError))

    assert {"fatal": 1} == attempts(vitals)
    assert vitals.value("llmvitals_retries_exhausted_total") is None


def test_a_refused_call_is_no_attempt(vitals, retrying, options):
    """A breaker that opens in mid-retry ends it: what it refuses is its own `rejected`, and not tried again."""
    options["retry"] = tenacity.retry_if_exception_type()
    breaker = vitals.breaker("llm", failure_threshold=2)

    with pytest.raises(llmvitals.CircuitOpenError):
        retrying(breaker(failing(9)))

    assert {"retryable": 2} == attempts(vitals)
    assert 1 == vitals.value("llmvitals_circuit_breaker_calls_total", name="llm", outcome="rejected")
    assert vitals.value("llmvitals_retries_exhausted_total") is None


def test_an_async_predicate_is_not_asked_about_a_refused_call(vitals, options):
    """Nor can it have such a call retried."""

    async def again(state):
        await asyncio.sleep(0)
        return state.outcome.failed

    breaker = vitals.breaker("llm")
    breaker.force_open()

    @tenacity.retry(**(options | {"retry": again}))
    async def ask():
        return await breaker.acall(asyncio.sleep, 0)

    with pytest.raises(llmvitals.CircuitOpenError):
        asyncio.run(ask())

    assert {} == attempts(vitals)


def test_reraise_and_callbacks_work_as_before(vitals, options):
    """What tenacity does at the end is not changed, and all its other hooks stay free."""
    slept = []
    options |= {"before_sleep": slept.append}

    with pytest.raises(ConnectionError):
        tenacity.retry(reraise=True, **options)(failing(9))()
    assert "gave up" == tenacity.retry(retry_error_callback=lambda state: "gave up", **options)(failing(9))()

    assert 4 == len(slept)
    assert 2 == vitals.value("llmvitals_retries_exhausted_total")


def test_retrying_on_a_result_and_on_demand(vitals, options):
    """A reply that will not do is a cause, and so is TryAgain."""
    replies = iter(["bad", "good"])
    options |= {"retry": tenacity.retry_if_result(lambda reply: reply == "bad")}
    assert "good" == tenacity.retry(**options)(lambda: next(replies))()
    assert "reply" == tenacity.retry(**options)(failing(1, tenacity.TryAgain))()

    assert {"retryable": 2, "success": 2} == attempts(vitals)
    assert 1 == vitals.value("llmvitals_retries_total", name="llm", error_type="result", attempt="1")
    assert 1 == vitals.value("llmvitals_retries_total", name="llm", error_type="TryAgain", attempt="1")


def test_async_predicates_are_awaited(vitals, options):
    """Tenacity may ask asynchronously."""

    async def again(state):
        await asyncio.sleep(0)
        return state.outcome.failed

    @tenacity.retry(**(options | {"retry": again}))
    async def ask():
        return source()

    source = failing(1)

    assert "reply" == asyncio.run(ask())
    assert {"retryable": 1, "success": 1} == attempts(vitals)


def test_the_attempts_number_is_bounded(vitals, options):
    """The third retry and all later ones are one series."""
    tenacity.retry(**(options | {"stop": tenacity.stop_after_attempt(9)}))(failing(6))()

    assert 4 == vitals.value("llmvitals_retries_total", name="llm", error_type="ConnectionError", attempt="3+")


def test_a_fault_of_ours_does_not_reach_tenacity(vitals, options, monkeypatch):
    """Retrying goes on although nothing can be recorded."""

    def broken(*args):
        raise RuntimeError("recorder is gone")

    monkeypatch.setattr(type(vitals.recorder), "child", broken)

    assert "reply" == tenacity.retry(**options)(failing(2))()
