"""Requests that an ASGI application answers, by their route's template."""

from collections.abc import Awaitable, Callable, MutableMapping
from sys import modules
from time import perf_counter
from typing import Any

from llmvitals import catalogue
from llmvitals._current import current
from llmvitals._recording import Recorder
from llmvitals._traces import OPENTELEMETRY, current_trace, exemplify
from llmvitals._vitals import Vitals
from llmvitals.integrations._http import method_label, status_error

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

ROUTE = "llmvitals.route"
"""The key of a request's scope under which routers leave the parts of its template, in order."""


class ASGIMiddleware:
    """Goes around an ASGI application of any framework; recorded to *vitals*, or to what `llmvitals.start` made last.

    The route is what the framework left in the scope: a ``route`` with a ``path`` (FastAPI, Starlette), or a list of
    parts under ``llmvitals.route``. Where there is none it is empty: a raw path is never a label.
    """

    def __init__(self, app: App, vitals: Vitals | None = None) -> None:
        self.app = app
        self._vitals = vitals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        vitals = self._vitals or current()
        if vitals is None or scope["type"] != "http" or ROUTE in scope:
            await self.app(scope, receive, send)
        else:
            await answer(vitals, self.app, scope, receive, send)


async def answer(vitals: Vitals, app: App, scope: Scope, receive: Receive, send: Send) -> None:
    """Let *app* answer a request, and record it with its last byte; what the app does after that takes no time here."""
    scope[ROUTE] = []
    exchange = Exchange(vitals.recorder, scope["method"], scope.get("scheme", "http"))

    async def watched_send(message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            exchange.status = message["status"]
        await send(message)
        if kind == "http.response.body" and not message.get("more_body", False):
            exchange.end(_route(scope))

    try:
        await app(scope, receive, watched_send)
    except BaseException as error:
        exchange.end(_route(scope), error)
        raise
    else:
        exchange.end(_route(scope))


def _route(scope: Scope) -> str:
    parts = scope.get(ROUTE) or ()
    return "".join(parts) or getattr(scope.get("route"), "path", "")


class Exchange:
    """One request and its answer, of a server of any kind; it ends once."""

    def __init__(self, recorder: Recorder, method: str, scheme: str) -> None:
        self.status: int | None = None
        self.ended = False
        self._recorder = recorder
        self._method = method_label(method)
        self._scheme = scheme if scheme in ("http", "https") else "_OTHER"
        self._started = perf_counter()
        self._trace = current_trace() if OPENTELEMETRY in modules else None
        self._active = recorder.child(catalogue.HTTP_SERVER_ACTIVE, self._method, self._scheme)
        self._active.inc()

    def end(self, route: str, error: BaseException | None = None) -> None:
        """The answer is out, or *error* came out of the application instead."""
        if self.ended:
            return
        self.ended = True
        self._active.dec()
        # A server answers 500 for an error that comes out of the application before its answer has begun.
        status = self.status if self.status is not None or not isinstance(error, Exception) else 500
        seconds = perf_counter() - self._started
        duration = self._recorder.child(
            catalogue.HTTP_SERVER_DURATION,
            self._method,
            self._scheme,
            route,
            "" if status is None else str(status),
            status_error(status, error, errors_from=500),
        )
        duration.observe(seconds)
        if OPENTELEMETRY in modules:
            # None at the start where tracing wraps the application inside of us: its span then sends the answer.
            exemplify(duration, seconds, self._trace or current_trace())
