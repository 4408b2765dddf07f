"""The safety net under the webhook: what fires now, read from Alertmanager, compared with what is stored."""

import logging

from llmvitals_remediation._metrics import Metrics
from llmvitals_remediation.clock import Clock
from llmvitals_remediation.errors import SourceError
from llmvitals_remediation.policy import Policy
from llmvitals_remediation.promql import UP
from llmvitals_remediation.records import KnownAlert, Opening
from llmvitals_remediation.store import Store
from llmvitals_remediation.triage import openings
from llmvitals_remediation.verifier import probe
from llmvitals_remediation.view import View

_log = logging.getLogger(__name__)

_FORGET_EVERY_SECONDS = 3600.0


class Reconciler:
    def __init__(self, store: Store, metrics: Metrics, clock: Clock) -> None:
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._due_at = clock.monotonic()
        self._forget_at = clock.monotonic() + _FORGET_EVERY_SECONDS
        self._failing = False
        self.last_success: float | None = None

    def due_in(self) -> float:
        """Seconds until the next round."""
        return self._due_at - self._clock.monotonic()

    def run_if_due(self, policy: Policy, view: View) -> None:
        """One round when its time has come, or when Alertmanager said that it cut a delivery short."""
        if self._store.truncated.is_set():
            self._store.truncated.clear()
        elif self.due_in() > 0:
            return
        self._due_at = self._clock.monotonic() + policy.reconcile_seconds
        try:
            found = self._open_missing(policy, view)
            view.query(UP)  # A round without Prometheus is not a success: gates and proofs would not work.
        except SourceError as error:
            self._metrics.handler_errors.labels("reconciler").inc()
            if not self._failing:
                _log.warning("reconciling failed: %s", error)
            self._failing = True
            return
        self._failing = False
        self.last_success = self._clock.now()
        self._metrics.reconciled.set(self.last_success)
        if found:
            self._metrics.reconcile_found.inc(found)
        # What waits asks its gates anew, and closes by itself when its alert is gone.
        self._store.wake_waiting()
        if self._clock.monotonic() >= self._forget_at:
            self._forget_at = self._clock.monotonic() + _FORGET_EVERY_SECONDS
            self._store.forget(bodies_days=policy.bodies_days, events_days=policy.events_days)

    def _is_trouble(self, opening: Opening, policy: Policy, view: View) -> bool:
        """False for an alert that only looks back on what was remediated: the probe says that all is well."""
        if self._store.last_outcome(opening) != "remediated":
            return True
        found = probe(
            policy.handlers[opening.handler].precondition,
            view,
            alerts=[KnownAlert(opening.fingerprint, opening.starts_at, opening.labels, opening.received_at, None)],
            job=opening.service,
            instance=opening.instance,
            incident_at=opening.starts_at,
        )
        return found.finding == "unhealthy"

    def _open_missing(self, policy: Policy, view: View) -> int:
        """Open what fires and has no incident; returns how many of them no webhook had told of."""
        now = self._clock.now()
        controls = self._store.controls()
        active = {(incident.handler, incident.target) for incident in self._store.active()}
        missing: list[Opening] = []
        for alert in view.alerts().values():
            # The webhook comes first in normal life, and is given its time.
            young = now - alert.starts_at < policy.reconcile_grace_seconds
            if young or alert.muted is not None or policy.receiver not in alert.receivers:
                continue
            missing += [
                opening
                for opening in openings(
                    alert.labels,
                    annotations=alert.annotations,
                    fingerprint=alert.fingerprint,
                    starts_at=alert.starts_at,
                    received_at=now,
                    policy=policy,
                    controls=controls,
                    source="reconciler",
                )
                if (opening.handler, opening.target) not in active and self._is_trouble(opening, policy, view)
            ]
        if not missing:
            return 0
        told = self._store.triage([], missing, [])
        lost = 0
        for opening, (what, incident_id) in zip(missing, told, strict=True):
            if what != "opened":
                continue
            unknown = not self._store.knows(opening.fingerprint, opening.starts_at)
            lost += unknown
            how = "that no webhook had told of" if unknown else "that fires again or still"
            _log.warning("%s: incident %s opened for an alert %s", opening.handler, incident_id, how)
        return lost
