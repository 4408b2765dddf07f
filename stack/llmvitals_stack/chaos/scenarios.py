"""The faults, as data: how each is turned on and off, and which alert and handler must answer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from llmvitals_stack.chaos.apis import Apis


@dataclass(frozen=True, slots=True)
class Scenario:
    """One fault, and the loop that must close over it.

    Attributes:
        inject: Turn the fault on; returns what was done, in words.
        clear: Turn it off again. Called after the proof, and whenever the run ends early.
        within: Seconds in which the whole loop must close.
        gauge: Whether a gauge shows the fault at once, so that the handler must start within 10 s.
        held: Whether the handler holds a change, and must put it back once the fault is gone.
        ready: What must be so before the fault means anything; a reason while it is not.
    """

    name: str
    alert: str
    handler: str
    inject: Callable[[Apis], str]
    within: float
    clear: Callable[[Apis], None] = lambda _: None
    gauge: bool = False
    held: bool = False
    ready: Callable[[Apis], str | None] = lambda _: None


def _slow_llm(apis: Apis) -> str:
    apis.dial("primary", {"models": {"thinker": {"latency_seconds": 9}}})
    return "the primary's model thinker takes 9 s longer"


def _provider_down(apis: Apis) -> str:
    apis.dial("primary", {"refuse": True})
    return "the primary provider refuses connections"


def _reset(apis: Apis) -> None:
    apis.reset_dials("primary")


def _users_pile_up(apis: Apis) -> str:
    apis.companion("/demo/users", {"count": 41})
    return "41 user profiles pile up"


def _memory_growth(apis: Apis) -> str:
    apis.companion("/demo/memory", {"mebibytes": 160})
    return "160 MiB of attachments are kept"


def _memory_ready(apis: Apis) -> str | None:
    ratios = apis.values('llmvitals_memory_baseline_ratio{job="companion"}')
    if not ratios:
        return "the companion has not taken its memory baseline yet"
    return None if max(ratios) < 1.4 else f"memory is at {max(ratios):.2f} of its baseline already"


def _users_ready(apis: Apis) -> str | None:
    users = apis.values('llmvitals_user_profiles_active{job="companion"}')
    return None if users and max(users) <= 10 else f"user profiles now: {users or 'unknown'}"


def _crash(apis: Apis) -> str:
    apis.companion("/demo/crash", {}, answered=False)
    return "the companion's process ends at once"


SCENARIOS: Mapping[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario("slow-llm", "LLMLatencyHigh", "speed_profile", _slow_llm, within=240, clear=_reset, held=True),
        Scenario("provider-down", "LLMProviderDown", "fail_over", _provider_down, within=240, clear=_reset, held=True),
        Scenario(
            "users-pile-up",
            "LLMUserProfilesHigh",
            "evict_users",
            _users_pile_up,
            within=90,
            gauge=True,
            ready=_users_ready,
        ),
        Scenario(
            "memory-growth",
            "LLMMemoryAboveBaseline",
            "relieve_memory",
            _memory_growth,
            within=120,
            gauge=True,
            ready=_memory_ready,
        ),
        Scenario("crash", "TargetDown", "restart_process", _crash, within=120),
    )
}
