"""From stored events to incidents: which handlers answer an alert, and on what. Pure but for the store."""

import logging
from collections.abc import Mapping

from llmvitals_remediation.gates import effective_mode
from llmvitals_remediation.policy import Policy
from llmvitals_remediation.records import Controls, Opening
from llmvitals_remediation.store import Store

_log = logging.getLogger(__name__)

_BATCH = 500


def openings(
    labels: Mapping[str, str],
    *,
    annotations: Mapping[str, str],
    fingerprint: str,
    starts_at: float,
    received_at: float,
    policy: Policy,
    controls: Controls,
    source: str,
) -> list[Opening]:
    """What an alert opens under a policy: nothing for a name that no handler lists, or whose handler is off."""
    return [
        Opening(
            handler=handler.name,
            service=labels.get("job", ""),
            instance=labels.get("instance", ""),
            fingerprint=fingerprint,
            starts_at=starts_at,
            labels=labels,
            annotations=annotations,
            received_at=received_at,
            cooldown_seconds=handler.cooldown_seconds,
            deadline_seconds=policy.incident_deadline_seconds,
            policy_hash=policy.hash,
            source="reconciler" if source == "reconciler" else "webhook",
        )
        for handler in policy.answering(labels["alertname"])
        if effective_mode(handler, controls) != "off"
    ]


def triage(store: Store, policy: Policy) -> int:
    """Look at every stored event once; returns how many there were."""
    done = 0
    controls = store.controls()
    while events := store.events(_BATCH):
        opening: list[Opening] = []
        over: list[tuple[str, float]] = []
        # Within a batch the last word on an alert counts: a firing that is resolved further down opens nothing.
        last = {(event.alert.fingerprint, event.alert.starts_at): event for event in events}
        for event in events:
            alert = event.alert
            if alert.status == "resolved":
                over.append((alert.fingerprint, alert.starts_at))
            elif last[alert.fingerprint, alert.starts_at] is event:
                opening += openings(
                    alert.labels,
                    annotations=alert.annotations,
                    fingerprint=alert.fingerprint,
                    starts_at=alert.starts_at,
                    received_at=event.first_seen,
                    policy=policy,
                    controls=controls,
                    source="webhook",
                )
        told = store.triage([event.id for event in events], opening, over)
        for opened, (what, incident_id) in zip(opening, told, strict=True):
            if what == "opened":
                _log.info("%s: incident %s opened on %s", opened.handler, incident_id, opened.target)
        done += len(events)
    return done
