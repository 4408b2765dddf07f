"""Reading request bodies that strangers write: capped while they stream, and given a limited time."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

MEBIBYTE = 1 << 20
ALERTS_CAP = 16 * MEBIBYTE
BODY_SECONDS = 10.0
# Bodies held at one moment, all together. Above it the sender is asked to come back.
_HELD_CAP = 256 * MEBIBYTE
# An over-long body is read on, and dropped, so that a sender that only then listens hears the 413.
_DISCARD_CAP = 64 * MEBIBYTE
_CLOSE = {"Connection": "close"}


class BodyReader:
    """Reads bodies of at most *cap* bytes within *seconds*."""

    def __init__(self, cap: int, *, seconds: float = BODY_SECONDS) -> None:
        self._cap = cap
        self._seconds = seconds
        self._held = 0

    @asynccontextmanager
    async def hold(self, request: Request) -> AsyncIterator[bytes]:
        """The whole body, counted as held until the block ends.

        Raises 413 over the cap, 415 when compressed, 503 when it comes too slowly or too much is held already.
        """
        encoding = request.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in {"", "identity"}:
            raise HTTPException(415, "compressed bodies are not taken; send plain JSON, as Alertmanager does", _CLOSE)
        body = bytearray()
        try:
            await self._fill_in_time(body, request)
            yield bytes(body)
        finally:
            self._held -= len(body)

    async def read(self, request: Request) -> bytes:
        """As `hold`, for a body that is done with at once."""
        async with self.hold(request) as body:
            return body

    async def _fill_in_time(self, body: bytearray, request: Request) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await self._fill(body, request.stream())
        except TimeoutError as error:
            # Not 408: that is a 4xx, which Alertmanager would not try again.
            raise HTTPException(503, f"the body did not arrive within {self._seconds:g} s", _CLOSE) from error
        except ClientDisconnect as error:
            raise HTTPException(400, "the client hung up before the body was complete", _CLOSE) from error

    async def _fill(self, body: bytearray, stream: AsyncIterator[bytes]) -> None:
        async for chunk in stream:
            if len(body) + len(chunk) > self._cap:
                self._held -= len(body)
                body.clear()
                await _discard(stream)
                raise HTTPException(413, f"the body is larger than {self._cap} bytes", _CLOSE)
            if self._held + len(chunk) > _HELD_CAP:
                raise HTTPException(503, "too many bodies are being read at this moment; try again", _CLOSE)
            body += chunk
            self._held += len(chunk)


async def read_json_object(request: Request, reader: BodyReader) -> dict[str, Any]:
    """The body as a JSON object; raises 400 with the reason."""
    body = await reader.read(request)
    try:
        # `parse_constant`: NaN and Infinity are not JSON, and compare equal to nothing.
        value = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the body is not JSON: {error}"[:200]) from error
    if not isinstance(value, dict):
        raise HTTPException(400, f"the body must be a JSON object, not {type(value).__name__}")
    return value


async def read_form(request: Request, reader: BodyReader) -> dict[str, str]:
    """The body as URL-encoded fields, the last of a repeated name. Multipart is not spoken here, on purpose."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise HTTPException(415, "forms are sent as application/x-www-form-urlencoded")
    body = await reader.read(request)
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=32, encoding="utf-8"))
    except ValueError as error:
        raise HTTPException(400, f"the form cannot be read: {error}"[:200]) from error


async def _discard(stream: AsyncIterator[bytes]) -> None:
    left = _DISCARD_CAP
    async for chunk in stream:
        left -= len(chunk)
        if left < 0:
            return


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")
