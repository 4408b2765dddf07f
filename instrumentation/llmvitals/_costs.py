"""What else is made of a call's token usage, where it is asked for: its cost, and a counter for each sort of token."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from functools import partial
from typing import Any

from llmvitals import _genai_families as families
from llmvitals._family import Family
from llmvitals._prices import Price, Prices
from llmvitals._recording import Recorder, UsageReader, label_text
from llmvitals._series import CounterSeries
from llmvitals._together import inc_both

# Beyond this many combinations of provider and models, the look-ups begin anew.
_KNOWN = 1000

Details = Mapping[str, int] | None


class Costs:
    """Counts what calls cost by a table of *prices*, and those that it has no price for. Without *prices*, that is all.

    A call is priced by the model that answered, or, where the table does not know it, by the one that was asked for.
    """

    def __init__(self, recorder: Recorder, prices: Prices | None) -> None:
        self._recorder = recorder
        self._prices = prices
        self._day = _today()
        self._known: dict[tuple[str, ...], Price | None] = {}
        recorder.look_at_scrape(self._look_at_the_date)

    def reader(self, base: tuple[str, ...], both: bool) -> UsageReader:
        """What counts the calls with these labels, of which *both* input and output tokens are told, or one."""
        provider, asked, answered = texts = tuple(map(label_text, base[1:4]))
        try:
            price = self._known[texts]
        except KeyError:
            price = self._find(provider, asked, answered)
        if price is None:
            return partial(self._unpriced, provider, asked)
        detailed = partial(self._detailed, (provider, asked), price)
        if not both:
            return detailed
        wanted = [(families.COST, (provider, asked, kind)) for kind in ("input", "output")]
        return _pair(self._recorder, ("cost", provider, asked), wanted, (price.input, price.output), detailed)

    def _unpriced(self, provider: str, asked: str, *_: Any) -> None:
        self._recorder.child(families.UNPRICED_CALLS, provider, asked).inc()

    def _detailed(
        self, labels: tuple[str, str], price: Price, tokens_in: int | None, tokens_out: int | None, details: Details
    ) -> None:
        cached, written, reasoning = ((details or {}).get(kind, 0) for kind in ("cached", "cache_write", "reasoning"))
        # Never below nothing: some count these apart from the rest.
        plain_in, plain_out = max(0, (tokens_in or 0) - cached - written), max(0, (tokens_out or 0) - reasoning)
        dollars = {
            "input": plain_in * price.input + written * price.cache_write_input,
            "output": plain_out * price.output + reasoning * price.reasoning,
            "cached": cached * price.cached_input,
        }
        for kind, amount in dollars.items():
            if amount:
                self._recorder.child(families.COST, *labels, kind).inc(amount)

    def _find(self, provider: str, asked: str, answered: str) -> Price | None:
        price = None
        if self._prices is not None:
            price = self._prices.of(provider, answered, self._day) if answered else None
            price = price or self._prices.of(provider, asked, self._day)
        if len(self._known) >= _KNOWN:
            self._known.clear()
        self._known[provider, asked, answered] = price
        return price

    def _look_at_the_date(self) -> None:
        """A price may come into force today."""
        today = _today()
        if today != self._day:
            self._day = today
            self._known.clear()
            self._recorder.kept.clear()


def _today() -> date:
    return datetime.now(UTC).date()


class InferenceUsage:
    """Counts tokens by what they were, under the names proposed to OpenTelemetry's conventions."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def reader(self, base: tuple[str, ...], both: bool) -> UsageReader:
        """What counts the calls with these labels, of which *both* input and output tokens are told, or one."""
        texts = tuple(map(label_text, base))
        wanted = [(families.INPUT_TOKENS, texts), (families.OUTPUT_TOKENS, texts)]
        detailed = partial(self._detailed, texts)
        return _pair(self._recorder, ("usage", texts), wanted, (1, 1), detailed) if both else detailed

    def _detailed(self, base: tuple[str, ...], tokens_in: int | None, tokens_out: int | None, details: Details) -> None:
        told = {"input": tokens_in, "output": tokens_out, **(details or {})}
        for kind, tokens in told.items():
            if tokens is not None:
                self._recorder.child(_TOKENS[kind], *base).inc(tokens)


_TOKENS = {
    "input": families.INPUT_TOKENS,
    "output": families.OUTPUT_TOKENS,
    "cached": families.CACHE_READ_INPUT_TOKENS,
    "cache_write": families.CACHE_WRITE_INPUT_TOKENS,
    "reasoning": families.REASONING_OUTPUT_TOKENS,
}


def _pair(
    recorder: Recorder,
    key: tuple[Any, ...],
    wanted: Sequence[tuple[Family, tuple[str, ...]]],
    factors: tuple[float, float],
    detailed: UsageReader,
) -> UsageReader:
    """What moves two counters by a call's input and output tokens times *factors*; *detailed* does it the long way."""
    first, second = recorder.keep(key, *wanted)
    is_kept = recorder.kept.pop(key, None) is not None
    if is_kept and isinstance(first, CounterSeries) and isinstance(second, CounterSeries):
        return inc_both(first, factors[0], second, factors[1], detailed)
    return detailed
