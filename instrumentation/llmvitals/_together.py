"""Several series moved at once, for little more than one: most of a move is its lock and its call."""

from bisect import bisect_left
from collections.abc import Callable, Sequence

from llmvitals._series import LOCK, CounterSeries, HistogramSeries

# ruff: noqa: SLF001 -- the other half of those series


def inc_both(
    first: CounterSeries, per_first: float, second: CounterSeries, per_second: float, otherwise: Callable[..., None]
) -> Callable[..., None]:
    """Make what moves two counters by two amounts, each times its factor. Given details, too, *otherwise* does it."""

    def inc(amount: float, other: float, details: object) -> None:
        if details is not None:
            otherwise(amount, other, details)
            return
        if amount < 0 or other < 0:
            raise ValueError(f"counters cannot be moved by {amount} and {other}: they only go up")
        with LOCK:
            first._cells[0] += amount * per_first
            second._cells[0] += other * per_second

    return inc


def observe_three(series: Sequence[object]) -> Callable[[float, int, int], None] | None:
    """Make what puts an amount into each of three histograms, the last two of one family; None for any other series."""
    histograms = [each for each in series if isinstance(each, HistogramSeries)]
    if len(series) != 3 or len(histograms) != 3:
        return None
    first, second, third = histograms
    bounds, other_bounds = first.bounds, second.bounds

    def observe(amount: float, other: int, last: int) -> None:
        index = bisect_left(bounds, amount)
        other_index = bisect_left(other_bounds, other)
        last_index = bisect_left(other_bounds, last)
        with LOCK:
            cells = first._cells
            cells[-1] += amount
            cells[index] += 1.0
            cells = second._cells
            cells[-1] += other
            cells[other_index] += 1.0
            cells = third._cells
            cells[-1] += last
            cells[last_index] += 1.0

    return observe
