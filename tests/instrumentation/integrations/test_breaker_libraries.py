"""pybreaker and purgatory: what is seen of other people's breakers."""

import asyncio

import pytest

import llmvitals


def calls(vitals):
    return {
        dict(labels)["outcome"]: value
        for labels, value in vitals.samples("llmvitals_circuit_breaker_calls_total").items()
    }


def transitions(vitals):
    return {
        dict(labels)["to_state"]: value
        for labels, value in vitals.samples("llmvitals_circuit_breaker_transitions_total").items()
    }


def state(vitals):
    """The one state that is shown as being in force."""
    (found,) = [
        dict(labels)["state"]
        for labels, value in vitals.samples("llmvitals_circuit_breaker_state").items()
        if value == 1
    ]
    return found


def fail():
    raise ConnectionError("away")


@pytest.fixture(name="pybreaker")
def _pybreaker():
    return pytest.importorskip("pybreaker")


def test_pybreaker_from_closed_to_open_and_back(vitals, pybreaker):
    """Successes, failures, refusals; a probe that fails and one that does not."""
    breaker = pybreaker.CircuitBreaker(fail_max=2, reset_timeout=60, name="llm")
    value = object()

    assert value is breaker.call(lambda: value)
    assert "closed" == state(vitals)
    with pytest.raises(ConnectionError):
        breaker.call(fail)
    with pytest.raises(pybreaker.CircuitBreakerError):
        breaker.call(fail)
    assert "open" == state(vitals)
    for _ in range(3):
        with pytest.raises(pybreaker.CircuitBreakerError):
            breaker.call(fail)
    assert {"success": 1, "failure": 2, "rejected": 3} == calls(vitals)

    breaker.reset_timeout = 0
    with pytest.raises(pybreaker.CircuitBreakerError):
        breaker.call(fail)
    assert {"success": 1, "failure": 3, "rejected": 3} == calls(vitals)
    assert "open" == state(vitals)
    assert value is breaker.call(lambda: value)

    assert {"success": 2, "failure": 3, "rejected": 3} == calls(vitals)
    assert {"open": 2, "half_open": 2, "closed": 1} == transitions(vitals)
    assert "closed" == state(vitals)
    assert 2 == vitals.value("llmvitals_circuit_breaker_calls_total", name="llm", outcome="success")


def test_pybreaker_ignores_what_it_is_told_to(vitals, pybreaker):
    """Its predicates are asked as often as before; its decorator, context manager and listeners go on."""
    asked, heard = [], []

    class Listener(pybreaker.CircuitBreakerListener):
        def before_call(self, breaker, function, *args, **kwargs):
            heard.append(function)

    breaker = pybreaker.CircuitBreaker(
        exclude=[lambda error: asked.append(error) or isinstance(error, ConnectionError)], listeners=[Listener()]
    )
    with pytest.raises(ConnectionError, match="away"):
        breaker(fail)()
    with breaker.calling():
        pass

    assert {"ignored": 1, "success": 1} == calls(vitals)
    assert 1 == len(asked)
    assert heard[0] is fail
    assert 1 == vitals.value("llmvitals_circuit_breaker_calls_total", name="pybreaker", outcome="ignored")


@pytest.fixture(name="purgatory")
def _purgatory():
    return pytest.importorskip("purgatory")


def test_purgatory_from_closed_to_open_and_back(vitals, purgatory):
    """The same, sync."""
    factory = purgatory.SyncCircuitBreakerFactory(default_threshold=2, default_ttl=60)

    @factory("llm")
    def ask(function):
        return function()

    value = object()
    assert value is ask(lambda: value)
    for _ in range(2):
        with pytest.raises(ConnectionError):
            ask(fail)
    assert "open" == state(vitals)
    for _ in range(3):
        with pytest.raises(purgatory.domain.model.OpenedState):
            ask(fail)
    assert {"success": 1, "failure": 2, "rejected": 3} == calls(vitals)

    factory.get_breaker("llm").context.ttl = -1
    assert value is ask(lambda: value)

    assert {"success": 2, "failure": 2, "rejected": 3} == calls(vitals)
    assert {"open": 1, "half_open": 1, "closed": 1} == transitions(vitals)
    assert "closed" == state(vitals)


def test_async_purgatory_with_excluded_errors(vitals, purgatory):
    """An excluded error is ignored; a refusal is a refusal."""

    async def main():
        factory = purgatory.AsyncCircuitBreakerFactory(default_threshold=1, exclude=[LookupError])
        breaker = await factory.get_breaker("llm")
        with pytest.raises(LookupError):
            async with breaker:
                raise LookupError
        with pytest.raises(ConnectionError):
            async with await factory.get_breaker("llm"):
                fail()
        with pytest.raises(purgatory.domain.model.OpenedState):
            async with await factory.get_breaker("llm"):
                raise AssertionError

    asyncio.run(main())
    assert {"ignored": 1, "failure": 1, "rejected": 1} == calls(vitals)
    assert {"open": 1} == transitions(vitals)


def test_uninstrument_restores_exactly(pybreaker, purgatory):
    """The very same functions."""
    from purgatory.domain.model import ClosedState, Context, HalfOpenedState

    methods = [
        (pybreaker.CircuitBreaker, "_inc_counter"),
        (pybreaker.CircuitBreaker, "_create_new_state"),
        (pybreaker.CircuitBreakerState, "_handle_error"),
        (pybreaker.CircuitBreakerState, "_handle_success"),
        (pybreaker.CircuitOpenState, "before_call"),
        (Context, "handle_new_request"),
        (Context, "handle_exception"),
        (Context, "set_state"),
        (ClosedState, "handle_exception"),
        (HalfOpenedState, "handle_end_request"),
    ]
    before = [vars(owner)[name] for owner, name in methods]
    assert {"pybreaker", "purgatory"} <= set(llmvitals.instrument())
    assert not {id(vars(owner)[name]) for owner, name in methods} & set(map(id, before))
    llmvitals.uninstrument()

    assert before == [vars(owner)[name] for owner, name in methods]
