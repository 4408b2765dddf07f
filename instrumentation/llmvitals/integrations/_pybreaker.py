"""pybreaker: every call, also those that it refuses, of which its listeners hear nothing.

Each is seen where pybreaker itself decides what it was, so that the application's own predicates are asked once. A
breaker without a name is called ``pybreaker``.
"""

import functools
from collections.abc import Callable
from typing import Any

from pybreaker import CircuitBreaker, CircuitBreakerError, CircuitBreakerState, CircuitOpenState

from llmvitals.integrations._breakers import Breakers
from llmvitals.integrations._session import Session

_STATES = {"half-open": "half_open"}


def install(session: Session) -> None:
    breakers = Breakers(session)
    session.patch(CircuitBreaker, "_inc_counter", functools.partial(_failure, breakers))
    session.patch(CircuitBreaker, "_create_new_state", functools.partial(_change, breakers))
    session.patch(CircuitBreakerState, "_handle_error", functools.partial(_judge, breakers))
    session.patch(CircuitBreakerState, "_handle_success", functools.partial(_success, breakers))
    session.patch(CircuitOpenState, "before_call", functools.partial(_refusal, breakers))


def _failure(breakers: Breakers, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def inc_counter(self: Any) -> Any:
        _called(breakers, self, "failure")
        return original(self)

    return inc_counter


def _change(breakers: Breakers, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def create_new_state(self: Any, new_state: str, prev_state: Any = None, notify: bool = False) -> Any:
        state = original(self, new_state, prev_state, notify)
        # Without a previous one, it is the breaker's first; and it may be set to what it is already.
        if prev_state is not None and prev_state.name != new_state:
            breakers.entered(_name(self), _STATES.get(new_state, new_state))
        return state

    return create_new_state


def _judge(breakers: Breakers, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def handle_error(self: Any, *args: Any, **kwargs: Any) -> Any:
        before, breakers.judging = breakers.judging, True
        try:
            return original(self, *args, **kwargs)
        finally:
            breakers.judging = before

    return handle_error


def _success(breakers: Breakers, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def handle_success(self: Any) -> Any:
        _called(breakers, self._breaker, "ignored" if breakers.judging else "success")
        return original(self)

    return handle_success


def _refusal(breakers: Breakers, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def before_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(self, *args, **kwargs)
        except CircuitBreakerError:
            # A probe that failed raises it too, but has left this state object behind.
            if self._breaker._state is self:  # noqa: SLF001 -- the public one may ask a server
                _called(breakers, self._breaker, "rejected")
            raise

    return before_call


def _name(breaker: Any) -> str:
    return breaker.name or "pybreaker"


def _called(breakers: Breakers, breaker: Any, outcome: str) -> None:
    state = breaker._state.name  # noqa: SLF001 -- the public one may ask a server
    breakers.called(_name(breaker), outcome, _STATES.get(state, state))
