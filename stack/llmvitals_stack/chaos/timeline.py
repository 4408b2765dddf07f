"""One run's time line: what happened when, counted from the fault."""

from typing import Any

from llmvitals_stack.chaos.apis import Apis, seconds
from llmvitals_stack.chaos.scenarios import Scenario

STEPS = ("pending", "firing", "webhook", "action", "acted", "proof", "resolved", "put back")


class Timeline:
    """Reads the APIs again and again, and notes each step once, with the time that the server itself gives for it.

    Where no server gives a time (firing, resolved), it is when this run saw it.
    """

    def __init__(self, scenario: Scenario, apis: Apis, fault_at: float) -> None:
        self._scenario = scenario
        self._apis = apis
        self._incident_id: str | None = None
        self.fault_at = fault_at
        self.steps: dict[str, float] = {}
        self.details: dict[str, str] = {}
        self.outcome: str | None = None

    @property
    def closed(self) -> bool:
        """Whether the loop is closed: proven, quiet again, and put back what was held."""
        needed = {"action", "proof", "resolved"} | ({"put back"} if self._scenario.held else set())
        return needed <= self.steps.keys()

    @property
    def failed(self) -> bool:
        """Whether the incident ended without a proof, so that there is nothing to wait for."""
        return self.outcome is not None and "proof" not in self.steps

    def look(self, now: float) -> list[str]:
        """Read the APIs once; the steps that are new, in their order."""
        before = set(self.steps)
        self._look_at_alert(now)
        self._look_at_incident()
        return sorted(self.steps.keys() - before, key=lambda step: (self.steps[step], STEPS.index(step)))

    def since_fault(self, step: str) -> float:
        return self.steps[step] - self.fault_at

    def _look_at_alert(self, now: float) -> None:
        alert = self._apis.alert(self._scenario.alert)
        if alert is None:
            if "firing" in self.steps and "proof" in self.steps:
                self.steps.setdefault("resolved", now)
            return
        state, active_at = alert
        # One that was active before is not this fault's.
        if active_at >= self.fault_at - 1:
            self.steps.setdefault("pending", max(active_at, self.fault_at))
        if state == "firing" and "pending" in self.steps:
            self.steps.setdefault("firing", now)

    def _look_at_incident(self) -> None:
        if self._incident_id is None:
            newer = (
                incident
                for incident in self._apis.incidents(self._scenario.handler)
                if seconds(incident["opened_at"]) >= self.fault_at
            )
            found = min(newer, key=lambda incident: seconds(incident["opened_at"]), default=None)
            if found is None:
                return
            self._incident_id = found["id"]
        incident = self._apis.incident(self._incident_id)
        self._note("webhook", incident.get("received_at"))
        for attempt in incident["attempts"]:
            self._note("action", attempt.get("started_at"), f"{attempt['verb']} (attempt {attempt['number']})")
            self._note("acted", attempt.get("acted_at"), _brief(attempt.get("result")))
            self._note("proof", attempt.get("proved_at"), attempt.get("verdict") or "")
        self._note("put back", incident.get("released_at"))
        self.outcome = incident.get("outcome")

    def _note(self, step: str, iso_time: str | None, detail: str = "") -> None:
        if iso_time is not None and step not in self.steps:
            self.steps[step] = seconds(iso_time)
            self.details[step] = detail


def _brief(result: Any) -> str:
    text = "" if result is None else str(result)
    return text if len(text) <= 100 else f"{text[:99]}…"
