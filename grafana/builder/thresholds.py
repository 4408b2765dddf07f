"""
The numbers at which a person should act, each the number of an alert.

`tests/grafana/test_thresholds.py` reads them back from `prometheus/rules/`, so that a panel cannot turn red at a value
where no alert fires.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Limit:
    """Where a panel turns yellow and where it turns red, and the alert that owns the numbers."""

    alert: str
    warning: float | None = None
    critical: float | None = None
    # Trouble is below the number, not above it (a hit rate).
    low: bool = False
    # The number itself is well, and common: a limit that is reached and kept.
    reached_is_well: bool = False


ERROR_RATIO = Limit("LLMErrorRatioHigh", warning=0.05)
# Times the limit that the application itself gives, 10 by default.
USER_PROFILES = Limit("LLMUserProfilesHigh", warning=1, critical=5, reached_is_well=True)
MEMORY_RATIO = Limit("LLMMemoryAboveBaseline", warning=1.5)
CACHE_HIT_RATIO = Limit("LLMCacheHitRateLow", warning=0.7, low=True)
POOL_RATIO = Limit("LLMPoolNearlyFull", warning=0.8)
WATCHDOG_AGE = Limit("RemediationFailing", critical=180)
RECONCILE_AGE = Limit("RemediationFailing", warning=120)
INBOX_AGE = Limit("RemediationFailing", critical=30)
GPU_MEMORY_RATIO = Limit("GPUMemoryNearlyFull", warning=0.95)
GPU_TEMPERATURE = Limit("GPUTemperatureHigh", warning=85, critical=92)
API_ERROR_RATIO = Limit("LLMApiErrors", warning=0.05)
API_SECONDS = Limit("LLMApiSlow", warning=0.5)
STREAMS_ABORTED = Limit("LLMStreamAborted", warning=0.05)
RETRY_RATIO = Limit("LLMRetryStorm", warning=0.3)
LIMIT_HEADROOM = Limit("LLMLimitNearlySpent", warning=0.1, low=True)
MODULE_ERROR_RATIO = Limit("LLMModuleFailing", warning=0.5)
MEMORY_FILL = Limit("LLMSemanticMemoryNearlyFull", warning=0.9)
WAL_BYTES = Limit("LLMSqliteWalLarge", warning=67108864)
# Of the application's own budget for a day.
DAY_BUDGET = Limit("LLMDailyBudgetExceeded", critical=1, reached_is_well=True)
COST_PER_HOUR = Limit("LLMCostHigh", warning=10, critical=50)
OPEN_FILES = Limit("LLMFileDescriptorsHigh", warning=0.8)
# Seconds of a minute.
LOOP_BLOCKED = Limit("LLMEventLoopBlocked", warning=1)
CLOSE_WAIT = Limit("LLMConnectionsNotClosed", warning=20)
GPU_MEMORY_TEMPERATURE = Limit("GPUTemperatureHigh", warning=95, critical=105)
MEMORY_LEFT = Limit("HostMemoryLow", warning=0.1, critical=0.05, low=True)
DISK_LEFT = Limit("HostDiskNearlyFull", warning=0.1, critical=0.05, low=True)
CGROUP_MEMORY = Limit("ContainerMemoryNearlyFull", warning=0.9)
NOTIFICATION_QUEUE = Limit("PrometheusNotificationQueueFull", warning=0.5)
# Of a page's short windows; the rules multiply it with the budget.
BURN_RATE = Limit("LLMErrorBudgetBurn", critical=14.4)
# No alert's number, and the definition of a promise that is broken.
BUDGET_LEFT = Limit("", critical=0, low=True)

# Yes or no: one of these is enough for a person to look.
ANY_IS_BAD = Limit("", critical=1)
ANY_IS_WARNING = Limit("", warning=1)

LIMITS = (
    ERROR_RATIO,
    USER_PROFILES,
    MEMORY_RATIO,
    CACHE_HIT_RATIO,
    POOL_RATIO,
    GPU_MEMORY_RATIO,
    GPU_TEMPERATURE,
    WATCHDOG_AGE,
    RECONCILE_AGE,
    INBOX_AGE,
    API_ERROR_RATIO,
    API_SECONDS,
    STREAMS_ABORTED,
    RETRY_RATIO,
    LIMIT_HEADROOM,
    MODULE_ERROR_RATIO,
    MEMORY_FILL,
    WAL_BYTES,
    COST_PER_HOUR,
    OPEN_FILES,
    LOOP_BLOCKED,
    CLOSE_WAIT,
    GPU_MEMORY_TEMPERATURE,
    MEMORY_LEFT,
    DISK_LEFT,
    CGROUP_MEMORY,
    NOTIFICATION_QUEUE,
)


def steps(limit: Limit | None) -> Mapping[str, Any]:
    """Grafana's ``thresholds`` for *limit*; without one, a single neutral step: no judgement, no colour."""
    if limit is None:
        return {"mode": "absolute", "steps": [{"color": "text", "value": None}]}
    if limit.low:
        return {"mode": "absolute", "steps": _falling(limit)}
    rising: list[dict[str, Any]] = [{"color": "green", "value": None}]
    for color, value in (("yellow", limit.warning), ("red", limit.critical)):
        if value is not None:
            # Grafana colours from the number on; the alert fires only above it.
            above = math.nextafter(value, math.inf) if limit.reached_is_well else value
            rising.append({"color": color, "value": above})
    return {"mode": "absolute", "steps": rising}


def line_steps(limit: Limit | None) -> Mapping[str, Any]:
    """
    `steps` for lines across a chart.

    Grafana draws each line in the colour that begins there, upwards: a falling limit would be green. Below a step that
    is transparent it takes the colour that ends there.
    """
    found = steps(limit)
    if limit is None or not limit.low:
        return found
    return {**found, "steps": [*found["steps"][:-1], found["steps"][-1] | {"color": "transparent"}]}


def _falling(limit: Limit) -> list[dict[str, Any]]:
    """From the worst up: each number is where its colour ends."""
    bounds = [("red", limit.critical), ("yellow", limit.warning)]
    colors = [color for color, value in bounds if value is not None] + ["green"]
    values = [None, *(value for _, value in bounds if value is not None)]
    return [{"color": color, "value": value} for color, value in zip(colors, values, strict=True)]
