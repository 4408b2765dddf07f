"""The agent protocol, version 1, as the application's side sees it. Its written form is `docs/agent-protocol.md`.

What arrives was written by somebody else: sizes, depths, types and numbers are checked before anything else looks.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

PROTOCOL_VERSION = 1
MAX_BODY_BYTES = 1024 * 1024
MAX_COMMANDS = 64
MAX_DEPTH = 8
MAX_ITEMS = 256
MAX_TEXT = 4096
MAX_ID = 256
# Beyond it neither a float nor many a JSON reader can tell two integers apart from each other's neighbours.
MAX_NUMBER = 2.0**63
# Of a whole message about a result. What an action returned may have all of it but what the rest can take.
MAX_RESULT_BYTES = 256 * 1024
MAX_RETURNED_BYTES = MAX_RESULT_BYTES - 64 * 1024
_CUT_TEXT = 32 * 1024

Status = Literal["done", "failed", "refused"]
Refusal = Literal["old_fence", "other_boot", "expired", "unknown_verb", "bad_parameters"]
Scalar = str | int | float | bool | None

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")


class ProtocolError(ValueError):
    """What the controller sent does not follow the protocol: the text says where and how."""


@dataclass(frozen=True, slots=True)
class Command:
    """One attempt, for one process. `parameters` is JSON of a bounded depth, not yet checked against the verb."""

    attempt_id: str
    fence: int
    boot_id: str
    expires_at: float
    verb: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Malformed:
    """A command that can be answered (it has an attempt id), but not obeyed: `problem` says why."""

    attempt_id: str
    verb: str
    problem: str


@dataclass(frozen=True, slots=True)
class Result:
    """What became of an attempt. `finished_at` is this side's wall clock, in unix seconds."""

    attempt_id: str
    verb: str
    status: Status
    result: Mapping[str, Any] | None
    error: str | None
    refusal: Refusal | None
    finished_at: float

    def as_json(self, *, agent_id: str, boot_id: str) -> dict[str, Any]:
        return {
            "agent_id": agent_id,
            "boot_id": boot_id,
            "attempt_id": self.attempt_id,
            "verb": self.verb,
            "status": self.status,
            "result": None if self.result is None else dict(self.result),
            "error": self.error,
            "refusal": self.refusal,
            "finished_at": self.finished_at,
        }


def is_name(text: object) -> bool:
    """Whether *text* may name a verb, a parameter, a tunable or a profile."""
    return isinstance(text, str) and _NAME.fullmatch(text) is not None


def is_scalar(value: object) -> bool:
    """Whether *value* may travel as a tunable's value: null, a boolean, a finite number, a text of bounded length."""
    if value is None or isinstance(value, bool):
        return True
    if isinstance(value, int | float):
        return is_finite(value)
    return isinstance(value, str) and len(value) <= MAX_TEXT


def is_finite(value: float) -> bool:
    """Whether a number is finite and of a size that survives JSON. The bound also holds for an int of 400 digits."""
    return -MAX_NUMBER < value < MAX_NUMBER


def cut(text: str, limit: int = MAX_TEXT) -> str:
    """A text for people, no longer than *limit*."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


# --- reading ----------------------------------------------------------------------------------------------------------


def parse_commands(body: bytes) -> list[Command | Malformed]:
    """A poll's answer. Raises `ProtocolError` where not even an attempt id can be read."""
    try:
        answer = json.loads(body, parse_constant=_no_constant)
    except RecursionError:
        raise ProtocolError("the answer is JSON nested deeper than any command is") from None
    except ValueError as error:
        raise ProtocolError(f"the answer is not JSON: {cut(str(error), 200)}") from None
    if not isinstance(answer, dict) or not isinstance(commands := answer.get("commands"), list):
        raise ProtocolError("the answer must be a JSON object with a list of commands")
    if len(commands) > MAX_COMMANDS:
        raise ProtocolError(f"the answer has {len(commands)} commands; at most {MAX_COMMANDS} are taken at once")
    return [_command(item, f"commands[{i}]") for i, item in enumerate(commands)]


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _command(item: object, where: str) -> Command | Malformed:
    if not isinstance(item, dict):
        raise ProtocolError(f"{where} must be a JSON object, not {type(item).__name__}")
    attempt_id = item.get("attempt_id")
    if not isinstance(attempt_id, str) or not _is_id(attempt_id):
        raise ProtocolError(f"{where}.attempt_id must be a text of 1 to {MAX_ID} printable characters")
    verb = item.get("verb")
    if not isinstance(verb, str) or not is_name(verb):
        return Malformed(attempt_id, "unknown", "verb must be a name: letters, digits, '_', '.', '-', at most 128")
    problem = _problem(item)
    if problem is not None:
        return Malformed(attempt_id, verb, problem)
    return Command(
        attempt_id=attempt_id,
        fence=item["fence"],
        boot_id=item["boot_id"],
        expires_at=float(item["expires_at"]),
        verb=verb,
        parameters=item.get("parameters") or {},
    )


def _problem(item: Mapping[str, Any]) -> str | None:
    fence, expires_at, parameters = item.get("fence"), item.get("expires_at"), item.get("parameters")
    if isinstance(fence, bool) or not isinstance(fence, int) or not 0 <= fence < MAX_NUMBER:
        return "fence must be an integer from 0 to 2^63 - 1"
    if not _is_id(item.get("boot_id")):
        return f"boot_id must be a text of 1 to {MAX_ID} printable characters"
    if isinstance(expires_at, bool) or not isinstance(expires_at, int | float) or not is_finite(expires_at):
        return "expires_at must be a finite number of unix seconds"
    if parameters is not None and not isinstance(parameters, dict):
        return f"parameters must be a JSON object, not {type(parameters).__name__}"
    return _excess(parameters)


def _excess(value: object) -> str | None:
    """What is too deep, too many, too long or not finite in *value*. Walks without recursion: depth is the attack."""
    waiting = [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        if depth > MAX_DEPTH:
            return f"parameters are nested deeper than {MAX_DEPTH}"
        if isinstance(item, dict | list):
            if len(item) > MAX_ITEMS:
                return f"parameters hold a collection of more than {MAX_ITEMS} entries"
            children = [*item, *item.values()] if isinstance(item, dict) else item
            waiting.extend((child, depth + 1) for child in children)
        elif not is_scalar(item):
            return f"parameters hold a text of more than {MAX_TEXT} characters or a number that is not finite"
    return None


def _is_id(text: object) -> bool:
    return isinstance(text, str) and 0 < len(text) <= MAX_ID and text.isprintable()


# --- writing ----------------------------------------------------------------------------------------------------------


def encodable(value: object) -> Mapping[str, Any] | None:
    """What an action returned, as the JSON object that travels.

    The action has acted, so a value that cannot travel never turns its result into a failure: what is not a mapping
    goes under `value`, what is no JSON is told by its type, what is too long is cut.
    """
    if value is None:
        return None
    told = value if isinstance(value, Mapping) else {"value": value}
    try:
        text = json.dumps(dict(told), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        return {"unencodable": cut(f"{type(value).__name__}: {error}", 500)}
    if len(text) > MAX_RETURNED_BYTES:
        note = f"the result is {len(text)} bytes of JSON, more than the {MAX_RETURNED_BYTES} that travel"
        return {"cut": True, "note": note, "length": len(text), "text": text[:_CUT_TEXT]}
    decoded: dict[str, Any] = json.loads(text)
    return decoded
