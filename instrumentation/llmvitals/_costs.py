"""What else is made of a call's token usage, where it is asked for: its cost, and a counter for each sort of token."""

from collections.abc import Mapping
from datetime import UTC, date, datetime

from llmvitals import _genai_families as families
from llmvitals._prices import Price, Prices
from llmvitals._recording import Recorder, label_text

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

    def tell(
        self, base: tuple[str, ...], tokens_in: int | None, tokens_out: int | None, details: Mapping[str, int] | None
    ) -> None:
        """Count one call with these labels and tokens."""
        key = base[1:4]
        try:
            price = self._known[key]
        except Exception:  # noqa: BLE001 -- a new one mostly; else a label whose own __hash__ or __eq__ raises
            price = self._find(key)
        if price is None:
            self._recorder.child(families.UNPRICED_CALLS, key[0], key[1]).inc()
            return
        try:
            of_input, of_output = self._recorder.kept[key]
        except Exception:  # noqa: BLE001
            wanted = [(families.COST, (key[0], key[1], kind)) for kind in ("input", "output")]
            of_input, of_output = self._recorder.keep(key, *wanted)
        if details is not None:
            self._tell_details(key, price, tokens_in or 0, tokens_out or 0, details)
        else:
            if tokens_in is not None:
                of_input.inc(tokens_in * price.input)
            if tokens_out is not None:
                of_output.inc(tokens_out * price.output)

    def _tell_details(
        self, key: tuple[str, ...], price: Price, tokens_in: int, tokens_out: int, details: Mapping[str, int]
    ) -> None:
        cached, written, reasoning = (details.get(kind, 0) for kind in ("cached", "cache_write", "reasoning"))
        # Never below nothing: some count these apart from the rest.
        plain_in, plain_out = max(0, tokens_in - cached - written), max(0, tokens_out - reasoning)
        dollars = {
            "input": plain_in * price.input + written * price.cache_write_input,
            "output": plain_out * price.output + reasoning * price.reasoning,
            "cached": cached * price.cached_input,
        }
        for kind, amount in dollars.items():
            if amount:
                self._recorder.child(families.COST, key[0], key[1], kind).inc(amount)

    def _find(self, key: tuple[str, ...]) -> Price | None:
        texts = tuple(map(label_text, key))
        provider, asked, answered = texts
        price = None
        if self._prices is not None:
            price = self._prices.of(provider, answered, self._day) if answered else None
            price = price or self._prices.of(provider, asked, self._day)
        if len(self._known) >= _KNOWN:
            self._known.clear()
        self._known[texts] = price
        return price

    def _look_at_the_date(self) -> None:
        """A price may come into force today."""
        today = _today()
        if today != self._day:
            self._day = today
            self._known.clear()


def _today() -> date:
    return datetime.now(UTC).date()


class InferenceUsage:
    """Counts tokens by what they were, under the names proposed to OpenTelemetry's conventions."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def tell(
        self, base: tuple[str, ...], tokens_in: int | None, tokens_out: int | None, details: Mapping[str, int] | None
    ) -> None:
        """Count one call with these labels and tokens."""
        key = (base, tokens_in is None, tokens_out is None)
        try:
            children = self._recorder.kept[key]
        except Exception:  # noqa: BLE001 -- as in a call
            wanted = [(families.INPUT_TOKENS, base)] if tokens_in is not None else []
            wanted += [(families.OUTPUT_TOKENS, base)] if tokens_out is not None else []
            children = self._recorder.keep(key, *wanted)
        if tokens_in is not None:
            children[0].inc(tokens_in)
        if tokens_out is not None:
            children[-1].inc(tokens_out)
        for kind, tokens in (details or {}).items():
            self._recorder.child(_DETAILS[kind], *base).inc(tokens)


_DETAILS = {
    "cached": families.CACHE_READ_INPUT_TOKENS,
    "cache_write": families.CACHE_WRITE_INPUT_TOKENS,
    "reasoning": families.REASONING_OUTPUT_TOKENS,
}
