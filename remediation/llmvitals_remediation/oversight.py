"""What people see of the engine and may set: status, handlers, kill switch, modes, decisions; and the gauges."""

from collections.abc import Callable
from typing import Any, get_args

from llmvitals_remediation._metrics import Metrics
from llmvitals_remediation.clock import Clock, iso
from llmvitals_remediation.errors import ConflictError, NotFoundError
from llmvitals_remediation.gates import demoted, effective_mode, wilson_lower
from llmvitals_remediation.policy import MODES, Handler, Policy
from llmvitals_remediation.protocol import Agents
from llmvitals_remediation.records import Outcome, Verdict
from llmvitals_remediation.store import Store


class Oversight:
    def __init__(
        self, store: Store, policy: Callable[[], Policy], agents: Agents, *, metrics: Metrics, clock: Clock
    ) -> None:
        self._store = store
        self._policy = policy
        self._agents = agents
        self._metrics = metrics
        self._clock = clock

    def status(self) -> dict[str, Any]:
        policy, now = self._policy(), self._clock.now()
        depth, oldest = self._store.inbox()
        seen = self._store.last_seen(policy.watchdog)
        switch = self._store.kill_switch()
        return {
            "kill_switch": {**switch, "at": iso(switch["at"])},
            "policy": {"path": str(policy.path), "hash": policy.hash},
            "slots": {"in_use": self._store.executing(), "limit": policy.concurrent},
            "incidents": dict(self._store.states()),
            "inbox": {"depth": depth, "oldest_seconds": 0.0 if oldest is None else max(0.0, now - oldest)},
            "watchdog": {"last_seen": iso(seen), "age_seconds": None if seen is None else max(0.0, now - seen)},
            "agents": [
                {
                    "agent_id": hello.agent_id,
                    "boot_id": hello.boot_id,
                    "service": hello.service,
                    "pid": hello.pid,
                    "started_at": iso(hello.started_at),
                    "seen_at": iso(hello.seen_at),
                    "active_profile": hello.active_profile,
                    "leases": len(hello.leases),
                }
                for hello in self._agents.connected().values()
            ],
        }

    def handlers(self) -> list[dict[str, Any]]:
        policy, controls = self._policy(), self._store.controls()
        effects = self._store.effectiveness()
        breakers = self._store.open_breakers()
        return [
            self._handler(
                handler,
                policy,
                mode=effective_mode(handler, controls),
                effect=effects.get(handler.name, (0, 0)),
                open_on=[service for (name, service), is_open in breakers.items() if name == handler.name and is_open],
            )
            for handler in policy.handlers.values()
        ]

    @staticmethod
    def _handler(
        handler: Handler, policy: Policy, *, mode: str, effect: tuple[int, int], open_on: list[str]
    ) -> dict[str, Any]:
        tried, effective = effect
        return {
            "name": handler.name,
            "mode": mode,
            "policy_mode": handler.mode,
            "alerts": list(handler.alerts),
            "action": handler.verb,
            "driver": handler.driver,
            "effect": handler.effect,
            "parameters": dict(handler.parameters),
            "held": handler.hold is not None,
            "verified_by": f"{handler.verify.probe.query} is {handler.verify.probe.healthy}",
            "tried": tried,
            "effective": effective,
            "confidence": round(wilson_lower(effective, tried), 3),
            "asks_first_by_experience": demoted(tried, effective, policy),
            "breaker_open_on": open_on,
        }

    # --- what people set ----------------------------------------------------------------------------------------------

    def approve(self, incident_id: str, *, who: str, why: str) -> None:
        deadline_at = self._clock.now() + self._policy().incident_deadline_seconds
        self._store.decide(incident_id, "approved", who=who, why=why, deadline_at=deadline_at)

    def veto(self, incident_id: str, *, who: str, why: str) -> None:
        incident = self._store.find(incident_id)
        self._store.decide(incident_id, "vetoed", who=who, why=why, deadline_at=self._clock.now())
        if incident is not None:
            self._metrics.incidents_closed.labels(incident.handler, "vetoed").inc()

    def set_kill_switch(self, engaged: bool, *, who: str, why: str) -> None:
        self._store.set_control("kill_switch", "engaged" if engaged else "released", who=who, why=why)
        self._metrics.kill_switch.set(engaged)

    def set_mode(self, handler: str, mode: str, *, who: str, why: str) -> None:
        if handler not in self._policy().handlers:
            raise NotFoundError(f"the policy has no handler {handler!r}")
        if mode not in (*MODES, "policy"):
            raise ConflictError(f"{mode!r} is no mode: it is one of {', '.join(MODES)}, or policy")
        self._store.set_control(f"mode:{handler}", None if mode == "policy" else mode, who=who, why=why)

    # --- gauges -------------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Series that exist from the start, so that a first increment is a rise and not a birth."""
        self._metrics.handler_mode.clear()
        for handler in self._policy().handlers:
            for outcome in get_args(Outcome):
                self._metrics.incidents_closed.labels(handler, outcome)
            for verdict in get_args(Verdict):
                self._metrics.attempts.labels(handler, verdict)
            self._metrics.time_to_action.labels(handler)
            self._metrics.time_to_proof.labels(handler)
            self._metrics.relapses.labels(handler)

    def gauge(self) -> None:
        """Set every gauge from the store."""
        metrics, policy, now = self._metrics, self._policy(), self._clock.now()
        depth, oldest = self._store.inbox()
        metrics.inbox_depth.set(depth)
        metrics.inbox_oldest.set(0.0 if oldest is None else max(0.0, now - oldest))
        for state, count in self._store.states().items():
            metrics.incidents.labels(state).set(count)
        for (handler, service), is_open in self._store.open_breakers().items():
            metrics.breaker_open.labels(handler, service).set(is_open)
        metrics.slots_in_use.set(self._store.executing())
        controls = self._store.controls()
        metrics.kill_switch.set(controls.kill_switch)
        metrics.watchdog.set(self._store.last_seen(policy.watchdog) or 0.0)
        metrics.agents_connected.set(len(self._agents.connected()))
        for name, known in policy.handlers.items():
            for mode in MODES:
                metrics.handler_mode.labels(name, mode).set(effective_mode(known, controls) == mode)
