"""Held changes: leases in the application, renewed while the trouble lasts and put back when it was quiet long enough.

Nothing here is needed for safety. When this service dies, the lease ends, and the application puts the old values back
by itself.
"""

import logging
from collections.abc import Sequence

from llmvitals_remediation._metrics import Metrics
from llmvitals_remediation.actuators import AgentActuator
from llmvitals_remediation.clock import Clock
from llmvitals_remediation.counting import count_closed
from llmvitals_remediation.errors import ConflictError, SourceError
from llmvitals_remediation.jobs import Jobs
from llmvitals_remediation.policy import Hold, Probe
from llmvitals_remediation.protocol import Command
from llmvitals_remediation.records import Attempt, Change, Incident, KnownAlert, Report
from llmvitals_remediation.store import Store
from llmvitals_remediation.verifier import probe
from llmvitals_remediation.view import Scene

_log = logging.getLogger(__name__)

_ANSWER_SECONDS = 5.0


class Holder:
    def __init__(self, store: Store, agent: AgentActuator, *, jobs: Jobs, metrics: Metrics, clock: Clock) -> None:
        self._store = store
        self._agent = agent
        self._jobs = jobs
        self._metrics = metrics
        self._clock = clock

    def renew_if_due(self, incident: Incident, attempt: Attempt, hold: Hold, now: float) -> None:
        """Renew the lease when a third of it has gone. Also while verifying: a proof takes longer than some leases."""
        if incident.lease_id is not None and now >= (incident.lease_renew_at or now):
            self._jobs.run(f"renew {incident.lease_id}", "holding", lambda: self._renew(incident, attempt, hold))

    def drop(self, incident: Incident, attempt: Attempt) -> None:
        """Put a change back that did not help. When it cannot be done, the lease's end does it."""
        self._jobs.run(f"drop {attempt.id}", "holding", lambda: self._drop(incident, attempt))

    def step(
        self,
        incident: Incident,
        attempt: Attempt,
        alerts: Sequence[KnownAlert],
        scene: Scene,
        *,
        kill_switch: bool,
    ) -> None:
        """Look at a held change once: renew it, put it back, or go on."""
        hold, now = scene.handler.hold, scene.now
        if hold is None or incident.lease_id is None:
            self._close(incident, "the policy holds this change no more", released=None)
            return
        if (lost := self._lost(incident, attempt, hold, scene)) is not None:
            self._close(incident, lost, released=now)
            return
        self.renew_if_due(incident, attempt, hold, now)
        # A kill switch freezes what is: the lease is kept up, and nothing is changed back.
        quiet = not kill_switch and self._is_quiet(incident, attempt, alerts, hold.release, scene)
        quiet_since = (incident.quiet_since or now) if quiet else None
        overdue = now >= incident.deadline_at
        if not kill_switch and (overdue or (quiet_since is not None and now - quiet_since >= hold.quiet_seconds)):
            self._jobs.run(
                f"release {incident.lease_id}", "holding", lambda: self._release(incident, attempt, overdue=overdue)
            )
        next_at = now + max(0.5, min(scene.policy.scrape_interval_seconds, 5.0))
        self._store.hold(incident.id, next_at=next_at, quiet_since=quiet_since)

    @staticmethod
    def _is_quiet(
        incident: Incident, attempt: Attempt, alerts: Sequence[KnownAlert], release: Probe | None, scene: Scene
    ) -> bool:
        try:
            active = scene.view.alerts()
            if any(alert.fingerprint in active for alert in alerts):
                return False
            return (
                release is None
                or (
                    probe(
                        release,
                        scene.view,
                        alerts=alerts,
                        job=attempt.service,
                        instance=attempt.instance,
                        incident_at=incident.alert_started_at,
                    ).finding
                )
                == "healthy"
            )
        except SourceError:
            return False  # Not knowing is not quiet.

    @staticmethod
    def _lost(incident: Incident, attempt: Attempt, hold: Hold, scene: Scene) -> str | None:
        hello = scene.view.agents().get(attempt.claim)
        if hello is not None and hello.boot_id != attempt.boot_id:
            return "the process was restarted, and the change went with it"
        # The renewal was due when a third had gone: two thirds later the lease has ended.
        if scene.now > (incident.lease_renew_at or scene.now) + hold.lease_seconds:
            return "the lease could not be renewed in time, and the application put the old values back"
        return None

    def _renew(self, incident: Incident, attempt: Attempt, hold: Hold) -> None:
        report = self._send(attempt, "renew_lease", {"lease_id": attempt.id, "lease_seconds": hold.lease_seconds})
        if report.answer == "done":
            self._store.renewed(incident.id, self._clock.now() + hold.lease_seconds / 3)
            return
        _log.warning("%s: the lease was not renewed: %s", incident.handler, report.refusal or report.error)
        if report.answer in ("failed", "refused") and incident.state == "holding":
            self._close(incident, f"the lease is gone: {report.refusal or report.error}", released=self._clock.now())

    def _release(self, incident: Incident, attempt: Attempt, *, overdue: bool) -> None:
        reason = "held as long as the policy allows" if overdue else "quiet again"
        if self._revert(incident, attempt):
            self._close(incident, f"{reason}: put back", released=self._clock.now(), escalated=overdue)

    def _drop(self, incident: Incident, attempt: Attempt) -> None:
        if self._store.controls().kill_switch:
            return  # Nothing is sent. The lease is renewed no more, and ends by itself.
        if not self._revert(incident, attempt):
            _log.warning("%s: the change was not put back; its lease will end", incident.handler)

    def _revert(self, incident: Incident, attempt: Attempt) -> bool:
        report = self._send(attempt, "revert_lease", {"lease_id": attempt.id})
        self._store.note(
            "put_back", incident_id=incident.id, lease=attempt.id, answer=report.answer, error=report.error
        )
        # A lease that the agent does not know has ended already.
        return report.answer == "done" or (report.answer == "failed" and "lease" in (report.error or ""))

    def _send(self, attempt: Attempt, verb: str, parameters: dict[str, object]) -> Report:
        fence = self._store.next_fence()
        command = Command(
            attempt_id=f"{attempt.id}.{verb}.{fence}",
            fence=fence,
            boot_id=attempt.boot_id,
            expires_at=self._clock.now() + _ANSWER_SECONDS,
            verb=verb,
            parameters=parameters,
        )
        return self._agent.send(attempt.claim, command, timeout=_ANSWER_SECONDS)

    def _close(self, incident: Incident, reason: str, *, released: float | None, escalated: bool = False) -> None:
        change = Change(
            "released",
            "closed",
            reason=reason,
            outcome="escalated" if escalated else "remediated",
            spent=escalated,
            failed=False,
            columns={"lease_id": None, "lease_renew_at": None, "released_at": released},
        )
        try:
            self._store.change(incident.id, ("holding",), change)
        except ConflictError:
            return  # Somebody else closed it meanwhile.
        count_closed(self._metrics, incident.handler, change)
