"""What both APIs and the control port share: bodies with a limit, and answers that end when the client leaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Coroutine
from contextlib import ExitStack, aclosing, suppress
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

__all__ = ["BadRequestError", "CutError", "EventStream", "GoneError", "event", "read_object", "unless_gone"]

T = TypeVar("T")


class BadRequestError(Exception):
    """The request cannot be served as it is; `status` is 400, 404 or 413."""

    def __init__(self, message: str, *, status: int = 400, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.param = param


class CutError(Exception):
    """The dials say that this stream's connection is cut here."""


class GoneError(Exception):
    """The client closed the connection before it had its answer."""


async def read_object(request: Request, *, limit: int) -> dict[str, Any]:
    """The JSON object in the body, of at most *limit* bytes. Raises BadRequestError."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise BadRequestError(f"the body is larger than {limit} bytes", status=413)
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"the body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadRequestError("the body must be a JSON object")
    return value


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of *work*, which is cancelled when the client leaves. Raises GoneError then."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise GoneError
        return working.result()
    finally:
        for task in (working, leaving):
            if task.cancel():
                with suppress(asyncio.CancelledError):
                    await task


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue


class EventStream(StreamingResponse):
    """Server-sent events whose generator is closed, and whose *held* contexts are left, whichever way it ends."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[str, None], held: ExitStack) -> None:
        super().__init__(events, headers={"cache-control": "no-store"})
        self._events = events
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # One that is cut ends without its last chunk, which makes the server close the connection.
        with suppress(CutError), self._held:
            async with aclosing(self._events):
                await super().__call__(scope, receive, send)


def event(data: object, *, name: str | None = None) -> str:
    """One server-sent event; text goes as it is, anything else as JSON."""
    text = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"))
    return f"event: {name}\ndata: {text}\n\n" if name else f"data: {text}\n\n"
