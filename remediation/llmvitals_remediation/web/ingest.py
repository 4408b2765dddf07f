"""The intake of alerts: 202 only after the durable commit, 503 to push back, a 4xx only for what can never be right."""

import time

import anyio.to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from llmvitals_remediation.errors import NotJSONError, StoreUnavailableError
from llmvitals_remediation.web.bodies import ALERTS_CAP, BODY_SECONDS, BodyReader
from llmvitals_remediation.web.services import Services
from llmvitals_remediation.web.tokens import require


def routes(services: Services, *, body_seconds: float = BODY_SECONDS) -> list[Route]:
    bodies = BodyReader(ALERTS_CAP, seconds=body_seconds)

    async def alerts(request: Request) -> Response:
        try:
            return await take(request)
        except HTTPException as error:
            if error.status_code < 500:
                services.metrics.deliveries.labels("rejected").inc()
            raise

    async def take(request: Request) -> Response:
        require(request.headers, services.tokens.ingest)
        if services.lifecycle.draining:
            raise HTTPException(503, "the service is stopping; deliver again")
        async with bodies.hold(request) as body:
            received_at = time.time()
            try:
                receipt = await anyio.to_thread.run_sync(
                    lambda: services.store.accept(body, received_at=received_at), limiter=services.threads.intake
                )
            except NotJSONError as error:
                raise HTTPException(400, f"the body is not JSON: {error}"[:300]) from error
            except StoreUnavailableError as error:
                raise HTTPException(503, f"the store cannot take this now: {error}"[:300]) from error
        services.engine.wake()
        answer: dict[str, object] = {"delivery": receipt.delivery_id, "result": receipt.result}
        if receipt.reason is not None:
            answer["reason"] = receipt.reason
        return JSONResponse(answer, 202)

    # Both spellings: a redirect would turn Alertmanager's POST into a GET, and the alert would be lost.
    return [Route(path, alerts, methods=["POST"]) for path in ("/api/v1/alerts", "/api/v1/alerts/")]
