"""Which fault of the demo makes which alerts fire."""

import itertools
import time
from collections.abc import Callable

from tests.stack.app_faults import APP_FAULTS
from tests.stack.demo_world import Undo, World
from tests.stack.fault import Fault
from tests.stack.gpu_faults import GPU_FAULTS
from tests.stack.machine_faults import MACHINE_FAULTS
from tests.stack.server_faults import SERVER_FAULTS
from tests.stack.yesterday import YESTERDAY_FAULTS


def _nothing() -> None:
    pass


def _unique_questions(world: World) -> Undo:
    return world.repeat(lambda number: world.ask(f"What is {number} times {time.time_ns()}?"), 0.3)


def _queue(world: World) -> Undo:
    held = []
    stop = world.repeat(lambda _: held.append(world.hold_generation()), 12)

    def undo() -> None:
        stop()
        for connection in held:
            connection.close()

    return undo


def _blocks(world: World) -> Undo:
    return world.repeat(lambda _: world.apis.companion("/demo/block", {"seconds": 0.8}), 7)


def _attachments(world: World) -> Undo:
    return world.repeat(lambda _: world.apis.companion("/demo/memory", {"mebibytes": 8}), 30)


def _users(count: int) -> Callable[[World], Undo]:
    def turn_on(world: World) -> Undo:
        world.apis.companion("/demo/users", {"count": count})
        return _nothing

    return turn_on


def _crashes(world: World) -> Undo:
    return world.repeat(lambda _: world.apis.companion("/demo/crash", {}, answered=False), 45)


def _too_many_at_once(world: World) -> Undo:
    undo = world.llm("primary", models={"talker": {"latency_seconds": 10}})
    asking = [
        world.repeat(lambda _, who=who: world.ask(f"Tell {who} about {time.time_ns()}"), 0.5) for who in range(45)
    ]

    def stop() -> None:
        undo()
        for one in asking:
            one()

    return stop


def _repeated_piles(world: World) -> Undo:
    return world.repeat(lambda number: world.apis.companion("/demo/users", {"count": 20 + number}), 45)


def _page_over_the_limit() -> str:
    return "".join(f'fault_series{{number="{number}"}} 1\n' for number in range(50_001))


_COUNTING = itertools.count()


def _page_of_doubles() -> str:
    # Always the same time, and another value each time.
    return "".join(f'fault_double{{number="{n}"}} {next(_COUNTING)} {_BEGUN}\n' for n in range(20))


_BEGUN = int(time.time() * 1000)

WRONG_PRICES = "the prices are a million times too high, and the thinker's is missing"

FAULTS: tuple[Fault, ...] = (
    Fault("nothing at all", ("Watchdog",), 0, 30, lambda _: _nothing),
    Fault(WRONG_PRICES, ("LLMCostHigh", "LLMPriceMissing"), 0, 1500, lambda _: _nothing),
    Fault(
        "a day may cost 5 dollars, and the prices are a million times too high",
        ("LLMDailyBudgetExceeded", "LLMDailyBudgetForecast"),
        0,
        2100,
        lambda _: _nothing,
    ),
    Fault("nobody has looked after the prices since January", ("LLMPriceTableStale",), 0, 3780, lambda _: _nothing),
    Fault(
        "the webhook that people are told by answers nobody",
        ("AlertmanagerNotificationsFailing",),
        0,
        480,
        lambda _: _nothing,
    ),
    Fault("`.env` says that there is a GPU of AMD's", ("ExporterCollectorFailing",), 0, 120, lambda _: _nothing),
    Fault("remediation's kill switch is engaged", ("RemediationStopped",), 0, 960, World.kill_switch),
    Fault(
        "more than half of the primary provider's answers are a 429, 400, 401, 500 or 504 in turn; half of the streams "
        "are cut",
        (
            "LLMRateLimited",
            "LLMRequestsInvalid",
            "LLMAuthenticationFailing",
            "LLMTimeoutsHigh",
            "LLMErrorRatioHigh",
            "LLMErrorBudgetBurn",
            "LLMRetryStorm",
            "LLMRetriesExhausted",
            "LLMStreamAborted",
            "LLMLimitRejecting",
            "LLMFallbackActive",
            "LLMApiErrors",
        ),
        0,
        780,
        lambda world: world.rotate("primary", (429, 400, 401, 500, 504), cut_ratio=0.5),
    ),
    Fault(
        "the microphone is so noisy that hardly a word is understood",
        ("LLMVoiceUnreliable", "LLMVoiceBudgetBurn"),
        0,
        300,
        lambda world: world.companion(voice_noise=0.4),
    ),
    Fault(
        "each search of the journal takes 3 s longer",
        ("LLMSemanticSearchSlow",),
        0,
        480,
        lambda world: world.companion(search_seconds=3),
    ),
    Fault(
        "every run of a background module fails",
        ("LLMModuleFailing",),
        0,
        400,
        lambda world: world.companion(module_error_ratio=1),
    ),
    Fault("hardly a question comes twice", ("LLMCacheHitRateLow",), 0, 480, _unique_questions),
    Fault(
        "hundreds of idle clients take the companion's files up", ("LLMFileDescriptorsHigh",), 0, 720, World.few_files
    ),
    Fault("a server of models answers ever later", ("InferenceQueueGrowing",), 0, 900, _queue),
    Fault("attachments pile up, 8 MiB each 30 s", ("LLMMemoryGrowth",), 0, 900, _attachments),
    Fault(
        "Prometheus's configuration has a mistake",
        ("PrometheusConfigReloadFailed",),
        0,
        180,
        lambda world: world.spoilt("PROMETHEUS", "prometheus", "prometheus.yml"),
    ),
    Fault(
        "Alertmanager's configuration has a mistake",
        ("AlertmanagerConfigReloadFailed",),
        0,
        180,
        lambda world: world.spoilt("ALERTMANAGER", "alertmanager", "alertmanager.yml"),
    ),
    Fault(
        "a target has 50,001 series",
        ("PrometheusScrapeLimitHit",),
        0,
        600,
        lambda world: world.target("too-large", _page_over_the_limit),
    ),
    Fault(
        "a target gives old samples with new values",
        ("PrometheusSamplesRejected",),
        0,
        1000,
        lambda world: world.target("doubles", _page_of_doubles),
    ),
    Fault("a target is nobody", ("TargetDown",), 0, 60, lambda world: world.target("nobody", None)),
    Fault("that target is no target any more", ("TargetAbsent",), 60, 600, lambda _: _nothing),
    Fault(
        "a recording rule joins many with many",
        ("PrometheusRuleFailing",),
        200,
        180,
        lambda world: world.rule("up * on (no_such_label) up"),
    ),
    Fault(
        "each run of a background module takes five minutes",
        ("LLMModuleOverdue",),
        420,
        360,
        lambda world: world.companion(module_seconds=300),
    ),
    Fault(
        "Prometheus knows no Alertmanager",
        ("PrometheusNotConnectedToAlertmanager",),
        500,
        450,
        World.without_alertmanager,
    ),
    Fault(
        "one turn in two seconds is all that the companion grants",
        ("LLMLimitNearlySpent", "LLMLimitRejecting"),
        800,
        150,
        lambda world: world.companion(turns_per_second=0.5),
    ),
    Fault(
        "the event loop stands still for 0.8 s, again and again",
        ("LLMEventLoopBlocked", "LLMApiSlow"),
        800,
        450,
        _blocks,
    ),
    Fault(
        "the primary provider refuses connections",
        ("LLMProviderDown", "LLMCircuitBreakerOpen", "InferenceServerDown"),
        980,
        90,
        lambda world: world.llm("primary", refuse=True),
    ),
    Fault(
        "the primary's thinker takes 9 s longer",
        ("LLMLatencyHigh",),
        1110,
        180,
        lambda world: world.llm("primary", models={"thinker": {"latency_seconds": 9}}),
    ),
    Fault(
        "more is asked at once than there are connections",
        ("LLMPoolNearlyFull", "LLMPoolWaiting", "LLMLatencyBudgetBurn"),
        1310,
        200,
        _too_many_at_once,
    ),
    Fault("41 user profiles pile up", ("LLMUserProfilesHigh",), 1540, 30, _users(41)),
    Fault("70 user profiles pile up", ("LLMUserProfilesHigh",), 1580, 30, _users(70)),
    Fault(
        "160 MiB of attachments are kept",
        ("LLMMemoryAboveBaseline",),
        1610,
        40,
        lambda world: (world.apis.companion("/demo/memory", {"mebibytes": 160}), _nothing)[1],
    ),
    Fault("the companion crashes, four times", ("TargetRestarting", "TargetDown"), 1660, 170, _crashes),
    Fault("the viewer of dashboards is stopped", ("GrafanaDown",), 0, 180, lambda world: world.stop("viewer")),
    Fault("remediation is stopped", ("LLMAgentDisconnected",), 1850, 200, lambda world: world.stop("remediation")),
    Fault(
        "Alertmanager is stopped, and user profiles pile up meanwhile",
        ("PrometheusNotificationsFailing", "RemediationFailing", "RemediationErrors"),
        2070,
        420,
        lambda world: _both(world.stop("alertmanager"), _repeated_piles(world)),
    ),
    *APP_FAULTS,
    *GPU_FAULTS,
    *MACHINE_FAULTS,
    *SERVER_FAULTS,
    *YESTERDAY_FAULTS,
)


def _both(first: Undo, second: Undo) -> Undo:
    def undo() -> None:
        second()
        first()

    return undo
