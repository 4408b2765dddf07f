"""What the engine and the store hand each other: rows as values, and changes as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["open", "gated", "awaiting_approval", "scheduled", "executing", "verifying", "holding", "closed"]
Outcome = Literal["remediated", "self_resolved", "exhausted", "vetoed", "expired", "shadow", "escalated"]
Answer = Literal["done", "failed", "refused", "unknown"]
Verdict = Literal["effective", "ineffective", "inconclusive", "failed", "unknown"]

# The states in which nothing has been sent out: what may still be decided anew.
UNDECIDED: tuple[State, ...] = ("open", "gated", "awaiting_approval", "scheduled")


@dataclass(frozen=True, slots=True)
class Incident:
    """One handler on one target while the trouble lasts. Times are unix seconds."""

    id: str
    handler: str
    target: str
    service: str
    instance: str
    alertname: str
    state: State
    gate: str | None
    reason: str | None
    outcome: Outcome | None
    alert_started_at: float
    received_at: float
    opened_at: float
    state_since: float
    next_at: float
    deadline_at: float
    attempts_used: int
    healthy_since: float | None
    lease_id: str | None
    lease_renew_at: float | None
    quiet_since: float | None
    released_at: float | None
    policy_hash: str
    closed_at: float | None


@dataclass(frozen=True, slots=True)
class KnownAlert:
    """An alert attached to an incident. `resolved_at` is what somebody said, not a proof."""

    fingerprint: str
    starts_at: float
    labels: Mapping[str, str]
    last_seen: float
    resolved_at: float | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try. Its id is the idempotency key of whatever it asks of others."""

    id: str
    incident_id: str
    number: int
    handler: str
    service: str
    state: Literal["executing", "verifying", "done"]
    instance: str
    claim: str
    driver: str
    boot_id: str
    fence: int
    verb: str
    parameters: Mapping[str, Any]
    planned_at: float
    expires_at: float
    started_at: float | None
    acted_at: float | None
    answer: Answer | None
    verdict: Verdict | None


@dataclass(frozen=True, slots=True)
class Opening:
    """An alert that a handler answers. Whether it becomes a new incident is the store's to say."""

    handler: str
    service: str
    instance: str
    fingerprint: str
    starts_at: float
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    received_at: float
    cooldown_seconds: float
    deadline_seconds: float
    policy_hash: str
    source: Literal["webhook", "reconciler"]

    @property
    def target(self) -> str:
        return target_key(self.service, self.instance)


def target_key(service: str, instance: str) -> str:
    """The text that incidents of one target share."""
    return f"{service}/{instance}"


@dataclass(frozen=True, slots=True)
class Plan:
    """An attempt that passed every gate and is about to become durable."""

    instance: str
    claim: str
    driver: str
    boot_id: str
    verb: str
    parameters: Mapping[str, Any]
    expires_at: float
    deadline_at: float
    max_executing: int


@dataclass(frozen=True, slots=True)
class Report:
    """What whoever acted said about it; `unknown` when nobody said anything."""

    answer: Answer
    result: Mapping[str, Any] | None = None
    error: str | None = None
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class Conclusion:
    """The end of an attempt. `counts` says whether it tells something about how well the handler works."""

    verdict: Verdict
    reason: str | None = None
    report: Report | None = None
    counts: bool = True


@dataclass(frozen=True, slots=True)
class BreakerRule:
    failures: int
    open_seconds: float


@dataclass(frozen=True, slots=True)
class Change:
    """A step of an incident: told to the audit log under `event`, applied in one transaction.

    Closing takes `outcome`; `failed` says that it counts against the handler's breaker, None that it says nothing
    about the handler.
    """

    event: str
    state: State
    reason: str | None = None
    gate: str | None = None
    next_at: float = 0.0
    deadline_at: float | None = None
    outcome: Outcome | None = None
    spent: bool = False
    failed: bool | None = None
    breaker: BreakerRule | None = None
    # Columns of this state's own bookkeeping, by name.
    columns: Mapping[str, float | str | None] = field(default_factory=dict)
    detail: Mapping[str, Any] = field(default_factory=dict)
    who: str = "engine"


@dataclass(frozen=True, slots=True)
class Breaker:
    failures: int
    open_until: float | None
    probe: str | None


@dataclass(frozen=True, slots=True)
class Past:
    """What the store remembers that gates ask about, for one handler on one target."""

    last_closed_at: float | None
    """When the latest incident that acted was closed."""
    acted_closed: tuple[float, ...]
    """When earlier incidents that acted were opened, within the relapse window."""
    attempts: tuple[float, ...]
    """When attempts of this handler were planned within a day, oldest first."""
    opened: tuple[float, ...]
    """When any incident was opened within the storm window, oldest first."""
    troubled: int
    """Targets of this service with an active incident of this handler."""
    breaker: Breaker
    tried: int
    effective: int
    executing: int
    executing_claims: frozenset[str]
    approval: Literal["approved", "vetoed", "expired"] | None


@dataclass(frozen=True, slots=True)
class Controls:
    """What people have set by hand."""

    kill_switch: bool
    modes: Mapping[str, str]
