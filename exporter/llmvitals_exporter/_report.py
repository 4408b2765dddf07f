"""What ``--list`` and ``--check`` print."""

from collections.abc import Iterable, Iterator, Sequence

from llmvitals_exporter._declaration import Declaration
from llmvitals_exporter._runner import Outcome, State


def listing(collectors: Sequence[Declaration]) -> str:
    rows = [(collector.name, f"{len(collector.families)} families", collector.help) for collector in collectors]
    return "\n".join(_columns(rows))


def check(outcomes: Sequence[Outcome]) -> tuple[str, int]:
    """The report and the exit status: 1 when a collector failed."""
    rows = []
    for outcome in outcomes:
        series = sum(map(len, outcome.samples.values()))
        found = f"{series} series in {outcome.seconds * 1000:.1f} ms" if outcome.state is State.OK else outcome.error
        rows.append((outcome.collector, outcome.state.value, found))
    failed = [outcome for outcome in outcomes if outcome.state in (State.FAILED, State.STUCK)]
    summary = f"{len(failed)} of {len(outcomes)} collectors failed" if failed else "all collectors work"
    return "\n".join([*_columns(rows), summary]), int(bool(failed))


def _columns(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    table = [tuple(row) for row in rows]
    widths = [max(map(len, column), default=0) for column in zip(*table, strict=True)]
    for row in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
