"""/healthz: the process answers. /readyz: alerts can be taken, and what is amiss. /metrics."""

import anyio.to_thread
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from llmvitals_remediation.web.services import Services
from llmvitals_remediation.web.tokens import TokenError


def routes(services: Services) -> list[Route]:
    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_request: Request) -> Response:
        blocked, degraded = await anyio.to_thread.run_sync(_look, services, limiter=services.threads.rest)
        # 503 only when an alert could not be taken: whoever routes by readiness must not cut off the intake because
        # Prometheus is away. What is merely amiss is said, with 200.
        body = {"status": "unavailable" if blocked else "degraded" if degraded else "ready", **blocked, **degraded}
        return JSONResponse(body, 503 if blocked else 200)

    async def metrics(_request: Request) -> Response:
        text = await anyio.to_thread.run_sync(generate_latest, services.metrics.registry, limiter=services.threads.rest)
        return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]


def _look(services: Services) -> tuple[dict[str, str], dict[str, str]]:
    """What keeps alerts out, and what only limits the service: the part's name, and the reason."""
    blocked: dict[str, str] = {}
    degraded: dict[str, str] = {}
    if services.lifecycle.draining:
        blocked["service"] = "is stopping"
    if (reason := services.store.ready()) is not None:
        blocked["store"] = reason
    for name, file, where in (
        ("ingest_token", services.tokens.ingest, blocked),
        ("admin_token", services.tokens.admin, degraded),
        ("agent_token", services.tokens.agent, degraded),
    ):
        try:
            file.tokens()
        except TokenError as error:
            where[name] = str(error)
    for name, source in services.sources.items():
        if (reason := source()) is not None:
            degraded[name] = reason
    return blocked, degraded
