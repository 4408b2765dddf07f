"""What else is made of a call's token usage, where it is asked for: its cost, and a counter for each sort of token."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from functools import partial
from typing import Any

from llmvitals import _genai_families as families
from llmvitals._family import Family
from llmvitals._prices import Price, Prices
from llmvitals._recording import Recorder, label_text
from llmvitals._replies import Details, UsageReader
from llmvitals._series import CounterSeries
from llmvitals._together import Counters, Pair

# Beyond this many combinations of provider and models, the look-ups begin anew.
_KNOWN = 1000


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
        if prices is not None:
            recorder.child(families.PRICES_UPDATED).set(prices.updated)
            for period in ("day", "month"):
                if period in prices.budgets:
                    recorder.child(families.BUDGET, period).set(prices.budgets[period])
                else:  # The table before this one may have had it.
                    recorder.forget(families.BUDGET, period)

    def reader(self, base: tuple[str, ...], both: bool) -> UsageReader:
        """What counts the calls with these labels, of which *both* input and output tokens are told, or one."""
        provider, asked, answered = texts = tuple(map(label_text, base[1:4]))
        try:
            price = self._known[texts]
        except KeyError:
            price = self._find(provider, asked, answered)
        if price is None:
            return partial(self._unpriced, provider, asked)
        wanted = [(families.COST, (provider, asked, kind)) for kind in ("input", "output", "cached")]
        detailed = partial(_add_cost, Counters(self._recorder, *wanted), price)
        return _pair(self._recorder, wanted[:2], (price.input, price.output), detailed) if both else detailed

    def _unpriced(self, provider: str, asked: str, *_: Any) -> None:
        self._recorder.child(families.UNPRICED_CALLS, provider, asked).inc()

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


def _add_cost(
    counters: Counters, price: Price, tokens_in: int | None, tokens_out: int | None, details: Details | None
) -> None:
    plain_in, plain_out = tokens_in or 0, tokens_out or 0
    cached, written, reasoning = details or _NONE
    dollars_in = dollars_out = 0.0
    if cached:
        plain_in -= cached
    if written:
        plain_in -= written
        dollars_in = written * price.cache_write_input
    if reasoning:
        plain_out -= reasoning
        dollars_out = reasoning * price.reasoning
    # Never below nothing: some count these apart from the rest.
    if plain_in > 0:
        dollars_in += plain_in * price.input
    if plain_out > 0:
        dollars_out += plain_out * price.output
    # What costs nothing is not shown.
    counters.inc(dollars_in or None, dollars_out or None, cached * price.cached_input or None if cached else None)


_NONE = (None, None, None)


class InferenceUsage:
    """Counts tokens by what they were, under the names proposed to OpenTelemetry's conventions."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def reader(self, base: tuple[str, ...], both: bool) -> UsageReader:
        """What counts the calls with these labels, of which *both* input and output tokens are told, or one."""
        texts = tuple(map(label_text, base))
        wanted = [(family, texts) for family in _TOKENS]
        detailed = partial(_add_tokens, Counters(self._recorder, *wanted))
        return _pair(self._recorder, wanted[:2], (1, 1), detailed) if both else detailed


_TOKENS = (
    families.INPUT_TOKENS,
    families.OUTPUT_TOKENS,
    families.CACHE_READ_INPUT_TOKENS,
    families.CACHE_WRITE_INPUT_TOKENS,
    families.REASONING_OUTPUT_TOKENS,
)


def _add_tokens(counters: Counters, tokens_in: int | None, tokens_out: int | None, details: Details | None) -> None:
    counters.inc(tokens_in, tokens_out, *(details or _NONE))


def _pair(
    recorder: Recorder,
    wanted: Sequence[tuple[Family, tuple[str, ...]]],
    factors: tuple[float, float],
    detailed: UsageReader,
) -> UsageReader:
    """What moves two counters by a call's input and output tokens times *factors*; *detailed* does it the long way."""
    first, second = children = [recorder.child(family, *texts) for family, texts in wanted]
    lasting = all(recorder.lasts(*each, child) for each, child in zip(wanted, children, strict=True))
    if lasting and isinstance(first, CounterSeries) and isinstance(second, CounterSeries):
        return Pair((first, factors[0], second, factors[1]), detailed)
    return detailed
