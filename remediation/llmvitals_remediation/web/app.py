"""The application: every route, the guards around them, and errors in the shape that the caller reads."""

from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from llmvitals_remediation.web import agent_api, health, ingest
from llmvitals_remediation.web.api import AdminAPI
from llmvitals_remediation.web.console import Console
from llmvitals_remediation.web.controls import Controls
from llmvitals_remediation.web.guards import HostCheck, SafeHeaders
from llmvitals_remediation.web.services import Services


def build(services: Services, *, body_seconds: float = 10.0) -> ASGIApp:
    controls = Controls(services)
    console = Console(services, controls)

    async def refuse(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 -- registered for nothing else
        if request.url.path.startswith("/api/"):
            return JSONResponse({"error": error.detail}, error.status_code, error.headers)
        return console.error(request, error.status_code, error.detail, error.headers)

    async def fail(request: Request, _error: Exception) -> Response:
        # The trace is in the log; the caller learns that it was not their mistake, and may come back.
        text = HTTPStatus.INTERNAL_SERVER_ERROR.phrase
        if request.url.path.startswith("/api/"):
            return JSONResponse({"error": text}, 500)
        return console.error(request, 500, "The service met an error that it did not expect; its log has the trace.")

    app = Starlette(
        routes=[
            *health.routes(services),
            *ingest.routes(services, body_seconds=body_seconds),
            *agent_api.routes(services),
            *AdminAPI(services, controls).routes(),
            *console.routes(),
        ],
        exception_handlers={HTTPException: refuse, Exception: fail},
    )
    # A redirect turns Alertmanager's POST into a GET that succeeds elsewhere: the alert would be lost without a trace.
    app.router.redirect_slashes = False
    # Outside the application, so that its answer to an error of our own is guarded too.
    return SafeHeaders(HostCheck(app, hosts=services.hosts))
