"""Starlette and what is made of it, FastAPI for one: every application, with no middleware to add."""

import functools
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Mount, Route

from llmvitals.integrations._asgi import ROUTE, answer
from llmvitals.integrations._session import Session


def install(session: Session) -> None:
    session.patch(Starlette, "__call__", functools.partial(_wrap, session))
    for kind in (Mount, Route):
        session.patch(kind, "handle", _note)


def _wrap(session: Session, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def call(self: Any, scope: Any, receive: Any, send: Any) -> None:
        vitals = session.vitals
        # One that is mounted in another, or stands behind our middleware, is a part of that one's answer.
        if vitals is None or scope["type"] != "http" or ROUTE in scope:
            await original(self, scope, receive, send)
        else:
            await answer(vitals, functools.partial(original, self), scope, receive, send)

    return call


def _note(original: Callable[..., Any]) -> Callable[..., Any]:
    """Leave the template's part in the scope; a mounted application hands it on to its own routes."""

    @functools.wraps(original)
    async def handle(self: Any, scope: Any, receive: Any, send: Any) -> None:
        parts = scope.get(ROUTE)
        if parts is not None:
            parts.append(self.path)
        await original(self, scope, receive, send)

    return handle
