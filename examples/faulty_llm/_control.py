"""The control port: turns the dials of every provider and tells what was served."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from faulty_llm._dials import DialError
from faulty_llm._http import BadRequestError, read_object
from faulty_llm._ledger import Ledger
from faulty_llm._provider import Provider

__all__ = ["control_app"]

MAX_BODY_BYTES = 64 * 1024


class Controlled(Protocol):
    """What the control port needs of the simulator."""

    @property
    def providers(self) -> Mapping[str, Provider]: ...
    @property
    def ports(self) -> dict[str, int]: ...
    async def turn(self, name: str, patch: object) -> None: ...
    async def reset(self, name: str) -> None: ...


def control_app(simulator: Controlled) -> Starlette:
    async def healthz(request: Request) -> Response:  # noqa: ARG001 -- the router passes it
        return JSONResponse({"status": "ok", "ports": simulator.ports})

    async def all_dials(request: Request) -> Response:  # noqa: ARG001 -- the router passes it
        return JSONResponse({name: provider.dials.as_json() for name, provider in simulator.providers.items()})

    async def dials(request: Request) -> Response:
        provider = _named(simulator, request)
        if request.method == "PUT":
            await simulator.turn(provider.name, await read_object(request, limit=MAX_BODY_BYTES))
        return JSONResponse(provider.dials.as_json())

    async def reset(request: Request) -> Response:
        provider = _named(simulator, request)
        await simulator.reset(provider.name)
        return JSONResponse(provider.dials.as_json())

    async def ledger(request: Request) -> Response:
        if request.method == "DELETE":
            for provider in simulator.providers.values():
                provider.ledger = Ledger()
        return JSONResponse({name: provider.ledger.as_json() for name, provider in simulator.providers.items()})

    return Starlette(
        routes=[
            Route("/healthz", healthz, methods=["GET"]),
            Route("/dials", all_dials, methods=["GET"]),
            Route("/dials/{provider}", dials, methods=["GET", "PUT"]),
            Route("/dials/{provider}/reset", reset, methods=["POST"]),
            Route("/ledger", ledger, methods=["GET", "DELETE"]),
        ],
        exception_handlers={BadRequestError: _refused, DialError: _refused},
    )


def _named(simulator: Controlled, request: Request) -> Provider:
    name = request.path_params["provider"]
    if name not in simulator.providers:
        known = ", ".join(simulator.providers)
        raise BadRequestError(f"no provider {name[:80]!r}, there are {known}", status=404)
    return simulator.providers[name]


async def _refused(request: Request, error: Exception) -> Response:  # noqa: ARG001 -- Starlette's signature
    problems = error.problems if isinstance(error, DialError) else [str(error)]
    status = error.status if isinstance(error, BadRequestError) else 400
    return JSONResponse({"error": "; ".join(problems), "problems": problems}, status_code=status)
