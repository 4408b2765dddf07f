"""Several series moved at once, for little more than one: most of a move is its lock and its call."""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from llmvitals._family import Family
from llmvitals._recording import Recorder
from llmvitals._replies import Details, UsageReader
from llmvitals._series import LOCK, CounterSeries, GaugeSeries, HistogramSeries

# ruff: noqa: SLF001 -- the other half of those series


Moves = tuple[CounterSeries, float, CounterSeries, float]
"""Two counters that go up by a call's input and output tokens, each times its factor."""

Together = Callable[[float, int, int, Iterable[Moves]], None]
"""Given seconds, input and output tokens, none of them negative, and what else these move."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A `UsageReader` that only *moves* two counters; of a call that is known in more detail, *otherwise* is told."""

    moves: Moves
    otherwise: UsageReader

    def __call__(self, tokens_in: int | None, tokens_out: int | None, details: Details | None) -> None:
        if details is not None or tokens_in is None or tokens_out is None:
            self.otherwise(tokens_in, tokens_out, details)
        else:
            first, per_first, second, per_second = self.moves
            first.inc(tokens_in * per_first)
            second.inc(tokens_out * per_second)


def end_together(
    in_flight: object, seconds: object, tokens_in: object, tokens_out: object, attempts: object
) -> Together | None:
    """Make what ends a call in all its series: one less in flight, an amount into each of three histograms, the last
    two of one family, and, unless *attempts* is None, one attempt more. None for series of any other kind.
    """
    if not (
        isinstance(in_flight, GaugeSeries)
        and isinstance(seconds, HistogramSeries)
        and isinstance(tokens_in, HistogramSeries)
        and isinstance(tokens_out, HistogramSeries)
        and (attempts is None or isinstance(attempts, CounterSeries))
    ):
        return None
    # Whole numbers are compared with whole ones in half the time.
    bounds, sizes = seconds.bounds, tuple(int(bound) if bound == int(bound) else bound for bound in tokens_in.bounds)

    def end(amount: float, taken: int, given: int, moves: Iterable[Moves]) -> None:
        index = bisect_left(bounds, amount)
        index_in = bisect_left(sizes, taken)
        index_out = bisect_left(sizes, given)
        with LOCK:
            in_flight._cells[0] -= 1.0
            cells = seconds._cells
            cells[-1] += amount
            cells[index] += 1.0
            cells = tokens_in._cells
            cells[-1] += taken
            cells[index_in] += 1.0
            cells = tokens_out._cells
            cells[-1] += given
            cells[index_out] += 1.0
            if attempts is not None:
                attempts._cells[0] += 1.0
            for first, per_first, second, per_second in moves:
                first._cells[0] += taken * per_first
                second._cells[0] += given * per_second

    return end


class Counters:
    """Counters that are moved at once; each appears when it is first moved."""

    def __init__(self, recorder: Recorder, *wanted: tuple[Family, tuple[str, ...]]) -> None:
        self._recorder = recorder
        self._wanted = wanted
        self._known: list[Any] = [None] * len(wanted)
        self._unknown = tuple(range(len(wanted)))
        """Which have not been moved yet, or must be asked for each time: see `Recorder.lasts`."""

    def inc(self, *amounts: float | None) -> None:
        """Move each by its amount, and those not that have None."""
        for index in self._unknown:
            amount = amounts[index]
            if amount is not None:
                self._inc_unknown(index, amount)
                amounts = (*amounts[:index], None, *amounts[index + 1 :])
        with LOCK:
            for counter, amount in zip(self._known, amounts):  # noqa: B905 -- strict=True would cost as much as a counter
                if amount:
                    if amount < 0:
                        raise ValueError(f"a counter cannot be moved by {amount}: it only goes up")
                    counter._cells[0] += amount

    def _inc_unknown(self, index: int, amount: float) -> None:
        family, texts = self._wanted[index]
        counter = self._recorder.child(family, *texts)
        counter.inc(amount)
        if isinstance(counter, CounterSeries) and self._recorder.lasts(family, texts, counter):
            self._known[index] = counter
            self._unknown = tuple(other for other in self._unknown if other != index)
