"""purgatory, sync and async: every call, also those that it refuses, of which its listeners hear nothing.

Both kinds of breaker share one model, which decides without waiting for anything; that is where each call is seen.
"""

import functools
from collections.abc import Callable
from typing import Any

from purgatory.domain.model import ClosedState, Context, HalfOpenedState, OpenedState

from llmvitals.integrations._breakers import Breakers
from llmvitals.integrations._session import Session

_STATES = {"opened": "open", "half-opened": "half_open"}


def install(session: Session) -> None:
    breakers = Breakers(session)
    session.patch(Context, "handle_new_request", functools.partial(_refusal, breakers))
    session.patch(Context, "handle_exception", functools.partial(_judge, breakers))
    session.patch(Context, "set_state", functools.partial(_change, breakers))
    for state in (ClosedState, HalfOpenedState):
        session.patch(state, "handle_exception", functools.partial(_failure, breakers))
        session.patch(state, "handle_end_request", functools.partial(_success, breakers))


def _refusal(breakers: Breakers, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def handle_new_request(self: Any) -> Any:
        try:
            return original(self)
        except OpenedState:
            breakers.called(self.name, "rejected", "open")
            raise

    return handle_new_request


def _judge(breakers: Breakers, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def handle_exception(self: Any, exc: BaseException) -> Any:
        before, breakers.judging = breakers.judging, True
        try:
            return original(self, exc)
        finally:
            breakers.judging = before

    return handle_exception


def _change(breakers: Breakers, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def set_state(self: Any, state: Any) -> Any:
        result = original(self, state)
        breakers.entered(self.name, _state(self))
        return result

    return set_state


def _failure(breakers: Breakers, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def handle_exception(self: Any, context: Any, exc: BaseException) -> Any:
        result = original(self, context, exc)
        breakers.called(context.name, "failure", _state(context))
        return result

    return handle_exception


def _success(breakers: Breakers, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def handle_end_request(self: Any, context: Any) -> Any:
        result = original(self, context)
        breakers.called(context.name, "ignored" if breakers.judging else "success", _state(context))
        return result

    return handle_end_request


def _state(context: Any) -> str:
    state: str = context.state
    return _STATES.get(state, state)
