"""What was served: requests by provider, model and outcome, and the tokens that went in and out."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Ledger", "Served"]


@dataclass(slots=True)
class Served:
    """One model of one provider. `outcomes`: completed, cancelled, malformed, invalid, cut, or error_<status>.

    A request is one HTTP request. What the SDK tells of its retries (0 for the first try) keeps apart in `attempts`.
    """

    requests: int = 0
    streams: int = 0
    in_flight: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    chunks: int = 0
    """Events sent on streams, without the closing ``[DONE]``."""

    usages: int = 0
    """Answers that told their tokens; the next two are what they told."""

    told_input_tokens: int = 0
    told_output_tokens: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    stream_outcomes: Counter[str] = field(default_factory=Counter)
    attempts: dict[str, Counter[str]] = field(default_factory=dict)
    """The outcomes, by the number of the retry."""

    def ended(self, outcome: str, *, stream: bool, attempt: str) -> None:
        self.outcomes[outcome] += 1
        if stream:
            self.stream_outcomes[outcome] += 1
        self.attempts.setdefault(attempt, Counter())[outcome] += 1

    def told(self, input_tokens: int, output_tokens: int) -> None:
        self.usages += 1
        self.told_input_tokens += input_tokens
        self.told_output_tokens += output_tokens

    def as_json(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "streams": self.streams,
            "in_flight": self.in_flight,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "chunks": self.chunks,
            "usages": self.usages,
            "told_input_tokens": self.told_input_tokens,
            "told_output_tokens": self.told_output_tokens,
            "outcomes": dict(self.outcomes),
            "stream_outcomes": dict(self.stream_outcomes),
            "attempts": {number: dict(outcomes) for number, outcomes in sorted(self.attempts.items())},
        }


@dataclass(slots=True)
class Ledger:
    """Counts since the start, by model; `last` and `generations` are what KoboldCpp's perf endpoint tells."""

    models: dict[str, Served] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    last_served: float = field(default_factory=time.monotonic)
    generations: int = 0
    last_input_tokens: int = 0
    last_output_tokens: int = 0
    last_process_seconds: float = 0.0
    last_generation_seconds: float = 0.0

    def of(self, model: str) -> Served:
        return self.models.setdefault(model, Served())

    @property
    def in_flight(self) -> int:
        return sum(served.in_flight for served in self.models.values())

    def completed(self, *, input_tokens: int, output_tokens: int, process: float, generation: float) -> None:
        """Note the figures of a generation that ran to its end; durations in seconds."""
        self.generations += 1
        self.last_served = time.monotonic()
        self.last_input_tokens = input_tokens
        self.last_output_tokens = output_tokens
        self.last_process_seconds = process
        self.last_generation_seconds = generation

    def as_json(self) -> dict[str, Any]:
        models = {model: served.as_json() for model, served in self.models.items()}
        return {
            "requests": sum(served.requests for served in self.models.values()),
            "in_flight": self.in_flight,
            "outcomes": dict(sum((served.outcomes for served in self.models.values()), Counter())),
            "models": models,
        }
