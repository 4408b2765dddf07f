"""Chaos: turn a fault on, and watch alert, action, proof and quiet."""

import math
import time

from llmvitals_stack.chaos.apis import ApiError, Apis
from llmvitals_stack.chaos.scenarios import Scenario
from llmvitals_stack.chaos.timeline import Timeline
from llmvitals_stack.health import UnhealthyError
from llmvitals_stack.settings import Settings
from llmvitals_stack.terminal import Terminal

_POLL_SECONDS = 0.25
_READY_WITHIN = 90
_BUDGET_SECONDS = 10

__all__ = ["run"]


def run(scenario: Scenario, settings: Settings, terminal: Terminal, *, runs: int = 1) -> int:
    """Run a scenario; 0 if its loop closed every time.

    Raises:
        UnhealthyError: The stack does not run, or is not quiet enough to begin.
    """
    apis = Apis(settings)
    reactions: list[float] = []
    for number in range(1, runs + 1):
        if runs > 1:
            terminal.say(f"[bold]Run {number} of {runs}[/]")
        timeline = _once(scenario, apis, terminal)
        if not timeline.closed:
            return 1
        reactions.append(timeline.since_fault("action"))
    if scenario.gauge or runs > 1:
        _report(reactions, terminal, budget=scenario.gauge)
    return 0


def _once(scenario: Scenario, apis: Apis, terminal: Terminal) -> Timeline:
    _wait_until_quiet(scenario, apis, terminal)
    fault_at = time.time()
    timeline = Timeline(scenario, apis, fault_at)
    cleared = False
    try:
        terminal.say(f"[dim]{_clock(fault_at)}[/]    +0.0 s  [bold]fault[/]     {scenario.inject(apis)}")
        while not timeline.closed and time.time() < fault_at + scenario.within and not timeline.failed:
            for step in timeline.look(time.time()):
                _tell(timeline, step, terminal)
            if "proof" in timeline.steps and not cleared:
                scenario.clear(apis)
                cleared = True
            time.sleep(_POLL_SECONDS)
    except ApiError as error:
        raise UnhealthyError(f"The stack stopped answering: {error}") from error
    finally:
        if not cleared:
            scenario.clear(apis)
    _conclude(scenario, timeline, terminal)
    return timeline


def _wait_until_quiet(scenario: Scenario, apis: Apis, terminal: Terminal) -> None:
    """A run begins with no alert of its kind, no incident that still works on one, and what the fault needs."""
    deadline = time.monotonic() + _READY_WITHIN
    with terminal.step("waiting until all is quiet"):
        while (reason := _not_quiet(scenario, apis)) is not None:
            if time.monotonic() > deadline:
                raise UnhealthyError(f"No fault was turned on: {reason}.")
            time.sleep(1)


def _not_quiet(scenario: Scenario, apis: Apis) -> str | None:
    try:
        if apis.alert(scenario.alert) is not None:
            return f"{scenario.alert} is active already"
        if any(incident["state"] != "closed" for incident in apis.incidents(scenario.handler)):
            return f"an incident of {scenario.handler} is still open"
        return scenario.ready(apis)
    except ApiError as error:
        return f"the stack does not answer; is it up? ({error})"


def _tell(timeline: Timeline, step: str, terminal: Terminal) -> None:
    at = timeline.steps[step]
    terminal.plain(
        f"{_clock(at)} {timeline.since_fault(step):+7.1f} s  {step:<9} {timeline.details.get(step, '')}".rstrip()
    )


def _conclude(scenario: Scenario, timeline: Timeline, terminal: Terminal) -> None:
    if timeline.closed:
        terminal.say(f"[green]✓[/] The loop closed: {scenario.alert} → {scenario.handler} → proof → quiet.")
        return
    why = f"the incident ended as {timeline.outcome}" if timeline.failed else f"not within {scenario.within:.0f} s"
    terminal.say(f"[red]✗[/] The loop did not close: {why}. `make logs PROGRAM=remediation` and the console say more.")


def _report(reactions: list[float], terminal: Terminal, *, budget: bool) -> None:
    ordered = sorted(reactions)
    p50, p95 = (ordered[math.ceil(len(ordered) * q) - 1] for q in (0.5, 0.95))
    against = f" (budget: p95 ≤ {_BUDGET_SECONDS} s)" if budget else ""
    figures = f"p50 {p50:.1f} s, p95 {p95:.1f} s, max {ordered[-1]:.1f} s"
    terminal.say(f"Fault → handler starts, {len(ordered)} run(s): {figures}{against}")


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))
