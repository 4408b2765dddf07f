"""The companion's HTTP side: chat, plain and streamed; health; a page for people."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, MutableMapping
from contextlib import aclosing
from dataclasses import asdict
from typing import Any, TypeVar
from urllib.parse import urlsplit

import cachetools
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from companion._bodies import BadInputError, question, read_object, user_id
from companion._chat import Chat, Piece, Reply
from companion._llm import BrokenOffError, RefusedError, UnavailableError
from companion._store import Exchange
from companion._turns import TooManyError
from llmvitals import Vitals

__all__ = ["application"]

T = TypeVar("T")
_Answers = MutableMapping[tuple[str, int, float], bytes]

_STOPPING = "the companion is stopping, ask again in a moment"


def application(
    chat: Chat,
    routes: list[BaseRoute],
    summary: Callable[[], Awaitable[Mapping[str, object]]],
    *,
    vitals: Vitals,
    hosts: frozenset[str] | None,
) -> Starlette:
    """
    All routes of the companion: these, and the *routes* of its other sides.

    *hosts* are the names under which it may be addressed, None for any.
    """
    # By what it is made of, so that it is never out of date.
    answers: _Answers = vitals.cache("api", cachetools.TTLCache(500, ttl=300))

    async def say(request: Request) -> Response:
        asked = question(await read_object(request))
        try:
            return JSONResponse(asdict(await _while_there(request, chat.reply(asked))))
        except asyncio.CancelledError:
            # The server has to stop and the grace is over; or the client has left, and nobody reads this.
            return JSONResponse({"error": _STOPPING}, 503, headers={"retry-after": "5"})

    async def say_in_pieces(request: Request) -> Response:
        asked = question(await read_object(request))
        pieces = chat.stream(asked)
        # The first piece decides the status: what fails before it is an ordinary error.
        try:
            first = await anext(pieces)
        except BaseException:
            await pieces.aclose()
            raise
        return _Events(_events(first, pieces), pieces)

    async def messages(request: Request) -> Response:
        user = user_id(request.query_params.get("user"))
        return Response(_written(user, await chat.messages(user), answers), media_type="application/json")

    async def models(request: Request) -> Response:  # noqa: ARG001 -- the router passes it
        return JSONResponse(await chat.models())

    async def healthz(request: Request) -> Response:  # noqa: ARG001 -- the router passes it
        return JSONResponse({"status": "ok"})

    async def summarise(request: Request) -> Response:  # noqa: ARG001 -- the router passes it
        return JSONResponse(await summary())

    return Starlette(
        routes=[
            Route("/v1/chat", say, methods=["POST"]),
            Route("/v1/chat/stream", say_in_pieces, methods=["POST"]),
            Route("/v1/models", models, methods=["GET"]),
            Route("/v1/messages", messages, methods=["GET"]),
            Route("/v1/summary", summarise, methods=["GET"]),
            Route("/healthz", healthz, methods=["GET"]),
            *routes,
        ],
        middleware=[Middleware(_Trusted, hosts=hosts)],
        exception_handlers={
            BadInputError: _bad_input,
            UnavailableError: _unavailable,
            RefusedError: _refused,
            TooManyError: _too_many,
        },
    )


def _written(user: str, exchanges: list[Exchange], answers: _Answers) -> bytes:
    key = (user, len(exchanges), exchanges[-1].at if exchanges else 0.0)
    answer = answers.get(key)
    if answer is None:
        answer = answers[key] = json.dumps({"messages": [asdict(exchange) for exchange in exchanges]}).encode()
    return answer


async def _while_there(request: Request, answering: Coroutine[Any, Any, T]) -> T:
    """What *answering* returns. Cancelled when the client leaves: a model's time is dear, and nobody would read it."""
    answer = asyncio.create_task(answering)
    leaving = asyncio.create_task(_left(request))
    leaving.add_done_callback(lambda _: answer.cancel())
    try:
        return await answer
    finally:
        leaving.cancel()


async def _left(request: Request) -> None:
    """Return when the client is gone. The body was read before, so nothing else can arrive."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _events(first: Piece | Reply, rest: AsyncGenerator[Piece | Reply, None]) -> AsyncGenerator[str, None]:
    yield _event(first)
    try:
        async for piece in rest:
            yield _event(piece)
    except BrokenOffError as error:
        yield _error(str(error))


def _event(piece: Piece | Reply) -> str:
    name = "delta" if isinstance(piece, Piece) else "done"
    return f"event: {name}\ndata: {json.dumps(asdict(piece))}\n\n"


def _error(text: str) -> str:
    return f"event: error\ndata: {json.dumps({'error': text})}\n\n"


class _Events(StreamingResponse):
    """Server-sent events. A client that leaves closes *pieces*, and so the request to the model behind them."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[str, None], pieces: AsyncGenerator[Piece | Reply, None]) -> None:
        super().__init__(events, headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        self._events = events
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._pieces), aclosing(self._events):
            try:
                await super().__call__(scope, receive, send)
            except asyncio.CancelledError:
                # Only the server cancels a request, when it has to stop and the grace is over.
                await send({"type": "http.response.body", "body": _error(_STOPPING).encode(), "more_body": False})


class _Trusted:
    """
    Refuses what another site's page sends through a browser of this machine.

    Such a page gives itself away by its Origin, or, when its name was made to resolve to this machine, by its Host.
    Programs send no Origin.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in {"http", "websocket"}:
            headers = HTTPConnection(scope).headers
            host, origin = headers.get("host", ""), headers.get("origin")
            if self._hosts is not None and host.rpartition(":")[0] not in self._hosts and host not in self._hosts:
                refusal = JSONResponse({"error": f"this is not {host[:200]}"}, 421)
                await refusal(scope, receive, send)
                return
            if origin is not None and urlsplit(origin).netloc != host:
                refusal = JSONResponse({"error": f"requests from {origin[:200]} are not taken"}, 403)
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def _bad_input(request: Request, error: Exception) -> Response:  # noqa: ARG001 -- Starlette's signature
    return JSONResponse({"error": str(error)}, getattr(error, "status", 400))


async def _unavailable(request: Request, error: Exception) -> Response:  # noqa: ARG001 -- Starlette's signature
    return JSONResponse({"error": f"no model answers: {error}"}, 503, headers={"retry-after": "5"})


async def _too_many(request: Request, error: Exception) -> Response:  # noqa: ARG001 -- Starlette's signature
    retry_after = getattr(error, "retry_after_seconds", 1)
    return JSONResponse({"error": str(error)}, 429, headers={"retry-after": f"{retry_after:g}"})


async def _refused(request: Request, error: Exception) -> Response:  # noqa: ARG001 -- Starlette's signature
    return JSONResponse({"error": f"the model's server refused: {error}"}, 502)
