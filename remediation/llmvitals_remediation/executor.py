"""Carrying attempts out. The intent is durable before this is called; what comes of it is durable before it returns."""

import logging
import random
from collections.abc import Mapping

from llmvitals_remediation import crash
from llmvitals_remediation._metrics import Metrics
from llmvitals_remediation.actuators import Actuator
from llmvitals_remediation.clock import Clock
from llmvitals_remediation.conclusions import settle
from llmvitals_remediation.counting import count_closed
from llmvitals_remediation.jobs import Jobs
from llmvitals_remediation.policy import Handler
from llmvitals_remediation.records import Attempt, Change, Conclusion, Incident
from llmvitals_remediation.store import Store

_log = logging.getLogger(__name__)

_STOP_SECONDS = 0.5


class Executor:
    """One thread per act. How many there may be is decided in the store, where the slots are."""

    def __init__(
        self,
        store: Store,
        actuators: Mapping[str, Actuator],
        *,
        jobs: Jobs,
        metrics: Metrics,
        clock: Clock,
        dice: random.Random,
    ) -> None:
        self._store = store
        self._actuators = actuators
        self._jobs = jobs
        self._metrics = metrics
        self._clock = clock
        self._dice = dice

    def owns(self, attempt: Attempt) -> bool:
        """Whether this process carries it out now. If not, it is left over from another life."""
        return self._jobs.runs(attempt.id)

    def submit(self, incident: Incident, attempt: Attempt, handler: Handler, *, recovered: bool = False) -> None:
        self._jobs.run(attempt.id, "executor", lambda: self._carry_out(incident, attempt, handler, recovered=recovered))

    def _carry_out(self, incident: Incident, attempt: Attempt, handler: Handler, *, recovered: bool) -> None:
        actuator = self._actuators.get(attempt.driver)
        if actuator is None or self._store.controls().kill_switch:
            why = f"there is no {attempt.driver} driver" if actuator is None else "the kill switch was engaged"
            if not recovered:
                self._withdraw(incident, attempt, why)
            return
        self._store.started(attempt)
        if attempt.number == 1 and not recovered:
            waited = max(0.0, self._clock.now() - incident.alert_started_at)
            self._metrics.time_to_action.labels(handler.name).observe(waited)
        report = actuator.carry_out(attempt, incident_at=incident.alert_started_at, timeout=handler.timeout_seconds)
        crash.point("after_act")
        # The hub lets go of everybody a moment before the engine is told to stop.
        if report.answer == "unknown" and self._jobs.stopping.wait(_STOP_SECONDS):
            return  # Nobody waited long enough to say so. The next life looks.
        conclusion, change = settle(
            attempt, handler, report, recovered=recovered, now=self._clock.now(), dice=self._dice
        )
        if conclusion is None:
            self._store.acted(attempt, report, change)
        else:
            self._store.finish(attempt, conclusion, change)
            self._metrics.attempts.labels(handler.name, conclusion.verdict).inc()
            count_closed(self._metrics, handler.name, change)
        _log.info("%s: attempt %d on %s answered %s", handler.name, attempt.number, attempt.claim, report.answer)

    def _withdraw(self, incident: Incident, attempt: Attempt, why: str) -> None:
        """Nothing was sent: it happened to nobody."""
        now = self._clock.now()
        change = Change("withdrawn", "gated", gate="kill_switch_again", reason=why, next_at=now + 1)
        self._store.finish(attempt, Conclusion("failed", why, counts=False), change)
        self._metrics.attempts.labels(incident.handler, "failed").inc()
