import asyncio

import pytest

import llmvitals

stamina = pytest.importorskip("stamina")


@pytest.fixture(autouse=True)
def _defaults():
    """Stamina's own hooks, and no waits to speak of."""
    yield
    stamina.instrumentation.set_on_retry_hooks(None)


def failing(times):
    """A function that fails that many times, and then says how often it was called."""
    calls = []

    def fail():
        calls.append(None)
        if len(calls) <= times:
            raise ConnectionError("away")
        return len(calls)

    return fail


def retries(vitals):
    return {
        (dict(labels)["attempt"], dict(labels)["error_type"]): value
        for labels, value in vitals.samples("llmvitals_retries_total").items()
    }


def test_retries_and_waits_are_counted_by_the_callables_name(vitals):
    """By cause and number; from the third on they are one."""
    fail = stamina.retry(on=ConnectionError, attempts=9, wait_initial=0.001, wait_max=0.001)(failing(4))

    assert 5 == fail()
    assert {("1", "ConnectionError"): 1, ("2", "ConnectionError"): 1, ("3+", "ConnectionError"): 2} == retries(vitals)
    assert 4 == vitals.value("llmvitals_retry_wait_seconds_count")
    assert vitals.value("llmvitals_attempts_total") is None
    assert all("failing" in dict(labels)["name"] for labels in vitals.samples("llmvitals_retries_total"))


def test_async_retries_too(vitals):
    """The same."""
    fail = failing(1)

    @stamina.retry(on=ConnectionError, wait_initial=0.001, wait_max=0.001)
    async def ask():
        return fail()

    assert 2 == asyncio.run(ask())
    assert {("1", "ConnectionError"): 1} == retries(vitals)


def test_the_error_comes_out_as_it_is(vitals):
    """The very object, after the last attempt."""
    error = ConnectionError("away")

    @stamina.retry(on=ConnectionError, attempts=2, wait_initial=0.001, wait_max=0.001)
    def ask():
        raise error

    with pytest.raises(ConnectionError) as raised:
        ask()

    assert error is raised.value
    assert 1 == vitals.value("llmvitals_retries_total")


def test_hooks_of_the_application_and_the_defaults_stay(vitals):
    """Whether set before or after; and an empty set of hooks is still one of ours."""
    counter = stamina.instrumentation.get_prometheus_counter()
    assert counter is not None
    seen = []
    stamina.instrumentation.set_on_retry_hooks([seen.append])

    assert 2 == stamina.retry(on=ConnectionError, wait_initial=0.001, wait_max=0.001)(failing(1))()
    assert 1 == len(seen)
    assert 1 == vitals.value("llmvitals_retries_total")


def test_uninstrument_leaves_no_trace():
    """The hooks are those of before, and a switched-off stamina is silent."""
    before = vars(stamina._config._Config)["on_retry"]
    hooks = stamina.instrumentation.get_on_retry_hooks()
    llmvitals.instrument()
    assert hooks == stamina.instrumentation.get_on_retry_hooks()[:-1]
    llmvitals.uninstrument()

    assert before is vars(stamina._config._Config)["on_retry"]
    assert hooks == stamina.instrumentation.get_on_retry_hooks()
