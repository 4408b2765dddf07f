"""The engine: one thread that looks at what came, at what is due, and at the world, again and again."""

import logging
import random
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from llmvitals_remediation._metrics import Metrics
from llmvitals_remediation.actuators import Actuator, AgentActuator
from llmvitals_remediation.alertmanager import Alertmanager
from llmvitals_remediation.clock import Clock, iso
from llmvitals_remediation.conductor import Conductor
from llmvitals_remediation.errors import StoreUnavailableError
from llmvitals_remediation.executor import Executor
from llmvitals_remediation.holding import Holder
from llmvitals_remediation.jobs import Jobs
from llmvitals_remediation.oversight import Oversight
from llmvitals_remediation.policy import Policy, PolicyError, PolicySource
from llmvitals_remediation.promql import Prometheus
from llmvitals_remediation.protocol import Agents
from llmvitals_remediation.reconciler import Reconciler
from llmvitals_remediation.store import Store
from llmvitals_remediation.triage import triage
from llmvitals_remediation.view import View

T = TypeVar("T")

_log = logging.getLogger(__name__)

_LONGEST_SLEEP_SECONDS = 0.5
_SECOND = 1.0
# After a fault an incident waits this long: a bug is a line in the log now and then, not a busy loop.
_FAULT_PAUSE_SECONDS = 10.0


class Engine:
    """`start`, then `wake` whenever something came. Everything but the tick may be called from any thread."""

    def __init__(  # noqa: PLR0917 -- its parts, once, where the service is put together
        self,
        store: Store,
        policy_source: PolicySource,
        prometheus: Prometheus,
        alertmanager: Alertmanager,
        agents: Agents,
        drivers: Mapping[str, Actuator],
        metrics: Metrics,
        clock: Clock,
        *,
        dice: random.Random | None = None,
    ) -> None:
        self._store = store
        self._source = policy_source
        self._policy_fault: str | None = None
        self._prometheus = prometheus
        self._alertmanager = alertmanager
        self._agents = agents
        self._metrics = metrics
        self._clock = clock
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._second_at = clock.monotonic()
        # Why the store did not take what this pass, and the one before, had to write.
        self._store_fault: str | None = None
        self._store_fault_told: str | None = None
        dice = dice or random.Random()  # noqa: S311 -- jitter, no secret
        agent = AgentActuator(agents, clock)
        self._jobs = Jobs(metrics, self.wake)
        executor = Executor(
            store, {"agent": agent, **drivers}, jobs=self._jobs, metrics=metrics, clock=clock, dice=dice
        )
        holder = Holder(store, agent, jobs=self._jobs, metrics=metrics, clock=clock)
        self._conductor = Conductor(store, executor, holder, metrics=metrics, clock=clock, dice=dice)
        self._reconciler = Reconciler(store, metrics, clock)
        self._oversight = Oversight(store, lambda: self._source.policy, agents, metrics=metrics, clock=clock)
        store.count_on(metrics)
        self._oversight.prepare()

    # --- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin. What a former life left open is found in the store."""
        self._store.note("engine_started", policy=self._source.policy.hash)
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 2.0) -> None:
        """Begin nothing more and stop within *timeout* seconds. An act that is under way is looked at next time."""
        self._jobs.stopping.set()
        self._stopping.set()
        self._woken.set()
        if self._thread is not None:
            self._thread.join(timeout / 2)
        self._jobs.stop(timeout / 2)

    def wake(self) -> None:
        """Look now. Never blocks."""
        self._woken.set()

    def tick(self) -> None:
        """One pass. A part's fault is its own: counted, logged, and the others go on."""
        each_second = self._clock.monotonic() >= self._second_at
        if each_second:
            self._second_at = self._clock.monotonic() + _SECOND
            self._guard("policy", self._poll_policy)
        policy = self._source.policy
        view = View(self._prometheus, self._alertmanager, self._agents)
        self._store_fault_told, self._store_fault = self._store_fault, None
        self._guard("triage", lambda: triage(self._store, policy))
        self._guard("reconciler", lambda: self._reconciler.run_if_due(policy, view))
        self._guard("incidents", lambda: self._step_all(policy, view))
        if each_second:
            self._guard("metrics", self._oversight.gauge)

    # --- what people see and set --------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """The state of the service, as JSON."""
        told = self._oversight.status()
        told["policy"]["refused"] = self._policy_fault
        told["reconcile"] = {"last_success": iso(self._reconciler.last_success)}
        return told

    def handlers(self) -> list[dict[str, Any]]:
        """Every handler of the policy, with its mode and what it achieved, as JSON."""
        return self._oversight.handlers()

    def approve(self, incident_id: str, *, who: str, why: str) -> None:
        """Let an incident act; its gates are asked once more first. Raises `NotFoundError`, `ConflictError`."""
        self._oversight.approve(incident_id, who=who, why=why)
        self.wake()

    def veto(self, incident_id: str, *, who: str, why: str) -> None:
        """Close an incident before it acts. Raises `NotFoundError`, `ConflictError`."""
        self._oversight.veto(incident_id, who=who, why=why)
        self.wake()

    def set_kill_switch(self, engaged: bool, *, who: str, why: str) -> None:
        """Stop everything, or let it go on. Durable, with the audit row, before this returns."""
        self._oversight.set_kill_switch(engaged, who=who, why=why)
        self.wake()

    def set_mode(self, handler: str, mode: str, *, who: str, why: str) -> None:
        """Override a handler's mode; `policy` takes the override back. Raises `NotFoundError`, `ConflictError`."""
        self._oversight.set_mode(handler, mode, who=who, why=why)
        self.wake()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.tick()
            self._woken.wait(self._sleep_seconds())
            self._woken.clear()

    def _sleep_seconds(self) -> float:
        due = self._guard("store", self._store.next_due)
        if self._store_fault is not None:
            # What is due stays due until it can be written: asking more often than this helps nobody.
            return _SECOND
        waits = [_LONGEST_SLEEP_SECONDS, self._reconciler.due_in()]
        if due is not None:
            waits.append(due - self._clock.now())
        return max(0.01, min(waits))

    def _step_all(self, policy: Policy, view: View) -> None:
        for incident in self._store.active(due_at=self._clock.now()):
            if self._stopping.is_set():
                return
            if not self._guard("incidents", partial(self._step, incident.id, policy, view)):
                self._store.postpone(incident.id, self._clock.now() + _FAULT_PAUSE_SECONDS)

    def _step(self, incident_id: str, policy: Policy, view: View) -> bool:
        # Read again: an executor or a person may have moved it since the list was made.
        incident = self._store.find(incident_id)
        if incident is not None and incident.state != "closed":
            self._conductor.step(incident, policy, view)
        return True

    def _poll_policy(self) -> None:
        told = self._source.poll()
        if told is None:
            return
        if isinstance(told, PolicyError):
            self._policy_fault = str(told)
            self._metrics.handler_errors.labels("policy").inc()
            mistakes = [str(mistake) for mistake in told.mistakes]
            _log.error(
                "the new policy is refused, the old one (%s) stays: %s: %s",
                *(self._source.policy.hash, told.path, "; ".join(mistakes)),
            )
            self._store.note("policy_refused", path=str(told.path), mistakes=mistakes)
            return
        self._policy_fault = None
        _log.info("policy %s is in force", told.hash)
        self._store.note("policy_loaded", hash=told.hash)
        self._oversight.prepare()
        self._store.wake_waiting()

    def _guard(self, component: str, part: Callable[[], T]) -> T | None:
        try:
            return part()
        except StoreUnavailableError as error:
            self._metrics.handler_errors.labels(component).inc()
            # Once, and without its trace: a full disk is not helped by a log that grows.
            if str(error) not in (self._store_fault, self._store_fault_told):
                _log.error("%s waits, and tries again every second: %s", component, error)
            self._store_fault = str(error)
            return None
        except Exception:  # noqa: BLE001 -- counted and logged with its trace; the loop must outlive any one part
            self._metrics.handler_errors.labels(component).inc()
            _log.exception("%s failed", component)
            return None
