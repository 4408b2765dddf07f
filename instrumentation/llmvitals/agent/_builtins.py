"""The verbs that every application has, each only where it has something to act on."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from llmvitals.agent._actions import Action
from llmvitals.agent._leases import LEAST_SECONDS, MOST_SECONDS, Lease, Leases
from llmvitals.agent._parameters import Parameter
from llmvitals.agent._profiles import Profiles
from llmvitals.agent._protocol import Command
from llmvitals.agent._reclaim import collect_garbage
from llmvitals.agent._stacks import dump_stacks
from llmvitals.agent._tunables import Tunables

NAMES = frozenset(
    {
        "apply_tunables",
        "close_idle_connections",
        "collect_garbage",
        "confirm_lease",
        "drop_caches",
        "dump_stacks",
        "evict_users",
        "force_breaker",
        "profile_cpu",
        "relieve_memory",
        "renew_lease",
        "reset_breaker",
        "revert_lease",
        "switch_profile",
        "trace_memory",
    }
)

_SECONDS = Parameter("seconds", "number", 5.0, 0.1, 60.0)
_LEASE_SECONDS = Parameter("lease_seconds", "number", low=LEAST_SECONDS, high=MOST_SECONDS)
_LEASE_ID = Parameter("lease_id", "string")


class DroppableCaches(Protocol):
    def __len__(self) -> int: ...
    def drop(self) -> Mapping[str, int]:
        """Empty every cache; how many entries each had, by its name."""


class EvictableUsers(Protocol):
    def evict(self, *, older_than_seconds: float | None = None, keep: int | None = None) -> Mapping[str, int]:
        """Evict idle users, then the oldest down to *keep*; how many, by reason, and how many are left."""


class Breaker(Protocol):
    def reset(self) -> object: ...
    def force_open(self) -> object: ...


@dataclass(slots=True)
class Reach:
    """What of the application the built-in verbs may act on. Filled as the application registers it."""

    caches: DroppableCaches | None = None
    users: EvictableUsers | None = None
    # Live mappings, by name.
    breakers: Mapping[str, Breaker] = field(default_factory=dict)
    idle_closers: Mapping[str, Callable[[], int | None]] = field(default_factory=dict)


class Builtins:
    def __init__(self, reach: Reach, tunables: Tunables, profiles: Profiles, leases: Leases) -> None:
        self._reach = reach
        self._tunables = tunables
        self._profiles = profiles
        self._leases = leases
        # Set when the agent closes: whatever only looks, for seconds, ends at once.
        self.stopping = threading.Event()

    def actions(self) -> dict[str, Action]:
        found = [*self._diagnostics(), *self._memory(), *self._breakers(), *self._changes()]
        return {action.name: action for action in found}

    def _diagnostics(self) -> list[Action]:
        return [
            _action("dump_stacks", "What each thread does now.", lambda _, __: dump_stacks()),
            _action(
                "trace_memory",
                "Which lines allocate memory that stays. Slows allocations while it runs.",
                lambda _, given: self._trace_memory(**given),
                _SECONDS,
            ),
            _action(
                "profile_cpu",
                "Where processor time goes, in all threads.",
                lambda _, given: self._profile_cpu(**given),
                _SECONDS,
            ),
        ]

    def _memory(self) -> list[Action]:
        caches, users, closers = self._reach.caches, self._reach.users, self._reach.idle_closers
        found = [
            _action(
                "collect_garbage",
                "Collect garbage and give freed memory back to the system.",
                lambda _, __: collect_garbage(),
            ),
            _action(
                "relieve_memory",
                "Empty the registered caches, collect garbage, and give freed memory back to the system.",
                lambda _, __: {"dropped_entries": dict(caches.drop()) if caches else {}} | collect_garbage(),
            ),
        ]
        if caches:
            found.append(
                _action(
                    "drop_caches",
                    "Empty the registered caches.",
                    lambda _, __: {"dropped_entries": dict(caches.drop())},
                )
            )
        if users is not None:
            found.append(
                _action(
                    "evict_users",
                    "Evict user profiles: those idle for longer than older_than_seconds (by default the application's "
                    "own limit), then the oldest until keep are left.",
                    lambda _, given: dict(users.evict(**given)),
                    Parameter("older_than_seconds", "number", None, 0.0, 31_536_000.0, optional=True),
                    Parameter("keep", "integer", None, 0, 1_000_000, optional=True),
                )
            )
        if closers:
            found.append(
                _action(
                    "close_idle_connections", "Close the pools' idle connections.", lambda _, __: _close_idle(closers)
                )
            )
        return found

    def _breakers(self) -> list[Action]:
        breakers = self._reach.breakers
        if not breakers:
            return []
        name = Parameter("name", "string", choices=tuple(breakers))
        return [
            _action(
                "reset_breaker", "Close a circuit breaker.", lambda _, given: _reset(breakers, given["name"]), name
            ),
            _action(
                "force_breaker",
                "Force a circuit breaker open, or closed again.",
                lambda _, given: _force(breakers, given["name"], given["state"]),
                name,
                Parameter("state", "string", choices=("open", "closed")),
            ),
        ]

    def _changes(self) -> list[Action]:
        if not self._tunables.all():
            return []
        found = [
            _action(
                "apply_tunables",
                "Change tunables, until the lease ends or is confirmed.",
                self._apply,
                Parameter("values", "object"),
                _LEASE_SECONDS,
                check=lambda given: self._tunables.check(given["values"]),
            ),
            _action(
                "confirm_lease", "Keep a lease's values for good.", lambda _, given: self._confirm(**given), _LEASE_ID
            ),
            _action(
                "renew_lease",
                "Let a lease end lease_seconds from now.",
                lambda _, given: _told(self._leases.renew(given["lease_id"], given["lease_seconds"])),
                _LEASE_ID,
                _LEASE_SECONDS,
            ),
            _action(
                "revert_lease", "Put back what a lease changed.", lambda _, given: self._revert(**given), _LEASE_ID
            ),
        ]
        if names := self._profiles.names():
            found.append(
                _action(
                    "switch_profile",
                    "Switch to a named set of tunables, until the lease ends or is confirmed.",
                    self._switch,
                    Parameter("profile", "string", choices=names),
                    _LEASE_SECONDS,
                )
            )
        return found

    # What these two need is imported when it is asked for, which most processes never are.

    def _trace_memory(self, seconds: float = 5.0) -> dict[str, Any]:
        from llmvitals.agent._memory_trace import trace_memory  # noqa: PLC0415

        return trace_memory(seconds, self.stopping)

    def _profile_cpu(self, seconds: float = 5.0) -> dict[str, Any]:
        from llmvitals.agent._profiler import profile_cpu  # noqa: PLC0415

        return profile_cpu(seconds, self.stopping)

    def _apply(self, command: Command, given: Mapping[str, Any]) -> dict[str, Any]:
        values = self._tunables.check(given["values"])
        return _told(self._leases.grant(command.attempt_id, values, given["lease_seconds"]))

    def _switch(self, command: Command, given: Mapping[str, Any]) -> dict[str, Any]:
        values = self._profiles.get(given["profile"])
        if values is None:
            raise LookupError(f"there is no profile {given['profile']!r}")
        lease = self._leases.grant(command.attempt_id, values, given["lease_seconds"], profile=given["profile"])
        return _told(lease) | {"profile": given["profile"]}

    def _confirm(self, lease_id: str) -> dict[str, Any]:
        self._leases.confirm(lease_id)
        return {"lease_id": lease_id, "ended": "confirmed"}

    def _revert(self, lease_id: str) -> dict[str, Any]:
        return {"lease_id": lease_id, "ended": self._leases.revert(lease_id)}


def _action(
    name: str,
    description: str,
    run: Callable[[Command, Mapping[str, Any]], Any],
    *parameters: Parameter,
    check: Callable[[Mapping[str, Any]], object] | None = None,
) -> Action:
    # Each of them changes nothing more when it is done twice.
    return Action(name, "idempotent", parameters, description, run, check)


def _told(lease: Lease) -> dict[str, Any]:
    return {
        "lease_id": lease.lease_id,
        "expires_at": lease.expires_at,
        "values": dict(lease.values),
        "values_before": dict(lease.before),
    }


def _close_idle(closers: Mapping[str, Callable[[], int | None]]) -> dict[str, Any]:
    """Every pool gets its turn; one that raises is told with the others, as the failure of all."""
    closed: dict[str, int | None] = {}
    faults = []
    for name, close in list(closers.items()):
        try:
            closed[name] = close()
        except Exception as error:  # noqa: BLE001 -- the application's closer
            faults.append(f"pool {name!r}: {type(error).__name__}: {error}")
    if faults:
        raise RuntimeError(f"{'; '.join(faults)}; closed: {closed}")
    return {"closed_connections": closed}


def _reset(breakers: Mapping[str, Breaker], name: str) -> dict[str, Any]:
    breakers[name].reset()
    return {"name": name, "state": "closed"}


def _force(breakers: Mapping[str, Breaker], name: str, state: str) -> dict[str, Any]:
    if state == "closed":
        return _reset(breakers, name)
    breakers[name].force_open()
    return {"name": name, "state": state}
