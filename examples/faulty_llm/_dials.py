"""The dials of one provider: what may be set, to which values, and for which model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

__all__ = ["DialError", "Dials", "ProviderDials"]


class DialError(ValueError):
    """One or more dials were set to what they cannot take; `problems` has a sentence for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Dials:
    """How a provider answers. The defaults are a healthy, fairly quick one."""

    latency_seconds: float = 0.03
    """Wait before the response's status line."""
    time_to_first_token_seconds: float = 0.05
    """Wait between the status line and the first token."""
    tokens_per_second: float = 250.0
    error_ratio: float = 0.0
    """Share of requests answered with `error_status`."""
    error_status: int = 500
    retry_after_seconds: float = 1.0
    """Sent as Retry-After with 429 and 503."""
    stall_after_chunks: int | None = None
    """Fall silent after that many chunks, holding the connection until the dial is turned back or the client leaves."""
    requests_per_minute: int = 1_000_000
    """What is over is answered with 429 until the minute is over; each answer tells what is left."""
    cut_ratio: float = 0.0
    """Share of streams whose connection is cut when half of the reply is sent."""
    requests_waiting: int = 0
    """What the engine's metrics tell of its queue."""
    kv_cache_usage: float = 0.0
    """The least that the engine's metrics tell of its KV cache; above 0.95 a request is put back each second."""
    loaded: int = 1
    """0 for a model that the server does not have any more."""
    refuse: bool = False
    """Close the listening socket and cut what is connected. For the whole provider only."""
    malformed_ratio: float = 0.0
    """Share of chunks (or of plain bodies) that are broken: cut JSON, no choices, null content."""
    usage_missing_ratio: float = 0.0
    """Share of replies that do not say how many tokens they took."""
    context_tokens: int = 1_000_000
    """A longer prompt is refused."""
    most_tokens: int = 1_000_000
    """Where a reply ends, however many tokens the request allows."""
    filtered_ratio: float = 0.0
    """Share of replies that end in the middle, because of what a content filter saw in them."""


@dataclass(frozen=True, slots=True)
class _Number:
    low: float
    high: float
    whole: bool = False
    nullable: bool = False

    def read(self, value: object) -> float | int | None:
        """The value as the dial holds it; raises ValueError with what is allowed."""
        if value is None and self.nullable:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(self.allowed)  # noqa: TRY004 -- one kind of error, for the sentence it carries
        # False for NaN, too.
        if not self.low <= value <= self.high or (self.whole and value != int(value)):
            raise ValueError(self.allowed)
        return int(value) if self.whole else float(value)

    @property
    def allowed(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        return f"{kind} from {self.low:g} to {self.high:g}{' or null' if self.nullable else ''}"


_NUMBERS: Mapping[str, _Number] = {
    "latency_seconds": _Number(0, 600),
    "time_to_first_token_seconds": _Number(0, 600),
    "tokens_per_second": _Number(0.1, 100_000),
    "error_ratio": _Number(0, 1),
    "error_status": _Number(400, 599, whole=True),
    "retry_after_seconds": _Number(0, 3600),
    "stall_after_chunks": _Number(0, 1_000_000, whole=True, nullable=True),
    "requests_per_minute": _Number(1, 1_000_000, whole=True),
    "cut_ratio": _Number(0, 1),
    "malformed_ratio": _Number(0, 1),
    "requests_waiting": _Number(0, 1_000_000, whole=True),
    "kv_cache_usage": _Number(0, 1),
    "loaded": _Number(0, 1, whole=True),
    "usage_missing_ratio": _Number(0, 1),
    "context_tokens": _Number(1, 1_000_000, whole=True),
    "most_tokens": _Number(1, 1_000_000, whole=True),
    "filtered_ratio": _Number(0, 1),
}


@dataclass(frozen=True, slots=True)
class ProviderDials:
    """A provider's dials and, by model, the values that replace them for that model."""

    base: Dials = Dials()
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def for_model(self, model: str) -> Dials:
        return replace(self.base, **self.models.get(model, {}))

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self.base), "models": {model: dict(values) for model, values in self.models.items()}}

    def patched(self, body: object, known_models: tuple[str, ...]) -> ProviderDials:
        """
        These dials with the ones named in *body* changed.

        In `models`, a model or a dial set to null goes back to the provider's own value.
        Raises DialError naming every mistake, and changes nothing then.
        """
        if not isinstance(body, dict):
            raise DialError(["the body must be a JSON object of dials"])
        problems: list[str] = []
        base = _read({k: v for k, v in body.items() if k != "models"}, "", problems, refusable=True)
        models = {model: dict(values) for model, values in self.models.items()}
        wanted = body.get("models", {})
        if not isinstance(wanted, dict):
            problems.append("models: must be an object of dials by model")
            wanted = {}
        for model, values in wanted.items():
            if model not in known_models:
                problems.append(f"models.{model}: no such model, there are {', '.join(known_models)}")
            elif values is None:
                models.pop(model, None)
            elif not isinstance(values, dict):
                problems.append(f"models.{model}: must be an object of dials, or null for the provider's own")
            else:
                reset = {k for k, v in values.items() if v is None and k in _NUMBERS}
                new = _read({k: v for k, v in values.items() if k not in reset}, f"models.{model}.", problems)
                kept = {k: v for k, v in models.get(model, {}).items() if k not in reset}
                models[model] = {**kept, **new}
        if problems:
            raise DialError(problems)
        return ProviderDials(replace(self.base, **base), {model: values for model, values in models.items() if values})


def _read(values: dict[str, Any], path: str, problems: list[str], *, refusable: bool = False) -> dict[str, Any]:
    read: dict[str, Any] = {}
    names = [*_NUMBERS, "refuse"] if refusable else list(_NUMBERS)
    for name, value in values.items():
        if name == "refuse" and refusable:
            if isinstance(value, bool):
                read[name] = value
            else:
                problems.append(f"{path}refuse: {_shown(value)} is not allowed, it must be true or false")
        elif name in _NUMBERS:
            try:
                read[name] = _NUMBERS[name].read(value)
            except ValueError as error:
                problems.append(f"{path}{name}: {_shown(value)} is not allowed, it must be {error}")
        else:
            problems.append(f"{path}{name}: no such dial, there are {', '.join(names)}")
    return read


def _shown(value: object) -> str:
    return repr(value)[:60]
