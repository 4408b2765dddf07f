"""Faults on demand: only with --demo-faults, because whoever reaches the port can break the companion with them."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
import uuid
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from companion._bodies import BadInputError, number, read_object
from companion._chat import Chat
from companion._dials import LIMITS, Dials
from companion._effects import EffectLedger
from companion._journal import Journal
from companion._settings import Settings

__all__ = ["demo_routes", "dials_route", "late_start"]

log = logging.getLogger("companion")

_MIB = 1024 * 1024
_ATTACHMENT_MIB = 8
_NEXT_START = "next-start-seconds"


def demo_routes(settings: Settings, chat: Chat, journal: Journal, ledger: EffectLedger) -> list[BaseRoute]:
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
        *_piles(settings, journal),
        Route("/demo/ledger", effects, methods=["GET"]),
    ]


def _piles(settings: Settings, journal: Journal) -> list[BaseRoute]:
    """What is made and never taken away."""
    unclosed: list[asyncio.StreamWriter] = []

    async def documents(request: Request) -> Response:
        """Documents that fill the journal."""
        count = int(number(await read_object(request, limit=_MIB), "count", 1, 1_000_000, whole=True))
        await journal.fill(count)
        return JSONResponse({"written": count})

    async def threads(request: Request) -> Response:
        """Threads that wait for what never comes."""
        count = int(number(await read_object(request, limit=_MIB), "count", 1, 1000, whole=True))
        for _ in range(count):
            threading.Thread(target=threading.Event().wait, name="demo-forgotten", daemon=True).start()
        return JSONResponse({"started": count})

    async def connections(request: Request) -> Response:
        """Connections whose other end has hung up, and that are never closed here."""
        count = int(number(await read_object(request, limit=_MIB), "count", 1, 1000, whole=True))
        asked = urlsplit(settings.llm_url)
        for _ in range(count):
            # A reader that is not paused reads the end; the socket stays as long as its writer is kept.
            _, writer = await asyncio.open_connection(asked.hostname, asked.port)
            writer.write(b"GET /v1/models HTTP/1.0\r\n\r\n")
            unclosed.append(writer)
        return JSONResponse({"unclosed": len(unclosed)})

    async def next_start(request: Request) -> Response:
        """The next start takes so much longer; once."""
        seconds = number(await read_object(request, limit=_MIB), "seconds", 0, 3600)
        await asyncio.to_thread((settings.data_dir / _NEXT_START).write_text, f"{seconds}", "utf-8")
        return JSONResponse({"next_start_seconds": seconds})

    return [
        Route("/demo/documents", documents, methods=["POST"]),
        Route("/demo/threads", threads, methods=["POST"]),
        Route("/demo/connections", connections, methods=["POST"]),
        Route("/demo/next-start", next_start, methods=["POST"]),
    ]


def late_start(data_dir: Path) -> float:
    """How many seconds longer this start takes, as the process before was told."""
    told = data_dir / _NEXT_START
    if not told.exists():
        return 0.0
    seconds = float(told.read_text(encoding="utf-8"))
    told.unlink()
    return seconds


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
