"""From an alert's labels to the one thing that may be acted on. Labels are only ever looked up.

Nothing found, or more than one, means no action: an empty set taken for "everything" has wiped disks elsewhere.
"""

from dataclasses import dataclass

from llmvitals_remediation.errors import RemediationError
from llmvitals_remediation.policy import Handler, Policy
from llmvitals_remediation.promql import AGENTS
from llmvitals_remediation.records import Incident
from llmvitals_remediation.view import View


@dataclass(frozen=True, slots=True)
class Target:
    """What is acted on: `claim` is an agent's id or a unit's name, and nobody else acts on it meanwhile."""

    service: str
    instance: str
    claim: str
    boot_id: str


class UnresolvedError(RemediationError):
    """The alert means nothing that may be acted on. `final`: waiting will not change that."""

    def __init__(self, problem: str, *, final: bool) -> None:
        super().__init__(problem)
        self.final = final


def locate(incident: Incident, handler: Handler, policy: Policy, view: View) -> Target:
    """The target of an incident.

    Raises:
        UnresolvedError: none, or more than one.
        SourceError: Prometheus cannot say.
    """
    if not incident.service:
        raise UnresolvedError("the alert has no job label", final=True)
    return _agent(incident, view) if handler.driver == "agent" else _unit(incident, policy, view)


def _agent(incident: Incident, view: View) -> Target:
    # One agent, whatever its boot ids: of a process that ended while Prometheus was away, Prometheus tells for minutes.
    found = {
        (sample.labels.get("instance", ""), sample.labels.get("agent_id", ""))
        for sample in view.query(AGENTS)
        if sample.labels.get("job") == incident.service
        and (not incident.instance or sample.labels.get("instance") == incident.instance)
    }
    whose = f"{incident.service}{'/' + incident.instance if incident.instance else ''}"
    if len(found) > 1:
        raise UnresolvedError(f"{len(found)} agents answer to {whose}; which one is meant is not known", final=True)
    if not found:
        raise UnresolvedError(f"Prometheus knows no agent of {whose}", final=False)
    ((instance, agent_id),) = found
    hello = view.agents().get(agent_id)
    if hello is None:
        raise UnresolvedError(f"the agent of {whose} is not connected", final=False)
    return Target(incident.service, instance, agent_id, hello.boot_id)


def _unit(incident: Incident, policy: Policy, view: View) -> Target:
    units = [unit for unit in policy.units if unit.job == incident.service]
    instances = view.targets(incident.service)
    if incident.instance and incident.instance not in instances:
        raise UnresolvedError(f"Prometheus scrapes no {incident.service}/{incident.instance}", final=False)
    if not incident.instance and len(instances) != 1:
        raise UnresolvedError(f"{incident.service} has {len(instances)} instances; which is not said", final=True)
    instance = incident.instance or next(iter(instances))
    named = [unit for unit in units if unit.instance == instance]
    if not named and len(instances) == 1:
        named = [unit for unit in units if unit.instance is None]
    if len(named) != 1:
        problem = f"the policy has {len(named)} units for {incident.service}/{instance}; it needs exactly one"
        raise UnresolvedError(problem, final=True)
    return Target(incident.service, instance, f"supervisor:{named[0].unit}", "")
