"""What must all be true before anything acts: small questions, cheapest first, each refusal with its reason.

A gate that cannot answer refuses.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from llmvitals_remediation.errors import RemediationError
from llmvitals_remediation.policy import EFFECTS, Handler, Mode, Policy
from llmvitals_remediation.records import Controls, Incident, KnownAlert, Outcome, Past
from llmvitals_remediation.targets import Target, UnresolvedError, locate
from llmvitals_remediation.verifier import probe
from llmvitals_remediation.view import View

_HOUR = 3600.0
_DAY = 86_400.0
_MINUTE = 60.0
_Z = 1.96  # 95 %


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why not. `wait`: look again at `until`, or soon; `ask`: a person decides; `close`: with `outcome`.

    `give_up_after` turns waiting into an escalation when it lasts. `failed` and `spent` are as in `records.Change`.
    """

    reason: str
    kind: Literal["wait", "ask", "close"] = "wait"
    until: float | None = None
    give_up_after: float | None = None
    outcome: Outcome | None = None
    failed: bool | None = None
    spent: bool = False
    gate: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that gates may look at."""

    now: float
    incident: Incident
    alerts: Sequence[KnownAlert]
    handler: Handler
    policy: Policy
    controls: Controls
    past: Past
    view: View
    kill_switch_now: Callable[[], bool]

    def target(self) -> Target:
        return locate(self.incident, self.handler, self.policy, self.view)


Gate = Callable[[Facts], Refusal | None]


def effective_mode(handler: Handler, controls: Controls) -> Mode:
    """What holds now: a person's override, or the policy's word."""
    override = controls.modes.get(handler.name)
    for mode in ("off", "observe", "approve", "auto"):
        if override == mode:
            return mode
    return handler.mode


def wilson_lower(effective: int, tried: int) -> float:
    """The lower bound of the share of successes, at 95 %."""
    if tried == 0:
        return 0.0
    share = effective / tried
    centre = share + _Z**2 / (2 * tried)
    spread = _Z * math.sqrt(share * (1 - share) / tried + _Z**2 / (4 * tried**2))
    return (centre - spread) / (1 + _Z**2 / tried)


def demoted(tried: int, effective: int, policy: Policy) -> bool:
    """Whether experience says that a person should look first."""
    return tried >= policy.demote_after and wilson_lower(effective, tried) < policy.demote_below


def kill_switch(facts: Facts) -> Refusal | None:
    return Refusal("the kill switch is engaged") if facts.controls.kill_switch else None


def mode(facts: Facts) -> Refusal | None:
    return Refusal("the handler is off") if effective_mode(facts.handler, facts.controls) == "off" else None


def silence(facts: Facts) -> Refusal | None:
    """One silenced alert of the incident is a person's "hands off"; inhibition counts when it covers all of them."""
    active = facts.view.alerts()
    muted = [active[alert.fingerprint].muted for alert in facts.alerts if alert.fingerprint in active]
    silenced = next((by for by in muted if by is not None and by.startswith("silence")), None)
    if silenced is not None:
        return Refusal(f"people have silenced it: {silenced}")
    return Refusal(f"every alert of it is {muted[0]}") if muted and None not in muted else None


def target_known(facts: Facts) -> Refusal | None:
    try:
        facts.target()
    except UnresolvedError as error:
        if error.final:
            return Refusal(str(error), "close", outcome="escalated", spent=True)
        return Refusal(str(error), give_up_after=facts.handler.target_grace_seconds)
    return _offered(facts)


def _offered(facts: Facts) -> Refusal | None:
    """The application must offer the verb, and must not think worse of repeating it than the policy does."""
    hello = facts.view.agents().get(facts.target().claim)
    if facts.handler.driver != "agent" or hello is None:
        return None
    verb, effect = facts.handler.verb, facts.handler.effect
    action = hello.action(verb)
    if action is None:
        grace = facts.handler.target_grace_seconds
        return Refusal(f"the application does not offer {verb}", give_up_after=grace)
    if EFFECTS.index(action.effect) > EFFECTS.index(effect):
        reason = f"the application says that {verb} is {action.effect}, the policy says {effect}"
        return Refusal(reason, "close", outcome="escalated", spent=True)
    return None


def still_firing(facts: Facts) -> Refusal | None:
    """Alertmanager must have it. When it has not, Prometheus must agree before anybody believes that it is over."""
    active = facts.view.alerts()
    if any(alert.fingerprint in active for alert in facts.alerts):
        return None
    if any(facts.view.fires(alert.labels) for alert in facts.alerts):
        return Refusal("Prometheus says that it fires, Alertmanager does not have it")
    return Refusal("it fires no more", "close", outcome="self_resolved")


def not_stale(facts: Facts) -> Refusal | None:
    age = facts.now - facts.incident.alert_started_at
    if age <= facts.policy.stale_after_seconds:
        return None
    return Refusal(f"it fires since {age / _HOUR:.1f} hours", "close", outcome="escalated", spent=True)


def storm(facts: Facts) -> Refusal | None:
    """When much breaks at once, the cause is elsewhere and acting everywhere makes it worse."""
    policy, opened = facts.policy, facts.past.opened
    for first, last in zip(opened, opened[policy.storm_per_minute :], strict=False):
        if last - first <= _MINUTE and facts.now - last < policy.storm_quiet_seconds:
            return Refusal(
                f"a storm: more than {policy.storm_per_minute} incidents within a minute",
                until=last + policy.storm_quiet_seconds,
            )
    if facts.past.troubled >= policy.storm_minimum:
        targets = len(facts.view.targets(facts.incident.service))
        if targets and facts.past.troubled / targets > policy.storm_share:
            return Refusal(f"a storm: {facts.past.troubled} of {targets} targets of {facts.incident.service}")
    return None


def breaker(facts: Facts) -> Refusal | None:
    state = facts.past.breaker
    if state.open_until is None or state.probe == facts.incident.id:
        return None
    if facts.now < state.open_until:
        return Refusal(f"the breaker is open after {state.failures} failed incidents", until=state.open_until)
    return None if state.probe is None else Refusal("the breaker is half open, and another incident tries it")


def cooldown(facts: Facts) -> Refusal | None:
    """For new incidents; attempts of one incident have their backoff."""
    last = facts.past.last_closed_at
    if facts.incident.attempts_used or last is None or facts.now >= last + facts.handler.cooldown_seconds:
        return None
    return Refusal("too soon after the last incident here", until=last + facts.handler.cooldown_seconds)


def relapse(facts: Facts) -> Refusal | None:
    count = len(facts.past.acted_closed) + 1
    if facts.incident.attempts_used or count < facts.handler.relapse_incidents:
        return None
    hours = facts.handler.relapse_seconds / _HOUR
    reason = f"incident number {count} here within {hours:g} hours: acting again would only hide the cause"
    return Refusal(reason, "close", outcome="escalated", spent=True)


def rate(facts: Facts) -> Refusal | None:
    for limit, seconds, name in (
        (facts.handler.rate_per_hour, _HOUR, "hour"),
        (facts.handler.rate_per_day, _DAY, "day"),
    ):
        within = [at for at in facts.past.attempts if at > facts.now - seconds]
        if len(within) >= limit:
            return Refusal(f"{len(within)} attempts within the {name}, the limit", until=within[-limit] + seconds)
    return None


def attempts_left(facts: Facts) -> Refusal | None:
    if facts.incident.attempts_used < facts.handler.attempts:
        return None
    reason = f"{facts.incident.attempts_used} attempts did not help"
    return Refusal(reason, "close", outcome="exhausted", failed=True, spent=True)


def precondition(facts: Facts) -> Refusal | None:
    """Prometheus must say, now, that the value is bad. Good means nothing to do; unclear means nothing to act on."""
    found = probe(
        facts.handler.precondition,
        facts.view,
        alerts=facts.alerts,
        job=facts.incident.service,
        instance=facts.target().instance,
        incident_at=facts.incident.alert_started_at,
    )
    if found.finding == "unhealthy":
        return None
    return Refusal(f"already well: {found.reason}" if found.finding == "healthy" else f"cannot tell: {found.reason}")


def capacity_floor(facts: Facts) -> Refusal | None:
    """A restart may not take away an instance that the rest cannot do without."""
    if not facts.handler.capacity_floor:
        return None
    target = facts.target()
    targets = facts.view.targets(target.service)
    others = sum(up for instance, up in targets.items() if instance != target.instance)
    if not targets.get(target.instance, False) or others >= facts.handler.capacity_floor:
        return None
    return Refusal(f"{others} other instances are up; {facts.handler.capacity_floor} are needed")


def approval(facts: Facts) -> Refusal | None:
    mode = effective_mode(facts.handler, facts.controls)
    if mode == "observe":
        return Refusal("observed: it would have acted", "close", outcome="shadow", spent=True)
    if facts.past.approval == "approved":
        return None
    if mode == "approve":
        return Refusal("the handler's mode asks for a person's approval", "ask")
    if demoted(facts.past.tried, facts.past.effective, facts.policy):
        share = f"{facts.past.effective} of {facts.past.tried}"
        return Refusal(f"it helped in {share} tries, so a person looks first", "ask")
    return None


def slot(facts: Facts) -> Refusal | None:
    if facts.past.executing >= facts.policy.concurrent:
        return Refusal(f"{facts.past.executing} actions are being carried out", until=facts.now + 0.5)
    if facts.target().claim in facts.past.executing_claims:
        return Refusal("another action is being carried out on this target", until=facts.now + 0.5)
    return None


def kill_switch_again(facts: Facts) -> Refusal | None:
    return Refusal("the kill switch was engaged meanwhile") if facts.kill_switch_now() else None


GATES: tuple[tuple[str, Gate], ...] = (
    ("kill_switch", kill_switch),
    ("mode", mode),
    ("silence", silence),
    ("target", target_known),
    ("firing", still_firing),
    ("stale", not_stale),
    ("storm", storm),
    ("breaker", breaker),
    ("cooldown", cooldown),
    ("relapse", relapse),
    ("rate", rate),
    ("attempts", attempts_left),
    ("precondition", precondition),
    ("capacity", capacity_floor),
    ("approval", approval),
    ("slot", slot),
    ("kill_switch_again", kill_switch_again),
)


def refusal(facts: Facts) -> Refusal | None:
    """The first gate's that refuses, with its name; None when all let it through."""
    for name, gate in GATES:
        try:
            refused = gate(facts)
        except RemediationError as error:
            refused = Refusal(f"cannot tell: {error}")
        except Exception as error:  # noqa: BLE001 -- whatever it is, not knowing means not acting
            refused = Refusal(f"cannot tell: {type(error).__name__}: {error}")
        if refused is not None:
            return replace(refused, gate=name)
    return None
