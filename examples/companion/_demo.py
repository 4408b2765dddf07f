"""Faults on demand: only with --demo-faults, because whoever reaches the port can break the companion with them."""

from __future__ import annotations

import asyncio
import logging
import os
import time
import uuid
from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from companion._bodies import BadInputError, number, read_object
from companion._chat import Chat
from companion._dials import LIMITS, Dials
from companion._effects import EffectLedger

__all__ = ["demo_routes", "dials_route"]

log = logging.getLogger("companion")

_MIB = 1024 * 1024
_ATTACHMENT_MIB = 8


def demo_routes(chat: Chat, ledger: EffectLedger) -> list[BaseRoute]:
    async def users(request: Request) -> Response:
        """Users who come once and are never seen again: each gets a profile, the way any user does."""
        count = int(number(await read_object(request, limit=_MIB), "count", 1, 10_000, whole=True))
        for _ in range(count):
            chat.meet(f"demo-{uuid.uuid4().hex[:12]}")
        return JSONResponse({"made": count, "active": chat.users})

    async def memory(request: Request) -> Response:
        """Attachments nobody asks for again: each goes through the normal store."""
        mebibytes = int(number(await read_object(request, limit=_MIB), "mebibytes", 1, 4096, whole=True))
        profile = chat.meet("demo-attachments")
        for done in range(0, mebibytes, _ATTACHMENT_MIB):
            size = min(_ATTACHMENT_MIB, mebibytes - done) * _MIB
            # Random, so that neither a digest nor the kernel finds two pages alike.
            chat.attach(profile, await asyncio.to_thread(os.urandom, size))
        return JSONResponse({"kept_mebibytes": mebibytes})

    async def crash(request: Request) -> Response:  # noqa: ARG001 -- the router passes it
        log.warning("demo: crashing, as asked")
        # Late enough for the answer to leave, early enough that nothing is tidied up.
        asyncio.get_running_loop().call_later(0.05, os._exit, 1)
        return JSONResponse({"crashing": True}, status_code=202)

    async def block(request: Request) -> Response:
        seconds = number(await read_object(request, limit=_MIB), "seconds", 0, 30)
        log.warning("demo: blocking the event loop for %g s, as asked", seconds)
        time.sleep(seconds)  # noqa: ASYNC251 -- the fault itself
        return JSONResponse({"blocked_seconds": seconds})

    async def effects(request: Request) -> Response:  # noqa: ARG001 -- the router passes it
        return JSONResponse({"effects": await asyncio.to_thread(ledger.effects)})

    return [
        Route("/demo/users", users, methods=["POST"]),
        Route("/demo/memory", memory, methods=["POST"]),
        Route("/demo/crash", crash, methods=["POST"]),
        Route("/demo/block", block, methods=["POST"]),
        Route("/demo/ledger", effects, methods=["GET"]),
    ]


def dials_route(dials: Dials) -> Route:
    async def turn_dials(request: Request) -> Response:
        """Have the companion behave as on a bad day; a dial that is not named stays as it is."""
        body = await read_object(request, limit=_MIB)
        unknown = ", ".join(sorted(set(body) - set(LIMITS)))[:200]
        if unknown:
            raise BadInputError(422, f"unknown: {unknown}; there are {', '.join(LIMITS)}")
        turned = {name: number(body, name, *LIMITS[name]) for name in body}
        for name, value in turned.items():
            setattr(dials, name, value)
        return JSONResponse(asdict(dials))

    return Route("/demo/dials", turn_dials, methods=["POST"])
