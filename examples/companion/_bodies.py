"""What comes in from outside, checked once, at the door."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any, cast, get_args

from starlette.requests import Request

from companion._chat import Mode, Question

__all__ = ["MAX_ATTACHMENT_BYTES", "MAX_MESSAGE_BYTES", "BadInputError", "number", "question", "read_object", "user_id"]

MAX_MESSAGE_BYTES = 1024 * 1024
MAX_ATTACHMENT_BYTES = 8 * 1024 * 1024
# JSON may write a character as six: a body of the largest message and attachment, escaped a good deal, still fits.
MAX_BODY_BYTES = 24 * 1024 * 1024
MAX_USER_CHARACTERS = 64
# Parsing more than this would hold up the loop for milliseconds.
_BRIEF_BYTES = 256 * 1024


class BadInputError(Exception):
    """What came is not what is taken. `status` is 400 (not JSON), 413 (too large) or 422 (a value is wrong)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def read_object(request: Request, *, limit: int = MAX_BODY_BYTES) -> dict[str, Any]:
    """The JSON object in the request's body. Raises BadInputError."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise BadInputError(413, f"the body is larger than {limit} bytes")
    if len(body) > _BRIEF_BYTES:
        return await asyncio.to_thread(parse_object, bytes(body))
    return parse_object(bytes(body))


def parse_object(body: str | bytes) -> dict[str, Any]:
    """The JSON object in *body*. Raises BadInputError."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadInputError(400, f"the body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadInputError(400, 'the body must be a JSON object, such as {"user": "ann", "message": "hello"}')
    return value


def question(body: dict[str, Any]) -> Question:
    """The question in a body of `user`, `message`, `mode` and, if wished, `attachment`. Raises BadInputError."""
    unknown = set(body) - {"user", "message", "mode", "attachment"}
    if unknown:
        names = ", ".join(repr(name[:40]) for name in sorted(unknown)[:5])
        raise BadInputError(422, f"unknown: {names}; there are user, message, mode, attachment")
    mode = body.get("mode", "talker")
    if mode not in get_args(Mode):
        raise BadInputError(422, f"mode must be {' or '.join(get_args(Mode))}")
    message = _text(body.get("message"), "message", MAX_MESSAGE_BYTES)
    if not message.strip():
        raise BadInputError(422, "message must not be empty")
    attachment = body.get("attachment")
    if attachment is not None:
        attachment = _text(attachment, "attachment", MAX_ATTACHMENT_BYTES)
    return Question(user_id(body.get("user")), message, cast("Mode", mode), attachment)


def user_id(value: object) -> str:
    """A user's id: text of 1 to 64 visible characters. Raises BadInputError."""
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_USER_CHARACTERS or not value.isprintable():
        raise BadInputError(422, f"user must be a text of 1 to {MAX_USER_CHARACTERS} printable characters")
    return value


def number(body: dict[str, Any], name: str, low: float, high: float, *, whole: bool = False) -> float:
    """The number *name* in *body*, from *low* to *high*. Raises BadInputError."""
    value = body.get(name)
    kind = "a whole number" if whole else "a number"
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not low <= value <= high
        or (whole and not math.floor(value) == value)
    ):
        raise BadInputError(422, f"{name} must be {kind} from {low:g} to {high:g}")
    return value


def _text(value: object, name: str, limit: int) -> str:
    if not isinstance(value, str):
        raise BadInputError(422, f"{name} must be a text")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise BadInputError(422, f"{name} has half a surrogate pair, which is no character") from None
    if size > limit:
        raise BadInputError(413, f"{name} is larger than {limit} bytes")
    return value
