"""
Serves the built dashboard viewer, the dashboards, and a read-only way to Prometheus, all from one origin.

The way to Prometheus is narrow: the five query endpoints by name, a bound on what is sent and on what comes back, and a
time limit. Nothing that a page can ask changes anything or reaches another host. A page of another site can ask
nothing.
"""

import argparse
import asyncio
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import urllib3
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")

_HEADERS = {
    # Emotion, which styles every component, writes style elements.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; connect-src 'self'; font-src 'self'; "
        "img-src 'self' data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; "
        "form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one question to Prometheus, and of all at one time."""

    request_bytes: int = 64 * 1024
    response_bytes: int = 32 * 1024 * 1024
    seconds: float = 30.0
    # Together with the bytes of an answer: how much memory the answers may take.
    at_once: int = 8


class PrometheusError(RuntimeError):
    """Prometheus could not be asked; the text is for the person at the page."""


@dataclass(frozen=True, slots=True)
class Prometheus:
    """What is asked, and within which bounds."""

    url: str
    limits: Limits

    def ask(self, path: str, query: str, form: bytes | None) -> tuple[int, bytes]:
        """
        Status and body of ``/api/v1/`` *path*: a GET with *query*, or a POST when there is a *form*.

        Raises:
            PrometheusError: It does not answer, answers too late, or answers too much.
        """
        deadline = time.monotonic() + self.limits.seconds
        url = f"{self.url.rstrip('/')}/api/v1/{path}" + (f"?{query}" if query else "")
        # Uncompressed, what is read is what is counted: a few bytes cannot become gigabytes.
        headers = {"Accept-Encoding": "identity"}
        if form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        try:
            with requests.Session() as session:
                # A proxy of the environment is for other hosts.
                session.trust_env = False
                with session.request(
                    "GET" if form is None else "POST",
                    url,
                    data=form,
                    headers=headers,
                    timeout=(min(5, self.limits.seconds), self.limits.seconds),
                    allow_redirects=False,
                    stream=True,
                ) as response:
                    return response.status_code, self._read(response, deadline)
        except (requests.Timeout, urllib3.exceptions.TimeoutError) as e:
            raise PrometheusError(f"Prometheus did not answer within {self.limits.seconds:g} s.") from e
        except (requests.RequestException, urllib3.exceptions.HTTPError) as e:
            raise PrometheusError(f"Prometheus at {self.url} does not answer. Is it running?") from e

    def _read(self, response: requests.Response, deadline: float) -> bytes:
        parts: list[bytes] = []
        size = 0
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise PrometheusError("The answer is compressed, which was not asked for.")
        # As it comes: to wait for a whole part would let an answer that drips outlast the deadline.
        while part := response.raw.read1(64 * 1024):
            size += len(part)
            if size > self.limits.response_bytes:
                raise PrometheusError(
                    f"The answer is over {self.limits.response_bytes} bytes: choose a shorter time or fewer series."
                )
            if time.monotonic() > deadline:
                raise PrometheusError(f"The answer took longer than {self.limits.seconds:g} s.")
            parts.append(part)
        return b"".join(parts)


class Dashboards:
    """The Classic JSON files of a folder, read anew each time: a file that is written again is seen at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def all(self) -> dict[str, Mapping[str, Any]]:
        """Dashboards by uid; a file that is not a dashboard is left out."""
        found: dict[str, Mapping[str, Any]] = {}
        for path in sorted(self._folder.glob("*.json")):
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue
            if isinstance(content, dict) and isinstance(content.get("uid"), str):
                found[content["uid"]] = content
        return found


class _Proxy:
    """The way from the page to Prometheus."""

    def __init__(self, prometheus: Prometheus) -> None:
        self._prometheus = prometheus
        self._limits = prometheus.limits
        self._turns = asyncio.Semaphore(self._limits.at_once)

    async def answer(self, request: Request) -> Response:
        # Browsers say whose page it is that asks; a tool says nothing.
        if request.headers.get("Sec-Fetch-Site", "none") not in {"same-origin", "none"}:
            return _error(403, "Only the viewer's own page may ask.")
        label = request.path_params.get("label")
        if label is not None and not _LABEL.fullmatch(label):
            return _error(400, f"{label!r} is no name of a label.")
        try:
            async with asyncio.timeout(self._limits.seconds):
                form = await _form(request, self._limits.request_bytes)
        except TimeoutError:
            return _error(408, f"The question took longer than {self._limits.seconds:g} s.")
        if form is None or len(request.url.query) > self._limits.request_bytes:
            return _error(413, f"The question is larger than {self._limits.request_bytes} bytes.")
        path = request.url.path.removeprefix("/api/v1/")
        try:
            async with self._turns:
                status, body = await run_in_threadpool(
                    self._prometheus.ask, path, request.url.query, form if request.method == "POST" else None
                )
        except PrometheusError as e:
            return _error(502, str(e))
        return Response(body, status, media_type="application/json")


def create_app(prometheus_url: str, dashboards: Path, dist: Path, limits: Limits | None = None) -> Starlette:
    """The viewer as an ASGI application. *dist* is what ``npm run build`` wrote."""
    proxy = _Proxy(Prometheus(prometheus_url, limits or Limits())).answer
    folder = Dashboards(dashboards)

    def listing(_: Request) -> Response:
        keys = ("uid", "title", "description", "tags")
        return JSONResponse([{key: d.get(key, "") for key in keys} for d in folder.all().values()])

    def dashboard(request: Request) -> Response:
        uid = request.path_params["uid"]
        found = folder.all().get(uid)
        if found is None:
            return _error(404, f"There is no dashboard with the uid {uid!r}.")
        return JSONResponse(found)

    def page(_: Request) -> Response:
        return FileResponse(dist / "index.html", headers={"Cache-Control": "no-cache"})

    def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    asked = ["GET", "POST"]
    routes = [
        Route("/api/v1/query", proxy, methods=asked),
        Route("/api/v1/query_range", proxy, methods=asked),
        Route("/api/v1/series", proxy, methods=asked),
        Route("/api/v1/labels", proxy, methods=asked),
        Route("/api/v1/label/{label}/values", proxy, methods=["GET"]),
        Route("/api/dashboards", listing),
        Route("/api/dashboards/{uid}", dashboard),
        Route("/healthz", healthz),
        Route("/", page),
        Route("/d/{uid}", page),
        # Grafana's links carry the title behind the uid.
        Route("/d/{uid}/{slug}", page),
        Mount("/", StaticFiles(directory=dist)),
    ]
    # A page of another host that names itself 127.0.0.1 by DNS gets nothing.
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"], www_redirect=False)
    return Starlette(routes=routes, middleware=[hosts, Middleware(_SecurityHeaders)])


class _SecurityHeaders:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                if scope["path"].startswith("/assets/"):
                    # Their names carry a hash of what is in them.
                    headers["Cache-Control"] = "public, max-age=31536000, immutable"
            await send(message)

        await self._app(scope, receive, with_headers)


async def _form(request: Request, most: int) -> bytes | None:
    """The body, or None as soon as it is longer than *most*."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > most:
            return None
    return body


def _error(status: int, text: str) -> Response:
    """An error in the shape of Prometheus' own, so that the page has one way to read it."""
    return JSONResponse({"status": "error", "errorType": "viewer", "error": text}, status)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m llmvitals_stack.viewer", description="The dashboard viewer.")
    parser.add_argument("--port", type=int, default=3000, help="on 127.0.0.1 (default: %(default)s)")
    parser.add_argument("--prometheus-url", default="http://127.0.0.1:9090")
    parser.add_argument("--dashboards", type=Path, default=Path("grafana/dashboards"))
    parser.add_argument("--dist", type=Path, default=Path("grafana/viewer/dist"), help="what `npm run build` wrote")
    options = parser.parse_args()
    if not (options.dist / "index.html").is_file():
        parser.error(f"{options.dist} holds no built viewer; run: npm --prefix grafana/viewer run build")
    app = create_app(options.prometheus_url, options.dashboards, options.dist)
    uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="warning", server_header=False)


if __name__ == "__main__":
    main()
