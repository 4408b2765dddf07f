"""Counters, gauges and histograms of our own: as exact as prometheus_client's, for a third of the time.

They hold plain numbers under one lock of the process and become samples only when somebody scrapes. The numbers are
doubles in memory that may be a file's, which other workers of the service read (`llmvitals.workers`).
"""

import os
import struct
import threading
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Protocol, TypeAlias, cast

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

from llmvitals.catalogue import Family

# Reentrant, because a signal handler or finaliser may record in the middle of recording. It finds no number half
# changed: under the lock nothing is called that Python could be interrupted in.
LOCK = threading.RLock()

if hasattr(os, "register_at_fork"):
    # A child of fork() would else wait for ever for a thread that it does not have.
    os.register_at_fork(before=LOCK.acquire, after_in_parent=LOCK.release, after_in_child=LOCK.release)


Cells: TypeAlias = "memoryview[float]"
"""Doubles in a row."""

# A gauge that is read at scrape and has not been read yet, told from every other NaN by its bits.
UNREAD: float = struct.unpack("<d", b"llmv\0\0\xf9\x7f")[0]


def private(count: int) -> Cells:
    """Return *count* doubles, all 0, that nobody else sees."""
    return memoryview(bytearray(8 * count)).cast("d")


def numbers(cells: Cells) -> list[float]:
    listed: Any = cells.tolist()  # typeshed says int, whatever the format
    return cast("list[float]", listed)


class Store(Protocol):
    """Where series keep their numbers; one that others may read, or `PRIVATE`."""

    def allot(self, family: Family, texts: tuple[str, ...], count: int) -> Cells:
        """Return *count* doubles, all 0, for the series with these label values. Never raises."""
        ...

    def release(self, family: Family, texts: tuple[str, ...]) -> None:
        """Forget a series: what is in its doubles from now on counts for nothing."""
        ...


class _Private:
    def allot(self, family: Family, texts: tuple[str, ...], count: int) -> Cells:  # noqa: ARG002
        return private(count)

    def release(self, family: Family, texts: tuple[str, ...]) -> None: ...


PRIVATE: Store = _Private()


class CounterSeries:
    __slots__ = ("_cells", "exemplars")

    def __init__(self, family: Family, cells: Cells) -> None:  # noqa: ARG002 -- all kinds are made alike
        self._cells = cells
        self.exemplars: dict[int, Exemplar] | None = None
        """The latest by the index of its sample; None where there never was one."""

    def inc(self, amount: float = 1) -> None:
        if amount < 0:
            raise ValueError(f"a counter cannot be moved by {amount}: it only goes up")
        with LOCK:
            self._cells[0] += amount

    def exemplify(self, amount: float, labels: Mapping[str, str], timestamp: float) -> None:
        """Keep *labels* (a trace id, mostly) as what was behind the latest *amount*, at *timestamp* in unix seconds."""
        self.exemplars = {0: Exemplar(dict(labels), amount, timestamp)}

    def amounts(self) -> Sequence[float]:
        return (self._cells[0],)

    def cells(self) -> list[float]:
        return numbers(self._cells)

    def move(self, cells: Cells, *, forked: bool) -> None:
        """Go on in *cells*: with the same numbers, or, *forked*, as the process that has done nothing yet."""
        if forked:
            self.exemplars = None
        else:
            cells[:] = self._cells
        self._cells = cells


class GaugeSeries:
    __slots__ = ("_cells", "_function", "_is_set")

    exemplars = None

    def __init__(self, family: Family, cells: Cells) -> None:  # noqa: ARG002
        self._cells = cells
        self._function: Callable[[], float] | None = None
        self._is_set = False

    def inc(self, amount: float = 1) -> None:
        with LOCK:
            self._cells[0] += amount

    def dec(self, amount: float = 1) -> None:
        with LOCK:
            self._cells[0] -= amount

    def set(self, value: float) -> None:
        with LOCK:
            self._cells[0] = value
            self._is_set = True

    def set_function(self, f: Callable[[], float]) -> None:
        """Let *f* give the value from now on, whenever it is scraped."""
        with LOCK:
            self._cells[0] = UNREAD
            self._function = f

    def exemplify(self, amount: float, labels: Mapping[str, str], timestamp: float) -> None:
        """Do nothing: only what happened has an example."""

    def amounts(self) -> Sequence[float]:
        return (self._cells[0] if self._function is None else float(self._function()),)

    def cells(self) -> list[float]:
        return numbers(self._cells)

    def refresh(self) -> None:
        """Keep what the function says now, for those who cannot ask it."""
        function = self._function
        if function is not None:
            value = float(function())
            with LOCK:
                self._cells[0] = value

    def move(self, cells: Cells, *, forked: bool) -> None:
        # What was set is a state, and a fork copies it. Ups and downs are of what runs in the parent.
        if not forked or self._is_set:
            cells[:] = self._cells
        if forked and self._function is not None:
            cells[0] = UNREAD
        self._cells = cells


class HistogramSeries:
    __slots__ = ("_cells", "bounds", "exemplars")

    def __init__(self, family: Family, cells: Cells) -> None:
        self.bounds = family.buckets
        self.exemplars: dict[int, Exemplar] | None = None
        """The latest of each bucket that has one, by the bucket's index; None where there never was one."""

        self._cells = cells
        """How many fell into each bucket, the one above all bounds included; and their sum."""

    def observe(self, amount: float) -> None:
        index = bisect_left(self.bounds, amount)
        with LOCK:
            cells = self._cells
            # First what can fail: an amount that is no number leaves nothing half done.
            cells[-1] += amount
            cells[index] += 1.0

    def exemplify(self, amount: float, labels: Mapping[str, str], timestamp: float) -> None:
        """Keep *labels* (a trace id, mostly) as what was behind *amount*, for its bucket, at unix *timestamp*."""
        exemplar = Exemplar(dict(labels), amount, timestamp)
        with LOCK:
            # A new one each time: a scrape may be reading the old one.
            self.exemplars = {**(self.exemplars or {}), bisect_left(self.bounds, amount): exemplar}

    def merge(self, counts: Iterable[int], total: float) -> None:
        """Add *counts* observations, bucket by bucket with the one above all bounds last, that sum up to *total*."""
        with LOCK:
            cells = self._cells
            cells[-1] += total
            for index, count in enumerate(counts):
                if count:
                    cells[index] += count

    def amounts(self) -> Sequence[float]:
        *counts, total = self.cells()
        cumulated = list(accumulate(counts))
        return (*cumulated, cumulated[-1], total)

    def cells(self) -> list[float]:
        with LOCK:
            return numbers(self._cells)

    def move(self, cells: Cells, *, forked: bool) -> None:
        if forked:
            self.exemplars = None
        else:
            cells[:] = self._cells
        self._cells = cells


OwnSeries = CounterSeries | GaugeSeries | HistogramSeries

_KINDS: dict[str, Callable[[Family, Cells], OwnSeries]] = {
    "counter": CounterSeries,
    "gauge": GaugeSeries,
    "histogram": HistogramSeries,
}


def cells_of(family: Family) -> int:
    """How many doubles one series of *family* keeps."""
    return len(family.buckets) + 2 if family.type == "histogram" else 1


class OwnMetric:
    """One family and its series; a collector like any other to the registry that it is on."""

    def __init__(self, family: Family, registry: CollectorRegistry | None, store: Store = PRIVATE) -> None:
        self.family = family
        self._store = store
        self._series: dict[tuple[str, ...], OwnSeries] = {}
        self._described = Metric(family.name.removesuffix("_total"), family.help, family.type)
        self.hidden = False
        """Whether to show nothing for now, because somebody else shows a family of this name."""

        if registry is not None:
            registry.register(self)

    @property
    def name(self) -> str:
        """As collectors tell it: a counter's without ``_total``."""
        return self._described.name

    def labels(self, *texts: str) -> OwnSeries:
        """Return the series with these values of the family's labels."""
        with LOCK:
            series = self._series.get(texts)
            if series is None:
                cells = self._store.allot(self.family, texts, cells_of(self.family))
                # setdefault: a finaliser that ran in between may have made it.
                series = self._series.setdefault(texts, _KINDS[self.family.type](self.family, cells))
            return series

    def remove(self, *texts: str) -> None:
        with LOCK:
            series = self._series.pop(texts, None)
            if series is not None:
                # Whoever still holds it records into nothing that is shown.
                series.move(private(cells_of(self.family)), forked=False)
                self._store.release(self.family, texts)

    def move(self, store: Store, *, forked: bool) -> None:
        """Keep all numbers in *store* from now on; *forked* says that they are the parent's."""
        with LOCK:
            self._store = store
            for texts, series in self._series.items():
                series.move(store.allot(self.family, texts, cells_of(self.family)), forked=forked)

    def show(self, cells: Mapping[tuple[str, ...], Sequence[float]]) -> None:
        """Have exactly these series, by their label values, from now on: what those of many workers came to."""
        kind = _KINDS[self.family.type]
        self._series = {texts: kind(self.family, memoryview(array("d", own))) for texts, own in cells.items()}

    def exemplify(self, texts: tuple[str, ...], exemplars: Mapping[int, Exemplar]) -> None:
        """Give a series these exemplars, by the index of their samples, where they are later than what it has."""
        series = self._series.get(texts)
        if series is None or isinstance(series, GaugeSeries):
            return
        known = series.exemplars or {}
        later = {
            index: exemplar
            for index, exemplar in exemplars.items()
            if index not in known or float(known[index].timestamp or 0) < float(exemplar.timestamp or 0)
        }
        series.exemplars = {**known, **later}

    def series(self) -> list[tuple[tuple[str, ...], OwnSeries]]:
        with LOCK:
            return list(self._series.items())

    def samples_of(self, texts: tuple[str, ...]) -> list[tuple[str, dict[str, str]]]:
        """Return the name and labels of each sample of a series, in the order of its amounts."""
        name = self.family.name
        labels = dict(zip(self.family.labels, texts, strict=True))
        if self.family.type != "histogram":
            return [(name, labels)]
        bounds = map(floatToGoString, (*self.family.buckets, float("inf")))
        buckets = [(f"{name}_bucket", labels | {"le": bound}) for bound in bounds]
        return [*buckets, (f"{name}_count", labels), (f"{name}_sum", labels)]

    def describe(self) -> Sequence[Metric]:
        return (self._described,)

    def collect(self) -> Iterable[Metric]:
        if self.hidden:
            return ()
        metric = Metric(self._described.name, self._described.documentation, self._described.type)
        for texts, series in self.series():
            exemplars = series.exemplars or {}
            for index, ((name, labels), amount) in enumerate(
                zip(self.samples_of(texts), series.amounts(), strict=True)
            ):
                metric.add_sample(name, labels, amount, exemplar=exemplars.get(index))
        return (metric,)


def take_back(registry: CollectorRegistry, metric: Any) -> None:
    """Unregister *metric*, even where it is there no more, or by half, for an interrupt came in between."""
    try:
        registry.unregister(metric)
    except KeyError:  # It was not there, or not yet under all of its names.
        names = getattr(registry, "_names_to_collectors", {})
        for name in [name for name, collector in names.items() if collector is metric]:
            del names[name]
