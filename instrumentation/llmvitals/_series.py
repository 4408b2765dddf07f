"""Counters, gauges and histograms of our own: as exact as prometheus_client's, for a third of the time.

They hold plain numbers under one lock of the process and become samples only when somebody scrapes.
"""

import os
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate

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


class CounterSeries:
    __slots__ = ("_value", "exemplars")

    def __init__(self, family: Family) -> None:  # noqa: ARG002 -- all kinds are made alike
        self._value = 0.0
        self.exemplars: dict[int, Exemplar] | None = None
        """The latest by the index of its sample; None where there never was one."""

    def inc(self, amount: float = 1) -> None:
        if amount < 0:
            raise ValueError(f"a counter cannot be moved by {amount}: it only goes up")
        with LOCK:
            self._value += amount

    def exemplify(self, amount: float, labels: Mapping[str, str], timestamp: float) -> None:
        """Keep *labels* (a trace id, mostly) as what was behind the latest *amount*, at *timestamp* in unix seconds."""
        self.exemplars = {0: Exemplar(dict(labels), amount, timestamp)}

    def amounts(self) -> Sequence[float]:
        return (self._value,)


class GaugeSeries:
    __slots__ = ("_function", "_value")

    exemplars = None

    def __init__(self, family: Family) -> None:  # noqa: ARG002
        self._value = 0.0
        self._function: Callable[[], float] | None = None

    def inc(self, amount: float = 1) -> None:
        with LOCK:
            self._value += amount

    def dec(self, amount: float = 1) -> None:
        with LOCK:
            self._value -= amount

    def set(self, value: float) -> None:
        value = float(value)
        with LOCK:
            self._value = value

    def set_function(self, f: Callable[[], float]) -> None:
        """Let *f* give the value from now on, whenever it is scraped."""
        self._function = f

    def exemplify(self, amount: float, labels: Mapping[str, str], timestamp: float) -> None:
        """Do nothing: only what happened has an example."""

    def amounts(self) -> Sequence[float]:
        return (self._value if self._function is None else float(self._function()),)


class HistogramSeries:
    __slots__ = ("_counts", "_sum", "bounds", "exemplars")

    def __init__(self, family: Family) -> None:
        self.bounds = family.buckets
        self.exemplars: dict[int, Exemplar] | None = None
        """The latest of each bucket that has one, by the bucket's index; None where there never was one."""

        self._counts = [0.0] * (len(family.buckets) + 1)
        self._sum = 0.0

    def observe(self, amount: float) -> None:
        index = bisect_left(self.bounds, amount)
        with LOCK:
            self._sum += amount
            self._counts[index] += 1

    def exemplify(self, amount: float, labels: Mapping[str, str], timestamp: float) -> None:
        """Keep *labels* (a trace id, mostly) as what was behind *amount*, for its bucket, at unix *timestamp*."""
        exemplar = Exemplar(dict(labels), amount, timestamp)
        with LOCK:
            # A new one each time: a scrape may be reading the old one.
            self.exemplars = {**(self.exemplars or {}), bisect_left(self.bounds, amount): exemplar}

    def merge(self, counts: Iterable[int], total: float) -> None:
        """Add *counts* observations, bucket by bucket with the one above all bounds last, that sum up to *total*."""
        with LOCK:
            self._sum += total
            for index, count in enumerate(counts):
                self._counts[index] += count

    def amounts(self) -> Sequence[float]:
        with LOCK:
            counts, total = self._counts.copy(), self._sum
        cumulated = list(accumulate(counts))
        return (*cumulated, cumulated[-1], total)


OwnSeries = CounterSeries | GaugeSeries | HistogramSeries

_KINDS: dict[str, Callable[[Family], OwnSeries]] = {
    "counter": CounterSeries,
    "gauge": GaugeSeries,
    "histogram": HistogramSeries,
}


class OwnMetric:
    """One family and its series; a collector like any other to the registry that it is on."""

    def __init__(self, family: Family, registry: CollectorRegistry) -> None:
        self.family = family
        self._series: dict[tuple[str, ...], OwnSeries] = {}
        self._described = Metric(family.name.removesuffix("_total"), family.help, family.type)
        registry.register(self)

    def labels(self, *texts: str) -> OwnSeries:
        """Return the series with these values of the family's labels."""
        with LOCK:
            series = self._series.get(texts)
            if series is None:
                # setdefault: a finaliser that ran in between may have made it.
                series = self._series.setdefault(texts, _KINDS[self.family.type](self.family))
            return series

    def remove(self, *texts: str) -> None:
        with LOCK:
            self._series.pop(texts, None)

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
        metric = Metric(self._described.name, self._described.documentation, self._described.type)
        for texts, series in self.series():
            exemplars = series.exemplars or {}
            for index, ((name, labels), amount) in enumerate(
                zip(self.samples_of(texts), series.amounts(), strict=True)
            ):
                metric.add_sample(name, labels, amount, exemplar=exemplars.get(index))
        return (metric,)
