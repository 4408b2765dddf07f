"""What a policy says, as values. `policy` reads it from a file."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from llmvitals_remediation.records import BreakerRule

Mode = Literal["off", "observe", "approve", "auto"]
Effect = Literal["idempotent", "detectable", "neither"]
Driver = Literal["agent", "supervisor"]
Test = Literal["at_most", "below", "at_least", "above", "newer_than"]

MODES: tuple[Mode, ...] = ("off", "observe", "approve", "auto")
EFFECTS: tuple[Effect, ...] = ("idempotent", "detectable", "neither")


@dataclass(frozen=True, slots=True)
class Bound:
    """When a value is healthy."""

    test: Test
    value: float

    def holds(self, value: float, *, incident_at: float) -> bool:
        """Whether *value* is healthy; *incident_at* is when the trouble began, for `newer_than: incident`."""
        match self.test:
            case "at_most":
                return value <= self.value
            case "below":
                return value < self.value
            case "at_least":
                return value >= self.value
            case "above":
                return value > self.value
            case "newer_than":
                return value > incident_at

    def told(self, value: float) -> str:
        """*value* as a person reads it: a moment for `newer_than`, else a number."""
        # What is no moment of these centuries is told as the number that it is.
        if self.test == "newer_than" and 0 <= value < 1e10:
            return f"{datetime.fromtimestamp(value, UTC):%Y-%m-%d %H:%M:%S} UTC"
        return f"{value:g}"

    def __str__(self) -> str:
        return "newer than the incident" if self.test == "newer_than" else f"{self.test} {self.value:g}"


@dataclass(frozen=True, slots=True)
class Probe:
    """A constant query. The target's series is picked out of its result by job, instance and the labels in `match`."""

    query: str
    match: tuple[str, ...]
    healthy: Bound


@dataclass(frozen=True, slots=True)
class Verify:
    """What proves success: healthy for `window_seconds` without a break, between settling and the time-out."""

    probe: Probe
    settle_seconds: float
    window_seconds: float
    timeout_seconds: float


@dataclass(frozen=True, slots=True)
class Hold:
    """A change kept as a lease while the trouble lasts, and put back once it was quiet for `quiet_seconds`."""

    lease_seconds: float
    quiet_seconds: float
    max_seconds: float
    release: Probe | None


@dataclass(frozen=True, slots=True)
class Handler:
    """What answers an alert."""

    name: str
    alerts: tuple[str, ...]
    mode: Mode
    effect: Effect
    driver: Driver
    verb: str
    parameters: Mapping[str, Any]
    timeout_seconds: float
    precondition: Probe
    verify: Verify
    hold: Hold | None
    attempts: int
    backoff_seconds: float
    backoff_jitter: float
    cooldown_seconds: float
    rate_per_hour: int
    rate_per_day: int
    relapse_incidents: int
    relapse_seconds: float
    breaker: BreakerRule
    approval_seconds: float
    target_grace_seconds: float
    capacity_floor: int

    @property
    def verification_seconds(self) -> float:
        """From the act to the latest verdict."""
        return self.verify.settle_seconds + self.verify.timeout_seconds


@dataclass(frozen=True, slots=True)
class Unit:
    """What the supervisor calls an instance of a service. Without an instance, the service must have just one."""

    job: str
    instance: str | None
    unit: str


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy that was checked whole. `hash` names it in incidents and in the audit log."""

    path: Path
    hash: str
    receiver: str
    watchdog: str
    scrape_interval_seconds: float
    reconcile_seconds: float
    reconcile_grace_seconds: float
    concurrent: int
    incident_deadline_seconds: float
    stale_after_seconds: float
    storm_share: float
    storm_minimum: int
    storm_per_minute: int
    storm_quiet_seconds: float
    demote_after: int
    demote_below: float
    bodies_days: float
    events_days: float
    units: tuple[Unit, ...]
    handlers: Mapping[str, Handler]

    def answering(self, alertname: str) -> list[Handler]:
        """The handlers that an alert's name is on the list of."""
        return [handler for handler in self.handlers.values() if alertname in handler.alerts]
