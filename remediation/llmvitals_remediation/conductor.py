"""One step of one incident: ask the gates, look at the proof, keep a hold, or find out what a former life did."""

import logging
import random

from llmvitals_remediation import crash
from llmvitals_remediation._metrics import Metrics
from llmvitals_remediation.clock import Clock
from llmvitals_remediation.conclusions import RECOVERY_SECONDS, judged, settle
from llmvitals_remediation.counting import count_closed
from llmvitals_remediation.errors import ConflictError, RemediationError
from llmvitals_remediation.executor import Executor
from llmvitals_remediation.gates import Facts, Refusal, refusal
from llmvitals_remediation.holding import Holder
from llmvitals_remediation.policy import Handler, Policy
from llmvitals_remediation.records import UNDECIDED, Attempt, Change, Conclusion, Incident, Plan, Report
from llmvitals_remediation.store import Store
from llmvitals_remediation.verifier import verify
from llmvitals_remediation.view import Scene, View

_log = logging.getLogger(__name__)

_MINUTE = 60.0


class Conductor:
    """Called by the engine's thread only, for incidents whose time has come."""

    def __init__(
        self,
        store: Store,
        executor: Executor,
        holder: Holder,
        *,
        metrics: Metrics,
        clock: Clock,
        dice: random.Random,
    ) -> None:
        self._store = store
        self._executor = executor
        self._holder = holder
        self._metrics = metrics
        self._clock = clock
        self._dice = dice
        # Agents that reconnect to a new controller need their time; what an incident waited before does not count.
        self._started_at = clock.now()

    def step(self, incident: Incident, policy: Policy, view: View) -> None:
        """Take an incident as far as it goes now. Every path leaves it with a time for the next look."""
        now = self._clock.now()
        handler = policy.handlers.get(incident.handler)
        if handler is None:
            self._abandon(incident)
            return
        scene = Scene(handler, policy, view, now)
        if incident.state in UNDECIDED:
            self._decide(incident, scene)
        else:
            attempt = self._store.attempt(incident.id)
            if attempt is None:
                raise AssertionError(f"incident {incident.id} is {incident.state} without an attempt")
            if incident.state == "executing":
                self._recover(incident, attempt, scene)
            elif incident.state == "verifying":
                self._verify(incident, attempt, scene)
            else:
                self._hold(incident, attempt, scene)

    # --- before the act -----------------------------------------------------------------------------------------------

    def _decide(self, incident: Incident, scene: Scene) -> None:
        now = scene.now
        if now >= incident.deadline_at:
            asked = incident.state == "awaiting_approval"
            reason = "nobody approved it in time" if asked else f"held back until its deadline: {incident.reason}"
            self._change(incident, Change("expired", "closed", reason=reason, outcome="expired", spent=asked))
            return
        facts = self._facts(incident, scene)
        refused = refusal(facts)
        if refused is None:
            self._begin(incident, scene, facts)
            return
        if refused.kind == "wait" and refused.give_up_after is not None and incident.gate == refused.gate:
            waited = now - max(incident.state_since, self._started_at)
            if waited >= refused.give_up_after:
                reason = f"{refused.reason}, for {waited:.0f} s"
                refused = Refusal(reason, "close", outcome="escalated", spent=True, gate=refused.gate)
        self._refused(incident, scene, refused)

    def _facts(self, incident: Incident, scene: Scene) -> Facts:
        return Facts(
            now=scene.now,
            incident=incident,
            alerts=self._store.alerts(incident.id),
            handler=scene.handler,
            policy=scene.policy,
            controls=self._store.controls(),
            past=self._store.past(
                incident,
                relapse_seconds=scene.handler.relapse_seconds,
                storm_seconds=scene.policy.storm_quiet_seconds + _MINUTE,
            ),
            view=scene.view,
            kill_switch_now=lambda: self._store.controls().kill_switch,
        )

    def _refused(self, incident: Incident, scene: Scene, refused: Refusal) -> None:
        handler, policy, now = scene.handler, scene.policy, scene.now
        soon = now + max(0.5, min(policy.scrape_interval_seconds, 5.0))
        next_at = soon if refused.until is None else max(now + 0.1, min(refused.until, now + policy.reconcile_seconds))
        if refused.kind == "close":
            self._metrics.gate_refusals.labels(handler.name, refused.gate).inc()
            if refused.gate == "relapse":
                self._metrics.relapses.labels(handler.name).inc()
            event = "escalated" if refused.outcome == "escalated" else "closed"
            self._change(
                incident,
                Change(
                    event,
                    "closed",
                    gate=refused.gate,
                    reason=refused.reason,
                    outcome=refused.outcome,
                    spent=refused.spent,
                    failed=refused.failed,
                    breaker=handler.breaker,
                ),
            )
        elif incident.state == "awaiting_approval" or (refused.kind == "wait" and incident.gate == refused.gate):
            # Nothing new. While a person is asked, passing obstacles do not take the question back.
            self._store.postpone(incident.id, next_at)
        elif refused.kind == "ask":
            self._metrics.gate_refusals.labels(handler.name, refused.gate).inc()
            deadline = now + handler.approval_seconds
            self._change(
                incident,
                Change(
                    "approval_asked",
                    "awaiting_approval",
                    gate=refused.gate,
                    reason=refused.reason,
                    next_at=next_at,
                    deadline_at=deadline,
                ),
            )
        else:
            self._metrics.gate_refusals.labels(handler.name, refused.gate).inc()
            self._change(incident, Change("gated", "gated", gate=refused.gate, reason=refused.reason, next_at=next_at))

    def _begin(self, incident: Incident, scene: Scene, facts: Facts) -> None:
        handler, policy, now = scene.handler, scene.policy, scene.now
        target = facts.target()
        parameters = dict(handler.parameters)
        if handler.hold is not None:
            parameters["lease_seconds"] = handler.hold.lease_seconds
        expires_at = now + handler.timeout_seconds
        plan = Plan(
            instance=target.instance,
            claim=target.claim,
            driver=handler.driver,
            boot_id=target.boot_id,
            verb=handler.verb,
            parameters=parameters,
            expires_at=expires_at,
            deadline_at=expires_at + RECOVERY_SECONDS,
            max_executing=policy.concurrent,
        )
        try:
            attempt = self._store.begin(incident, plan)
        except ConflictError as error:
            _log.info("%s: not now: %s", handler.name, error)
            self._store.postpone(incident.id, now + 0.5)
            return
        crash.point("after_intent")
        self._executor.submit(incident, attempt, handler)

    # --- after a crash ------------------------------------------------------------------------------------------------

    def _recover(self, incident: Incident, attempt: Attempt, scene: Scene) -> None:
        """The intent is written, and nobody in this process carries it out: a former life may have."""
        handler, view, now = scene.handler, scene.view, scene.now
        if self._executor.owns(attempt):
            self._store.postpone(incident.id, now + 0.5)
            return
        late = now >= incident.deadline_at
        if attempt.driver == "agent" and not late:
            hello = view.agents().get(attempt.claim)
            if hello is None:
                self._store.postpone(incident.id, now + 0.5)
                return
            if hello.boot_id != attempt.boot_id:
                self._other_boot(incident, attempt, handler, now)
                return
        unsafe = "its deadline has passed" if late else self._no_more(incident, view)
        if unsafe is not None:
            # Asking again might act, and there is no more reason to: the proof will say what happened.
            self._settle(incident, attempt, handler, Report("unknown", error=f"not asked again: {unsafe}"), now)
            return
        self._store.note("asked_again", incident_id=incident.id, attempt=attempt.id)
        again = self._store.refence(attempt, now + handler.timeout_seconds)
        self._executor.submit(incident, again, handler, recovered=True)

    def _no_more(self, incident: Incident, view: View) -> str | None:
        if self._store.controls().kill_switch:
            return "the kill switch is engaged"
        try:
            active = view.alerts()
        except RemediationError as error:
            return f"cannot tell whether it fires: {error}"
        fires = any(alert.fingerprint in active for alert in self._store.alerts(incident.id))
        return None if fires else "the alert fires no more"

    def _other_boot(self, incident: Incident, attempt: Attempt, handler: Handler, now: float) -> None:
        """The process meant is gone, and with it whatever it did or did not do."""
        report = Report("unknown", error="the process was restarted before it answered", refusal="other_boot")
        if handler.effect != "idempotent":
            self._settle(incident, attempt, handler, report, now)
            return
        change = Change(
            "restarted_meanwhile",
            "scheduled",
            reason=report.error,
            next_at=now,
            deadline_at=now + handler.approval_seconds + RECOVERY_SECONDS,
        )
        self._finish(incident, attempt, Conclusion("unknown", report.error, report, counts=False), change)

    def _settle(self, incident: Incident, attempt: Attempt, handler: Handler, report: Report, now: float) -> None:
        conclusion, change = settle(attempt, handler, report, recovered=True, now=now, dice=self._dice)
        if conclusion is None:
            self._store.acted(attempt, report, change)
        else:
            self._finish(incident, attempt, conclusion, change)

    # --- after the act ------------------------------------------------------------------------------------------------

    def _verify(self, incident: Incident, attempt: Attempt, scene: Scene) -> None:
        handler, now = scene.handler, scene.now
        crash.point("in_verification")
        if handler.hold is not None:
            self._holder.renew_if_due(incident, attempt, handler.hold, now)
        alerts = self._store.alerts(incident.id)
        proof = verify(incident, attempt, alerts, scene)
        if proof.verdict is None:
            self._store.watch(incident.id, next_at=proof.next_at, healthy_since=proof.healthy_since)
            return
        change = judged(attempt, handler, proof.verdict, proof.reason, now=now, dice=self._dice)
        self._finish(incident, attempt, Conclusion(proof.verdict, proof.reason), change)
        if proof.verdict == "effective":
            acted_at = attempt.acted_at or attempt.planned_at
            self._metrics.time_to_proof.labels(handler.name).observe(max(0.0, now - acted_at))
        elif incident.lease_id is not None:
            self._holder.drop(incident, attempt)
        _log.info("%s: attempt %d is %s: %s", handler.name, attempt.number, proof.verdict, proof.reason)

    def _hold(self, incident: Incident, attempt: Attempt, scene: Scene) -> None:
        kill_switch = self._store.controls().kill_switch
        self._holder.step(incident, attempt, self._store.alerts(incident.id), scene, kill_switch=kill_switch)

    def _abandon(self, incident: Incident) -> None:
        """The policy has the handler no more: people take over."""
        reason = "the policy has this handler no more"
        change = Change("escalated", "closed", reason=reason, outcome="escalated", spent=True)
        attempt = self._store.attempt(incident.id)
        if incident.state in ("executing", "verifying") and attempt is not None:
            if self._executor.owns(attempt):
                self._store.postpone(incident.id, self._clock.now() + 0.5)
                return
            self._finish(incident, attempt, Conclusion("unknown", reason, counts=False), change)
        else:
            self._change(incident, change)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _change(self, incident: Incident, change: Change) -> None:
        try:
            self._store.change(incident.id, (incident.state,), change)
        except ConflictError as error:
            _log.info("%s: %s", incident.handler, error)  # A person was faster.
            return
        count_closed(self._metrics, incident.handler, change)

    def _finish(self, incident: Incident, attempt: Attempt, conclusion: Conclusion, change: Change) -> None:
        self._store.finish(attempt, conclusion, change)
        self._metrics.attempts.labels(incident.handler, conclusion.verdict).inc()
        count_closed(self._metrics, incident.handler, change)
