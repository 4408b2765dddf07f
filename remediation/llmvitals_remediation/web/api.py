"""The admin API: JSON, bearer admin token, for people's scripts and for the console's neighbours."""

from collections.abc import Callable
from typing import Any, TypeVar

import anyio.to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from llmvitals_remediation.web.bodies import BodyReader, read_json_object
from llmvitals_remediation.web.controls import Controls
from llmvitals_remediation.web.services import Services
from llmvitals_remediation.web.tokens import require


T = TypeVar("T")

MAX_LIMIT = 1000


def routes(services: Services, controls: Controls) -> list[Route]:
    bodies = BodyReader(65_536)
    store, engine = services.store, services.engine

    async def blocking(request: Request, call: Callable[[], T]) -> T:
        require(request.headers, services.tokens.admin)
        return await anyio.to_thread.run_sync(call, limiter=services.threads.rest)

    async def told(request: Request) -> dict[str, Any]:
        require(request.headers, services.tokens.admin)
        return await read_json_object(request, bodies)

    async def incidents(request: Request) -> Response:
        query = request.query_params
        limit = _limit(query.get("limit", "100"))
        state, handler = query.get("state") or None, query.get("handler") or None
        found = await blocking(request, lambda: store.incidents(state=state, handler=handler, limit=limit))
        return JSONResponse({"incidents": found})

    async def incident(request: Request) -> Response:
        incident_id = request.path_params["id"]
        found = await blocking(request, lambda: store.incident(incident_id))
        if found is None:
            raise HTTPException(404, "there is no incident of that id")
        return JSONResponse(found)

    async def audit(request: Request) -> Response:
        limit = _limit(request.query_params.get("limit", "200"))
        return JSONResponse({"audit": await blocking(request, lambda: store.audit(limit))})

    async def handlers(request: Request) -> Response:
        return JSONResponse({"handlers": await blocking(request, engine.handlers)})

    async def status(request: Request) -> Response:
        return JSONResponse(dict(await blocking(request, engine.status)))

    async def kill_switch(request: Request) -> Response:
        body = await told(request)
        engaged = body.get("engaged")
        if not isinstance(engaged, bool):
            raise HTTPException(400, "engaged: must be true or false")
        await controls.set_kill_switch(engaged, who=_who(body), why=body.get("why"))
        return JSONResponse({"engaged": engaged})

    async def mode(request: Request) -> Response:
        body = await told(request)
        handler = request.path_params["name"]
        await controls.set_mode(handler, body.get("mode"), who=_who(body), why=body.get("why"))
        return JSONResponse({"handler": handler, "mode": body["mode"]})

    async def decide(request: Request) -> Response:
        body = await told(request)
        incident_id, decision = request.path_params["id"], request.path_params["decision"]
        await controls.decide(incident_id, decision, who=_who(body), why=body.get("why"))
        return JSONResponse({"incident": incident_id, "decision": decision})

    return [
        Route("/api/v1/incidents", incidents),
        Route("/api/v1/incidents/{id}", incident),
        Route("/api/v1/incidents/{id}/{decision}", decide, methods=["POST"]),
        Route("/api/v1/audit", audit),
        Route("/api/v1/handlers", handlers),
        Route("/api/v1/handlers/{name}/mode", mode, methods=["POST"]),
        Route("/api/v1/status", status),
        Route("/api/v1/controls/kill-switch", kill_switch, methods=["POST"]),
    ]


def _who(body: dict[str, Any]) -> str:
    """Who the audit log names: whoever holds the admin token, and the name they give."""
    name = body.get("who")
    return f"{name} (API)" if isinstance(name, str) and 0 < len(name) <= 64 and name.isprintable() else "admin (API)"


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:6]) <= MAX_LIMIT):
        raise HTTPException(400, f"limit: must be a number from 1 to {MAX_LIMIT}")
    return int(text)
