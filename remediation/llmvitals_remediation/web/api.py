"""The admin API: JSON, bearer admin token, for people's scripts and for other programs."""

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


class AdminAPI:
    def __init__(self, services: Services, controls: Controls) -> None:
        self._services = services
        self._controls = controls
        self._bodies = BodyReader(65_536)

    def routes(self) -> list[Route]:
        return [
            Route("/api/v1/incidents", self._incidents),
            Route("/api/v1/incidents/{id}", self._incident),
            Route("/api/v1/incidents/{id}/{decision}", self._decide, methods=["POST"]),
            Route("/api/v1/audit", self._audit),
            Route("/api/v1/handlers", self._handlers),
            Route("/api/v1/handlers/{name}/mode", self._set_mode, methods=["POST"]),
            Route("/api/v1/status", self._status),
            Route("/api/v1/controls/kill-switch", self._set_kill_switch, methods=["POST"]),
        ]

    # --- looking ------------------------------------------------------------------------------------------------------

    async def _incidents(self, request: Request) -> Response:
        query = request.query_params
        state, handler = query.get("state") or None, query.get("handler") or None
        found = await self._look(
            request,
            lambda: self._services.store.incidents(state=state, handler=handler, limit=_limit(request, 100)),
        )
        return JSONResponse({"incidents": found})

    async def _incident(self, request: Request) -> Response:
        incident_id = request.path_params["id"]
        found = await self._look(request, lambda: self._services.store.incident(incident_id))
        if found is None:
            raise HTTPException(404, "there is no incident of that id")
        return JSONResponse(found)

    async def _audit(self, request: Request) -> Response:
        found = await self._look(request, lambda: self._services.store.audit(_limit(request, 200)))
        return JSONResponse({"audit": found})

    async def _handlers(self, request: Request) -> Response:
        return JSONResponse({"handlers": await self._look(request, self._services.engine.handlers)})

    async def _status(self, request: Request) -> Response:
        return JSONResponse(dict(await self._look(request, self._services.engine.status)))

    # --- changing -----------------------------------------------------------------------------------------------------

    async def _set_kill_switch(self, request: Request) -> Response:
        body = await self._told(request)
        engaged = body.get("engaged")
        if not isinstance(engaged, bool):
            raise HTTPException(400, "engaged: must be true or false")
        await self._controls.set_kill_switch(engaged, who=_who(body), why=body.get("why"))
        return JSONResponse({"engaged": engaged})

    async def _set_mode(self, request: Request) -> Response:
        body = await self._told(request)
        handler = request.path_params["name"]
        await self._controls.set_mode(handler, body.get("mode"), who=_who(body), why=body.get("why"))
        return JSONResponse({"handler": handler, "mode": body["mode"]})

    async def _decide(self, request: Request) -> Response:
        body = await self._told(request)
        incident_id, decision = request.path_params["id"], request.path_params["decision"]
        await self._controls.decide(incident_id, decision, who=_who(body), why=body.get("why"))
        return JSONResponse({"incident": incident_id, "decision": decision})

    # --- inside -------------------------------------------------------------------------------------------------------

    async def _look(self, request: Request, ask: Callable[[], T]) -> T:
        require(request.headers, self._services.tokens.admin)
        return await anyio.to_thread.run_sync(ask, limiter=self._services.threads.rest)

    async def _told(self, request: Request) -> dict[str, Any]:
        require(request.headers, self._services.tokens.admin)
        return await read_json_object(request, self._bodies)


def _who(body: dict[str, Any]) -> str:
    """Who the audit log names: whoever holds the admin token, and the name they give."""
    name = body.get("who")
    return f"{name} (API)" if isinstance(name, str) and 0 < len(name) <= 64 and name.isprintable() else "admin (API)"


def _limit(request: Request, default: int) -> int:
    text = request.query_params.get("limit", str(default))
    if not (text.isascii() and text.isdecimal() and len(text) <= 6 and 1 <= int(text) <= MAX_LIMIT):
        raise HTTPException(400, f"limit: must be a number from 1 to {MAX_LIMIT}")
    return int(text)
