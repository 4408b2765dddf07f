"""Proof. "Resolved" proves nothing: an attempt succeeded when the handler's own query says so, of the target itself."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from llmvitals_remediation.errors import SourceError
from llmvitals_remediation.policy import Bound, Policy, Probe
from llmvitals_remediation.promql import Sample
from llmvitals_remediation.records import Attempt, Incident, KnownAlert, Verdict
from llmvitals_remediation.view import Scene, View

Finding = Literal["healthy", "unhealthy", "inconclusive"]

# A sample older than this many scrape intervals proves nothing.
FRESH_SCRAPES = 3


@dataclass(frozen=True, slots=True)
class Judgement:
    finding: Finding
    reason: str


@dataclass(frozen=True, slots=True)
class Proof:
    """Where a verification stands. Without a verdict it goes on at `next_at`."""

    verdict: Verdict | None
    reason: str
    next_at: float = 0.0
    healthy_since: float | None = None


def subjects(alerts: Sequence[KnownAlert], match: Iterable[str]) -> list[Mapping[str, str]]:
    """The label sets that a probe must find healthy: the first alert's, and those of all that are not over."""
    names = tuple(match)
    told: dict[tuple[tuple[str, str], ...], None] = {}
    for number, alert in enumerate(alerts):
        if number == 0 or alert.resolved_at is None:
            told[tuple((name, alert.labels[name]) for name in names if name in alert.labels)] = None
    return [dict(items) for items in told]


def judge(
    samples: Iterable[Sample],
    *,
    healthy: Bound,
    of: Sequence[Mapping[str, str]],
    job: str,
    instance: str,
    incident_at: float,
) -> Judgement:
    """Pick the target's series out of a result and look at each. One unhealthy is unhealthy, one unclear is unclear."""
    mine = [sample for sample in samples if sample.of(job, instance)]
    unclear: str | None = None
    values: list[float] = []
    for subject in of:
        found = [sample.value for sample in mine if subject.items() <= sample.labels.items()]
        if len(found) != 1:
            unclear = f"{len(found)} series for {dict(subject) or 'the target'}, where there must be one"
        elif not math.isfinite(found[0]):
            unclear = f"the value is {found[0]}"
        elif not healthy.holds(found[0], incident_at=incident_at):
            return Judgement("unhealthy", f"{healthy.told(found[0])} is not {healthy}")
        else:
            values.append(found[0])
    if unclear is not None or not values:
        return Judgement("inconclusive", unclear or "nothing to look at")
    return Judgement("healthy", f"{', '.join(map(healthy.told, values))} is {healthy}")


def probe(
    what: Probe, view: View, *, alerts: Sequence[KnownAlert], job: str, instance: str, incident_at: float
) -> Judgement:
    """Ask and judge. Raises `SourceError` when Prometheus cannot say."""
    return judge(
        view.query(what.query),
        healthy=what.healthy,
        of=subjects(alerts, what.match),
        job=job,
        instance=instance,
        incident_at=incident_at,
    )


def verify(incident: Incident, attempt: Attempt, alerts: Sequence[KnownAlert], scene: Scene) -> Proof:
    """Look at an attempt once: a verdict, or when to look again."""
    told, policy, view, now = scene.handler.verify, scene.policy, scene.view, scene.now
    acted_at = attempt.acted_at or attempt.started_at or attempt.planned_at
    settled_at = acted_at + told.settle_seconds
    if now < settled_at:
        return Proof(None, "settling", settled_at)
    try:
        judgement = _stale(attempt, policy, view, settled_at, now) or probe(
            told.probe,
            view,
            alerts=alerts,
            job=attempt.service,
            instance=attempt.instance,
            incident_at=incident.alert_started_at,
        )
    except SourceError as error:
        judgement = Judgement("inconclusive", str(error))
    soon = now + min(max(policy.scrape_interval_seconds / 2, 0.25), 5.0)
    if judgement.finding == "healthy":
        since = now if incident.healthy_since is None else min(incident.healthy_since, now)
        if now - since >= told.window_seconds:
            return Proof("effective", judgement.reason, healthy_since=since)
        return Proof(None, judgement.reason, min(soon, since + told.window_seconds), since)
    if now < settled_at + told.timeout_seconds:
        return Proof(None, judgement.reason, soon)
    return _failed(attempt, judgement)


def _failed(attempt: Attempt, judgement: Judgement) -> Proof:
    if judgement.finding == "unhealthy":
        return Proof("ineffective", judgement.reason)
    if attempt.answer == "unknown":
        return Proof("unknown", f"nobody answered, and then: {judgement.reason}")
    return Proof("inconclusive", judgement.reason)


def _stale(attempt: Attempt, policy: Policy, view: View, since: float, now: float) -> Judgement | None:
    """Why the target's samples prove nothing, or None: they must come from a scrape after the act, of what is up."""
    scraped_at = view.scraped_at(attempt.service, attempt.instance)
    if scraped_at is None:
        return Judgement("inconclusive", "the target is not up")
    if scraped_at < since:
        return Judgement("inconclusive", "not scraped since the act has settled")
    if now - scraped_at > FRESH_SCRAPES * policy.scrape_interval_seconds:
        return Judgement("inconclusive", f"last scraped {now - scraped_at:.0f} s ago")
    return None
