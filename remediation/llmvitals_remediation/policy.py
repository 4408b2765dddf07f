"""The policy: one YAML file that says which alert is answered by what, how far that may go, and what proves it.

Checked whole. A file with mistakes is refused whole, with all of them told; the policy that holds goes on holding.
"""

import hashlib
import logging
from pathlib import Path
from types import MappingProxyType

from llmvitals_remediation._policy_types import (
    EFFECTS,
    MODES,
    Bound,
    Driver,
    Effect,
    Handler,
    Hold,
    Mode,
    Policy,
    Probe,
    Test,
    Unit,
    Verify,
)
from llmvitals_remediation._yaml import Mistake, Section, compose
from llmvitals_remediation.errors import RemediationError
from llmvitals_remediation.records import BreakerRule

__all__ = [
    "EFFECTS",
    "MODES",
    "Bound",
    "Driver",
    "Effect",
    "Handler",
    "Hold",
    "Mistake",
    "Mode",
    "Policy",
    "PolicyError",
    "PolicySource",
    "Probe",
    "Unit",
    "Verify",
    "load",
]

_log = logging.getLogger(__name__)

_TESTS: tuple[Test, ...] = ("at_most", "below", "at_least", "above")
_DRIVERS: tuple[Driver, ...] = ("agent", "supervisor")
_DRIVER_VERBS = ("start", "restart")
# What remediation itself sends about leases; a policy may not.
_RESERVED = ("confirm_lease", "renew_lease", "revert_lease")
_DAY = 86_400
_MAX_BYTES = 1 << 20


class PolicyError(RemediationError):
    """The file cannot be a policy. `mistakes` has each reason; the text has all of them, one a line."""

    def __init__(self, path: Path, mistakes: list[Mistake]) -> None:
        self.path = path
        # Each handler asks for the defaults: what is wrong there is wrong once.
        self.mistakes = tuple(sorted(dict.fromkeys(mistakes), key=lambda mistake: mistake.line))
        count = f"{len(self.mistakes)} mistake{'s' if len(self.mistakes) != 1 else ''}"
        super().__init__("\n".join([f"{path}: {count}", *(f"  {mistake}" for mistake in self.mistakes)]))


def load(path: Path) -> Policy:
    """Read and check a policy file.

    Raises:
        PolicyError: with every mistake in it, by line.
    """
    return _parse(Path(path), _read(Path(path)))


class PolicySource:
    """The policy in force, from a file that may change. Construction raises `PolicyError`; later mistakes do not."""

    def __init__(self, path: Path) -> None:
        self._path = Path(path)
        raw = _read(self._path)
        self.policy = _parse(self._path, raw)
        self._seen: bytes | None = raw
        self._refused = False

    def poll(self) -> Policy | PolicyError | None:
        """Look at the file: the new policy when it changed and is good, the error (once) when it is bad, else None."""
        try:
            raw: bytes | None = _read(self._path)
        except PolicyError as error:
            if self._seen is None:
                return None
            self._seen = None
            self._refused = True
            return error
        if raw == self._seen:
            return None
        self._seen = raw
        try:
            policy = _parse(self._path, raw or b"")
        except PolicyError as error:
            self._refused = True
            return error
        # The old text, put back after a bad one, is news too: the refusal is over.
        if policy.hash == self.policy.hash and not self._refused:
            return None
        self._refused = False
        self.policy = policy
        return policy


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise PolicyError(path, [Mistake("the file", 1, f"cannot be read: {error.strerror}")]) from error
    if len(raw) > _MAX_BYTES:
        raise PolicyError(path, [Mistake("the file", 1, f"is over {_MAX_BYTES} bytes")])
    return raw


def _parse(path: Path, raw: bytes) -> Policy:
    mistakes: list[Mistake] = []
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise PolicyError(path, [Mistake("the file", 1, "is not UTF-8")]) from None
    top = compose(text, mistakes)
    if mistakes:
        raise PolicyError(path, mistakes)
    policy = _policy(top, path, hashlib.sha256(raw).hexdigest()[:12])
    top.finish()
    if mistakes:
        raise PolicyError(path, mistakes)
    return policy


def _policy(top: Section, path: Path, digest: str) -> Policy:
    top.whole("version", None, low=1, high=1)
    sources, limits = top.section("sources"), top.section("limits")
    storm, effectiveness = limits.section("storm"), limits.section("effectiveness")
    retention, reconcile = top.section("retention"), top.section("reconcile")
    defaults, handlers = top.section("defaults"), top.section("handlers", required=True)
    scrape = sources.number("scrape_interval_seconds", 15, low=0.1, high=300)
    policy = Policy(
        path=path,
        hash=digest,
        receiver=sources.text("receiver", "remediation"),
        watchdog=sources.text("watchdog", "Watchdog"),
        scrape_interval_seconds=scrape,
        reconcile_seconds=reconcile.number("every_seconds", 30, low=1, high=600),
        reconcile_grace_seconds=reconcile.number("grace_seconds", 15, low=0, high=600),
        concurrent=limits.whole("concurrent", 3, low=1, high=16),
        incident_deadline_seconds=limits.number("incident_deadline_seconds", 4 * 3600, low=10, high=7 * _DAY),
        stale_after_seconds=limits.number("stale_after_seconds", _DAY, low=10, high=30 * _DAY),
        storm_share=storm.number("share", 0.3, low=0.01, high=1),
        storm_minimum=storm.whole("minimum_targets", 2, low=2, high=1000),
        storm_per_minute=storm.whole("incidents_per_minute", 5, low=1, high=1000),
        storm_quiet_seconds=storm.number("quiet_seconds", 120, low=1, high=3600),
        demote_after=effectiveness.whole("after_attempts", 10, low=1, high=10_000),
        demote_below=effectiveness.number("below", 0.5, low=0, high=1),
        bodies_days=retention.number("bodies_days", 7, low=0.01, high=3650),
        events_days=retention.number("events_days", 30, low=0.01, high=3650),
        units=tuple(_unit(section) for section in top.sections("units")),
        handlers=MappingProxyType(
            {name: _handler(name, handlers.section(name), defaults, scrape) for name in handlers.names()}
        ),
    )
    for section in (sources, limits, storm, effectiveness, retention, reconcile):
        section.finish()
    defaults.finish(_HANDLER_DEFAULTS)
    if not policy.handlers:
        handlers.mistake("has no handler")
    return policy


_HANDLER_DEFAULTS = (
    "attempts",
    "backoff_seconds",
    "backoff_jitter",
    "cooldown_seconds",
    "rate_per_hour",
    "rate_per_day",
    "relapse",
    "breaker",
    "approval_seconds",
    "target_grace_seconds",
)


def _unit(section: Section) -> Unit:
    unit = Unit(section.text("job"), section.text("instance", "") or None, section.text("unit"))
    section.choice("driver", ("supervisor",), "supervisor")
    section.finish()
    return unit


def _handler(name: str, section: Section, defaults: Section, scrape: float) -> Handler:
    def number(key: str, default: float, low: float, high: float) -> float:
        return section.number(key, defaults.number(key, default, low=low, high=high), low=low, high=high)

    def whole(key: str, default: int, low: int, high: int) -> int:
        return section.whole(key, defaults.whole(key, default, low=low, high=high), low=low, high=high)

    action, check = section.section("action", required=True), section.section("verify", required=True)
    relapse, relapses = section.section("relapse"), defaults.section("relapse")
    breaker, breakers = section.section("breaker"), defaults.section("breaker")
    driver = action.choice("driver", _DRIVERS, "agent")
    probe = _probe(check)
    handler = Handler(
        name=name,
        alerts=section.texts("alerts", required=True),
        mode=section.choice("mode", MODES),
        effect=section.choice("effect", EFFECTS),
        driver=driver,
        verb=action.text("verb"),
        parameters=MappingProxyType(action.values("parameters")),
        timeout_seconds=action.number("timeout_seconds", 15, low=1, high=600),
        precondition=_alone(section.section("precondition")) if section.has("precondition") else probe,
        verify=Verify(
            probe=probe,
            settle_seconds=check.number("settle_seconds", 0, low=0, high=3600),
            window_seconds=check.number("window_seconds", 0, low=0, high=3600),
            timeout_seconds=check.number("timeout_seconds", None, low=1, high=7200),
        ),
        hold=_hold(section.section("hold")) if section.has("hold") else None,
        attempts=whole("attempts", 3, 1, 10),
        backoff_seconds=number("backoff_seconds", 60, 0.5, 3600),
        backoff_jitter=number("backoff_jitter", 0.2, 0, 0.9),
        cooldown_seconds=number("cooldown_seconds", 300, 0, _DAY),
        rate_per_hour=whole("rate_per_hour", 6, 1, 10_000),
        rate_per_day=whole("rate_per_day", 20, 1, 100_000),
        relapse_incidents=relapse.whole(
            "incidents", relapses.whole("incidents", 3, low=2, high=10_000), low=2, high=10_000
        ),
        relapse_seconds=relapse.number(
            "within_seconds", relapses.number("within_seconds", 4 * 3600, low=1, high=7 * _DAY), low=1, high=7 * _DAY
        ),
        breaker=BreakerRule(
            breaker.whole("failures", breakers.whole("failures", 3, low=1, high=1000), low=1, high=1000),
            breaker.number(
                "open_seconds", breakers.number("open_seconds", 3600, low=1, high=7 * _DAY), low=1, high=7 * _DAY
            ),
        ),
        approval_seconds=number("approval_seconds", 1800, 10, _DAY),
        target_grace_seconds=number("target_grace_seconds", 60, 0, 3600),
        capacity_floor=section.whole("capacity_floor", 0, low=0, high=1000),
    )
    _coherent(handler, section, action, check, scrape)
    section.finish(("precondition", "hold"))
    for part in (action, check, relapse, breaker, relapses, breakers):
        part.finish()
    return handler


def _coherent(handler: Handler, section: Section, action: Section, check: Section, scrape: float) -> None:
    """What each value allows alone, but not together."""
    if handler.driver != "agent" and handler.verb and handler.verb not in _DRIVER_VERBS:
        action.mistake(f"a supervisor can {' or '.join(_DRIVER_VERBS)}", key="verb")
    if handler.precondition.healthy.test == "newer_than":
        section.mistake(
            "is needed beside a verify that is newer_than: whether to act is another question", key="precondition"
        )
    if handler.verb in _RESERVED:
        action.mistake("is sent by remediation itself, for holds; it is no answer to an alert", key="verb")
    if handler.hold is not None and handler.driver != "agent":
        section.mistake("only a change that an agent makes can be held", key="hold")
    if handler.hold is not None and handler.hold.lease_seconds < 6 * scrape:
        section.mistake(f"the lease must be at least {6 * scrape:g} s, six scrapes, to outlive a hiccup", key="hold")
    if "lease_seconds" in handler.parameters:
        action.mistake("the lease's length belongs into hold.lease_seconds", key="parameters")
    if handler.verify.window_seconds >= handler.verify.timeout_seconds:
        check.mistake("must be shorter than timeout_seconds, or nothing can ever pass", key="window_seconds")
    if handler.rate_per_hour > handler.rate_per_day:
        section.mistake("must not be above rate_per_day", key="rate_per_hour")


def _probe(section: Section) -> Probe:
    query = section.text("query")
    if "{{" in query or "$" in query:
        section.mistake("must be a constant: nothing is ever filled into a query", key="query")
    healthy = section.section("healthy", required=True)
    told: list[Bound] = [
        Bound(test, healthy.number(test, 0, low=-1e18, high=1e18)) for test in _TESTS if healthy.has(test)
    ]
    if healthy.has("newer_than"):
        healthy.choice("newer_than", ("incident",))
        told.append(Bound("newer_than", 0.0))
    if len(told) != 1:
        healthy.mistake(f"needs exactly one of {', '.join(_TESTS)}, newer_than")
    healthy.finish((*_TESTS, "newer_than"))
    return Probe(query, section.texts("match"), told[0] if told else Bound("at_most", 0.0))


def _alone(section: Section) -> Probe:
    probe = _probe(section)
    section.finish()
    return probe


def _hold(section: Section) -> Hold:
    hold = Hold(
        lease_seconds=section.number("lease_seconds", 60, low=5, high=3600),
        quiet_seconds=section.number("quiet_seconds", 60, low=1, high=_DAY),
        max_seconds=section.number("max_seconds", 4 * 3600, low=10, high=7 * _DAY),
        release=_alone(section.section("release")) if section.has("release") else None,
    )
    section.finish(("release",))
    return hold
