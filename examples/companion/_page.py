"""The page for people: its few files, read once and kept."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from pathlib import Path

import cachetools
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from llmvitals import Vitals

__all__ = ["page_routes"]

_STATIC = Path(__file__).parent / "static"
_FILES = {
    "/": ("page.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_HEADERS = {
    "content-security-policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}


def page_routes(vitals: Vitals) -> list[BaseRoute]:
    kept: MutableMapping[str, bytes] = vitals.cache("web", cachetools.TTLCache(200, ttl=1800))

    async def file(request: Request) -> Response:
        name, kind = _FILES[request.url.path]
        content = kept.get(name)
        if content is None:
            content = kept[name] = await asyncio.to_thread((_STATIC / name).read_bytes)
        return Response(content, media_type=kind, headers=_HEADERS)

    return [Route(path, file, methods=["GET"]) for path in _FILES]
