"""The same answers from a server of one's own: an ASGI and a WSGI application to mount there."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from functools import partial
from typing import Any

from prometheus_client.registry import Collector

from llmvitals.exposition._encode import OnError
from llmvitals.exposition._respond import Pages, Response, Select, Site, plain

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

ANSWERS_AT_ONCE = 16
"""More are told to come again: each takes a thread, and it is a collector that hangs when there are so many."""


def asgi_app(
    registry: Collector,
    *,
    on_error: OnError | None = None,
    pages: Pages | None = None,
    select: Select | None = None,
) -> "ASGIApp":
    """Make an ASGI application that answers as `serve` does, with the same arguments.

    Mount it at ``/`` after all else, or give it the one route ``/metrics``. Where it is mounted below a path, that path
    itself is ``/metrics``, too.
    """
    return ASGIApp(Site(registry, pages or {}, on_error, select))


def wsgi_app(
    registry: Collector,
    *,
    on_error: OnError | None = None,
    pages: Pages | None = None,
    select: Select | None = None,
) -> "WSGIApp":
    """Make a WSGI application that answers as `serve` does, with the same arguments; see `asgi_app` for its paths."""
    return WSGIApp(Site(registry, pages or {}, on_error, select))


class ASGIApp:
    """Made by `asgi_app`. An object and no function, so that routers take it for the application that it is."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._free = threading.BoundedSemaphore(ANSWERS_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, send)
        elif scope["type"] == "lifespan":
            for phase in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{phase}.complete"})
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})

    async def _http(self, scope: Scope, send: Send) -> None:
        root, path = scope.get("root_path", "").rstrip("/"), scope["path"]
        # Starlette before 0.33 took the root off the path itself.
        inside = path[len(root) :] if path == root or path.startswith(f"{root}/") else path
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            headers[key] = f"{headers[key]}, {text}" if key in headers else text
        query = scope.get("query_string", b"").decode("latin-1")
        respond = partial(self._site.respond, scope["method"], _path(root, inside), headers, query)
        response = await self._respond(respond)
        try:
            await send(
                {
                    "type": "http.response.start",
                    "status": int(response.status[:3]),
                    "headers": [
                        (name.lower().encode("latin-1"), value.encode("latin-1"))
                        for name, value in response.headers.items()
                    ],
                }
            )
            await send({"type": "http.response.body", "body": response.body})
        except OSError:  # The client has gone.
            return

    async def _respond(self, respond: Callable[[], Response]) -> Response:
        """Have the answer made in a thread of its own, so that the loop goes on meanwhile.

        Not in the loop's executor: that is the application's, and it is when all its threads are taken that somebody
        wants to see numbers.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # Another library's loop, such as trio's: it waits for as long as a scrape takes.
            return respond()
        if not self._free.acquire(blocking=False):
            return plain("503 Service Unavailable", f"{ANSWERS_AT_ONCE} scrapes are being answered.")
        made: asyncio.Future[Response] = loop.create_future()

        def work() -> None:
            response = plain("500 Internal Server Error", "The scrape was ended.")
            try:
                response = respond()
            finally:
                self._free.release()
                _settle(loop, made, response)

        try:
            threading.Thread(target=work, name="llmvitals-metrics-app", daemon=True).start()
        except RuntimeError:  # No more threads to be had.
            self._free.release()
            return plain("503 Service Unavailable", "No thread could be started.")
        return await made


class WSGIApp:
    """Made by `wsgi_app`."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        headers = {
            name.removeprefix("HTTP_").replace("_", "-").lower(): value
            for name, value in environ.items()
            if name.startswith("HTTP_")
        }
        path = _path(environ.get("SCRIPT_NAME", ""), environ.get("PATH_INFO", ""))
        response = self._site.respond(environ["REQUEST_METHOD"], path, headers, environ.get("QUERY_STRING", ""))
        start_response(response.status, list(response.headers.items()))
        return [response.body]


def _path(root: str, inside: str) -> str:
    return "/metrics" if root and inside in ("", "/") else inside


def _settle(loop: asyncio.AbstractEventLoop, made: "asyncio.Future[Response]", response: Response) -> None:
    def settle() -> None:
        if not made.done():  # Whoever asked may have been cancelled.
            made.set_result(response)

    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:  # The loop was closed, and nobody waits any more.
        return
