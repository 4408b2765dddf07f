"""What the world looks like during one pass of the engine: each question is asked once, and an error is an answer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from llmvitals_remediation.alertmanager import ActiveAlert, Alertmanager
from llmvitals_remediation.errors import SourceError, UnreachableError
from llmvitals_remediation.policy import Handler, Policy
from llmvitals_remediation.promql import FIRING, FRESH, UP, Prometheus, Sample
from llmvitals_remediation.protocol import AgentHello, Agents

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Scene:
    """What a step of one incident is taken on: its handler, the policy around it, the world and the time."""

    handler: Handler
    policy: Policy
    view: "View"
    now: float


class View:
    """Lazy and remembered. A source that gave no answer is not asked again in this pass."""

    def __init__(self, prometheus: Prometheus, alertmanager: Alertmanager, agents: Agents) -> None:
        self._prometheus = prometheus
        self._alertmanager = alertmanager
        self._agents = agents
        self._known: dict[tuple[str, str], Any] = {}
        self._down: dict[str, UnreachableError] = {}

    def alerts(self) -> Mapping[str, ActiveAlert]:
        """What Alertmanager has now, by fingerprint."""
        return self._once(
            "alertmanager", "alerts", lambda: {alert.fingerprint: alert for alert in self._alertmanager.alerts()}
        )

    def query(self, promql: str) -> list[Sample]:
        """The result of a constant query."""
        return self._once("prometheus", promql, lambda: self._prometheus.query(promql))

    def agents(self) -> Mapping[str, AgentHello]:
        """Agents that are connected, by id."""
        return self._once("agents", "connected", self._agents.connected)

    def targets(self, job: str) -> Mapping[str, bool]:
        """The instances of a job that Prometheus scrapes, and whether each is up."""
        return {
            sample.labels.get("instance", ""): sample.value == 1
            for sample in self.query(UP)
            if sample.labels.get("job") == job
        }

    def scraped_at(self, job: str, instance: str) -> float | None:
        """When the target was last scraped with success; None when it is not up."""
        found = [sample.value for sample in self.query(FRESH) if sample.of(job, instance)]
        return found[0] if len(found) == 1 else None

    def fires(self, labels: Mapping[str, str]) -> bool:
        """Whether Prometheus itself says that this very alert fires."""
        wanted = set(labels.items())
        # External labels are put on after evaluation, so ALERTS may have fewer of them than the alert.
        return any(
            sample.labels.get("alertname") == labels["alertname"]
            and {item for item in sample.labels.items() if item[0] not in ("__name__", "alertstate")} <= wanted
            for sample in self.query(FIRING)
        )

    def _once(self, source: str, question: str, ask: Callable[[], T]) -> T:
        key = (source, question)
        if key not in self._known:
            if (down := self._down.get(source)) is not None:
                raise down
            try:
                self._known[key] = ask()
            except UnreachableError as error:
                self._down[source] = error
                raise
            except SourceError as error:
                self._known[key] = error
        if isinstance(known := self._known[key], SourceError):
            raise known
        return cast("T", known)
