"""What may be changed while the companion runs, and the sets of values that have a name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import llmvitals
from llmvitals import Batcher, Vitals

__all__ = ["Tuning", "offer_tunables"]


@dataclass(slots=True)
class Tuning:
    """
    Read at each use, so that a change shows with the next request.

    Each field is set whole by one assignment, which any thread may do.
    """

    provider: str = "primary"
    """Asked first; the other one is the fallback."""
    thinker_model: str = "thinker"
    """Who answers in the thinker's mode."""
    max_tokens: int = 512
    response_cache_ttl_seconds: float = 300.0


PROFILES: dict[str, dict[str, Any]] = {
    "balanced": {"thinker_model": "thinker", "max_tokens": 512, "response_cache_ttl_seconds": 300},
    "speed": {"thinker_model": "talker", "max_tokens": 128},
    "memory": {"max_tokens": 256, "response_cache_ttl_seconds": 60},
}


ENVIRONMENTS = ("development", "production", "high_load")


def offer_tunables(vitals: Vitals, tuning: Tuning, providers: tuple[str, ...], outbox: Batcher[Any]) -> None:
    """Tell the agent what it may change. A provider that is not configured is no choice."""

    def tunable(name: str, **limits: Any) -> None:
        vitals.tunable(name, get=partial(getattr, tuning, name), set=partial(setattr, tuning, name), **limits)

    def batch(field: str, low: float, high: float) -> None:
        get, put = partial(getattr, outbox, field), partial(setattr, outbox, field)
        vitals.tunable(f"batch_{field}", get=get, set=put, low=low, high=high)

    tunable("provider", choices=providers)
    tunable("thinker_model", choices=("thinker", "talker"))
    tunable("max_tokens", low=16, high=2048)
    tunable("response_cache_ttl_seconds", low=30, high=3600)
    batch("max_items", 1, 100_000)
    batch("max_wait_seconds", 0.0, 60.0)
    for name, values in PROFILES.items():
        vitals.profile(name, values)
    for environment in ENVIRONMENTS:
        # With what the variables say, in each.
        numbers = llmvitals.settings(environment)
        vitals.profile(
            environment,
            {"batch_max_items": numbers.batch_max_items, "batch_max_wait_seconds": numbers.batch_max_wait_seconds},
        )
