"""The agent protocol, version 1, as this side sees it: what agents say, what they are told, what they answer.

Every parser here reads a body that a stranger may have written. It takes what it knows, in the types and sizes it
expects, ignores unknown keys, and raises `ProtocolError` with the key at fault for the rest.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, Protocol, cast

PROTOCOL_VERSION = 1
MAX_WAIT_SECONDS = 30.0
# A poll waits for 30 s at most; an agent that said nothing for this long is gone or stuck.
CONNECTED_SECONDS = 45.0

Effect = Literal["idempotent", "detectable", "neither"]
Status = Literal["done", "failed", "refused"]
Scalar = str | int | float | bool | None

_EFFECTS = ("idempotent", "detectable", "neither")
_STATUSES = ("done", "failed", "refused")
_REFUSALS = ("old_fence", "other_boot", "expired", "unknown_verb", "bad_parameters")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
_MAX_TEXT = 4096
_MAX_ID = 256
_MAX_ITEMS = 256
_MAX_NUMBER = 2.0**63


class ProtocolError(ValueError):
    """A body that does not follow the protocol: `where` is the key path, the text says what is wrong with it."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}")
        self.where = where


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    type: str
    default: Scalar = None
    low: float | None = None
    high: float | None = None
    choices: tuple[Scalar, ...] = ()


@dataclass(frozen=True, slots=True)
class Action:
    """A verb that an application offers. `effect` says what a repeat would do: see `docs/agent-protocol.md`."""

    name: str
    effect: Effect
    parameters: tuple[Parameter, ...] = ()
    description: str = ""


@dataclass(frozen=True, slots=True)
class Tunable:
    name: str
    value: Scalar
    low: float | None = None
    high: float | None = None
    choices: tuple[Scalar, ...] = ()


@dataclass(frozen=True, slots=True)
class Lease:
    """Values that the application puts back by itself at `expires_at` (unix seconds)."""

    lease_id: str
    values: Mapping[str, Scalar]
    expires_at: float


@dataclass(frozen=True, slots=True)
class AgentHello:
    """What an agent said about itself in its latest poll. `seen_at` is this side's wall clock, in unix seconds."""

    agent_id: str
    boot_id: str
    service: str
    pid: int
    started_at: float
    wait_seconds: float
    seen_at: float
    actions: tuple[Action, ...] = ()
    tunables: tuple[Tunable, ...] = ()
    profiles: Mapping[str, Mapping[str, Scalar]] = field(default_factory=lambda: MappingProxyType({}))
    active_profile: str | None = None
    leases: tuple[Lease, ...] = ()

    def action(self, name: str) -> Action | None:
        """The offered action of that *name*, or None: the application cannot do it."""
        return next((action for action in self.actions if action.name == name), None)


@dataclass(frozen=True, slots=True)
class Command:
    """One attempt, for one process: an agent with another boot id, or after `expires_at`, refuses it."""

    attempt_id: str
    fence: int
    boot_id: str
    expires_at: float
    verb: str
    parameters: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        return {
            "attempt_id": self.attempt_id,
            "fence": self.fence,
            "boot_id": self.boot_id,
            "expires_at": self.expires_at,
            "verb": self.verb,
            "parameters": dict(self.parameters),
        }


@dataclass(frozen=True, slots=True)
class CommandResult:
    attempt_id: str
    boot_id: str
    status: Status
    result: Mapping[str, Any] | None = None
    error: str | None = None
    refusal: str | None = None


class Agents(Protocol):
    """What the engine sees of the agents."""

    def connected(self) -> Mapping[str, AgentHello]:
        """Agents that polled within the last 45 s, by agent id."""

    def dispatch(self, agent_id: str, command: Command, *, timeout: float) -> CommandResult | None:
        """Hand *command* to the agent and block this thread for its answer, *timeout* seconds at most.

        None means that no answer came in time: the outcome is unknown, not failed.
        """


# --- parsing ----------------------------------------------------------------------------------------------------------


def parse_hello(body: object, *, seen_at: float) -> AgentHello:
    """The poll's body as an `AgentHello`; raises `ProtocolError`."""
    poll = _object(body, "body")
    version = poll.get("protocol")
    if version != PROTOCOL_VERSION or isinstance(version, bool):
        raise ProtocolError("protocol", f"must be {PROTOCOL_VERSION}; this service speaks no other version")
    active = poll.get("active_profile")
    return AgentHello(
        agent_id=_text(poll, "agent_id", limit=_MAX_ID),
        boot_id=_text(poll, "boot_id", limit=_MAX_ID),
        service=_text(poll, "service", limit=_MAX_ID),
        pid=int(_number(poll, "pid")),
        started_at=_number(poll, "started_at"),
        wait_seconds=min(max(_number(poll, "wait_seconds"), 0.0), MAX_WAIT_SECONDS),
        seen_at=seen_at,
        actions=tuple(_action(item, f"actions[{i}]") for i, item in enumerate(_list(poll, "actions"))),
        tunables=tuple(_tunable(item, f"tunables[{i}]") for i, item in enumerate(_list(poll, "tunables"))),
        profiles=_profiles(poll.get("profiles") or {}),
        active_profile=None if active is None else _name(active, "active_profile"),
        leases=tuple(_lease(item, f"leases[{i}]") for i, item in enumerate(_list(poll, "leases"))),
    )


def parse_result(body: object) -> tuple[str, CommandResult]:
    """The result's body as (agent id, result); raises `ProtocolError`."""
    answer = _object(body, "body")
    status = answer.get("status")
    if status not in _STATUSES:
        raise ProtocolError("status", f"must be one of {', '.join(_STATUSES)}")
    refusal = answer.get("refusal")
    if refusal is not None and refusal not in _REFUSALS:
        raise ProtocolError("refusal", f"must be null or one of {', '.join(_REFUSALS)}")
    result, error = answer.get("result"), answer.get("error")
    return _text(answer, "agent_id", limit=_MAX_ID), CommandResult(
        attempt_id=_text(answer, "attempt_id", limit=_MAX_ID),
        boot_id=_text(answer, "boot_id", limit=_MAX_ID),
        status=cast("Status", status),
        result=None if result is None else _object(result, "result"),
        # An error's text is for people; a long one is cut, never a reason to lose the result.
        error=None if error is None else str(error)[:_MAX_TEXT],
        refusal=refusal,
    )


def _action(item: object, where: str) -> Action:
    offered = _object(item, where)
    effect = offered.get("effect")
    if effect not in _EFFECTS:
        raise ProtocolError(f"{where}.effect", f"must be one of {', '.join(_EFFECTS)}")
    return Action(
        name=_name(offered.get("name"), f"{where}.name"),
        effect=cast("Effect", effect),
        parameters=tuple(
            _parameter(parameter, f"{where}.parameters[{i}]")
            for i, parameter in enumerate(_list(offered, "parameters", where=f"{where}.parameters"))
        ),
        description=str(offered.get("description") or "")[:_MAX_TEXT],
    )


def _parameter(item: object, where: str) -> Parameter:
    told = _object(item, where)
    return Parameter(
        name=_name(told.get("name"), f"{where}.name"),
        type=str(told.get("type") or "")[:_MAX_ID],
        default=_scalar(told.get("default"), f"{where}.default"),
        low=_bound(told, "low", where),
        high=_bound(told, "high", where),
        choices=_choices(told, where),
    )


def _tunable(item: object, where: str) -> Tunable:
    told = _object(item, where)
    return Tunable(
        name=_name(told.get("name"), f"{where}.name"),
        value=_scalar(told.get("value"), f"{where}.value"),
        low=_bound(told, "low", where),
        high=_bound(told, "high", where),
        choices=_choices(told, where),
    )


def _lease(item: object, where: str) -> Lease:
    told = _object(item, where)
    return Lease(
        lease_id=_text(told, "lease_id", limit=_MAX_ID, where=f"{where}.lease_id"),
        values=_scalars(told.get("values") or {}, f"{where}.values"),
        expires_at=_number(told, "expires_at", where=f"{where}.expires_at"),
    )


def _profiles(value: object) -> Mapping[str, Mapping[str, Scalar]]:
    told = _object(value, "profiles")
    if len(told) > _MAX_ITEMS:
        raise ProtocolError("profiles", f"has {len(told)} entries; at most {_MAX_ITEMS} are read")
    return MappingProxyType({_name(name, "profiles"): _scalars(told[name], f"profiles.{name}") for name in told})


def _object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ProtocolError(where, f"must be a JSON object, not {type(value).__name__}")
    return value


def _list(parent: Mapping[str, Any], key: str, *, where: str | None = None) -> list[Any]:
    value = parent.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > _MAX_ITEMS:
        raise ProtocolError(where or key, f"must be a list of at most {_MAX_ITEMS} entries")
    return value


def _text(parent: Mapping[str, Any], key: str, *, limit: int, where: str | None = None) -> str:
    value = parent.get(key)
    if not isinstance(value, str) or not value or len(value) > limit or not value.isprintable():
        raise ProtocolError(where or key, f"must be a text of 1 to {limit} printable characters")
    return value


def _name(value: object, where: str) -> str:
    if not isinstance(value, str) or _NAME.fullmatch(value) is None:
        raise ProtocolError(where, "must be a name: letters, digits, '_', '.', '-', at most 128 characters")
    return value


def _number(parent: Mapping[str, Any], key: str, *, where: str | None = None) -> float:
    value = parent.get(key)
    # The bound comes first: an integer of 400 digits does not become a float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_MAX_NUMBER < value < _MAX_NUMBER:
        raise ProtocolError(where or key, "must be a finite number")
    return float(value)


def _bound(parent: Mapping[str, Any], key: str, where: str) -> float | None:
    return None if parent.get(key) is None else _number(parent, key, where=f"{where}.{key}")


def _choices(parent: Mapping[str, Any], where: str) -> tuple[Scalar, ...]:
    return tuple(_scalar(choice, f"{where}.choices") for choice in _list(parent, "choices", where=f"{where}.choices"))


def _scalar(value: object, where: str) -> Scalar:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float) and -_MAX_NUMBER < value < _MAX_NUMBER:
        return value
    if isinstance(value, str) and len(value) <= _MAX_TEXT:
        return value
    raise ProtocolError(where, f"must be null, a boolean, a finite number or a text of at most {_MAX_TEXT} characters")


def _scalars(value: object, where: str) -> Mapping[str, Scalar]:
    told = _object(value, where)
    if len(told) > _MAX_ITEMS:
        raise ProtocolError(where, f"has {len(told)} entries; at most {_MAX_ITEMS} are read")
    return MappingProxyType({_name(name, where): _scalar(told[name], f"{where}.{name}") for name in told})
