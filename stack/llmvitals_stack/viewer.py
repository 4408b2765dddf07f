"""
Serves the built dashboard viewer, the dashboards, and a read-only way to Prometheus, all from one origin.

Nothing that a page can ask changes anything or reaches another host. A page of another site can ask nothing.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmvitals_stack import dashboards as files
from llmvitals_stack.viewer_metrics import Metrics
from llmvitals_stack.viewer_proxy import Limits, Proxy, error

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


def create_app(
    prometheus_url: str,
    dashboards: Path,
    dist: Path,
    limits: Limits | None = None,
    *,
    console_url: str | None = None,
) -> Starlette:
    """The viewer as an ASGI application.

    Args:
        prometheus_url: What the pages ask.
        dashboards: A folder, read anew each time: a file that is written again is seen at once.
        dist: What ``npm run build`` wrote.
        limits: Of one question, and of all at one time.
        console_url: Where panels' links to runbooks lead; None leaves what the files say.
    """
    metrics = Metrics()
    proxy = Proxy(prometheus_url, limits or Limits(), metrics)

    def read() -> Mapping[str, Mapping[str, Any]]:
        return files.read(dashboards, console_url=console_url)

    def listing(_: Request) -> Response:
        keys = ("uid", "title", "description", "tags")
        return JSONResponse([{key: d.get(key, "") for key in keys} for d in read().values()])

    def dashboard(request: Request) -> Response:
        uid = request.path_params["uid"]
        found = read().get(uid)
        if found is None:
            return error(404, f"There is no dashboard with the uid {uid!r}.")
        return JSONResponse(found)

    def page(_: Request) -> Response:
        return FileResponse(dist / "index.html", headers={"Cache-Control": "no-cache"})

    def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    def told(_: Request) -> Response:
        return Response(generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    routes = [
        *proxy.routes(),
        Route("/api/dashboards", listing),
        Route("/api/dashboards/{uid}", dashboard),
        Route("/healthz", healthz),
        # Where Grafana has its own.
        Route("/metrics", told),
        Route("/", page),
        Route("/d/{uid}", page),
        # Grafana's links carry the title behind the uid.
        Route("/d/{uid}/{slug}", page),
        Mount("/", _Files(directory=dist)),
    ]
    # A page of another host that names itself 127.0.0.1 by DNS gets nothing.
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"], www_redirect=False)
    return Starlette(routes=routes, middleware=[hosts, Middleware(_SecurityHeaders)])


class _Files(StaticFiles):
    """Files of a folder; those that the build has compressed are sent so to who can read them."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        if path.startswith("assets/") and "gzip" in Headers(scope=scope).get("Accept-Encoding", ""):
            try:
                response = await super().get_response(f"{path}.gz", scope)
            except HTTPException:
                return await super().get_response(path, scope)
            response.headers.update({"Content-Encoding": "gzip", "Vary": "Accept-Encoding"})
            return response
        return await super().get_response(path, scope)


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


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m llmvitals_stack.viewer", description="The dashboard viewer.")
    parser.add_argument("--port", type=int, default=3000, help="on 127.0.0.1 (default: %(default)s)")
    parser.add_argument("--prometheus-url", default="http://127.0.0.1:9090")
    parser.add_argument("--dashboards", type=Path, default=Path("grafana/dashboards"))
    parser.add_argument("--dist", type=Path, default=Path("grafana/viewer/dist"), help="what `npm run build` wrote")
    parser.add_argument("--console-url", metavar="URL", help="where runbooks are for a person's browser")
    options = parser.parse_args()
    if not (options.dist / "index.html").is_file():
        parser.error(f"{options.dist} holds no built viewer; run: npm --prefix grafana/viewer run build")
    app = create_app(options.prometheus_url, options.dashboards, options.dist, console_url=options.console_url)
    uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="warning", server_header=False)


if __name__ == "__main__":
    main()
