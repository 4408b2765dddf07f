"""The seam between what happens in the application and what ``/metrics`` shows.

Everything here keeps one promise: the application never sees a fault of ours.
"""

import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.values import ValueClass

from llmvitals import catalogue
from llmvitals._labels import label_text as label_text  # noqa: PLC0414 -- part of this module's face
from llmvitals._refusals import refusal
from llmvitals._replies import UsageReaderMaker
from llmvitals._series import LOCK, PRIVATE, OwnMetric, Store, take_back
from llmvitals.catalogue import Family

log = logging.getLogger("llmvitals")

OTHER = "other"
LABEL_SETS = 500

# A closed label with a hostile value must not open the fold itself: this many folded sets, then all-"other".
_FOLDED_SETS = 32


class Child(Protocol):
    """One series. Of a counter use ``inc``, of a gauge all but ``observe``, of a histogram ``observe``."""

    def inc(self, amount: float = 1) -> None: ...
    def dec(self, amount: float = 1) -> None: ...
    def set(self, value: float) -> None: ...
    def observe(self, amount: float) -> None: ...
    def set_function(self, f: Callable[[], float]) -> None: ...


class Recorder:
    """Hands out the series of one registry, at most *label_sets* of each family.

    Families are created with their first series, so that nothing shows a zero that nobody measured.
    Label sets over the cap fold into ``other``: sums of counters and histograms stay exact, gauges that are set
    (rather than moved up and down) are left out, because the last writer of a shared gauge says nothing.
    """

    def __init__(self, registry: CollectorRegistry, *, label_sets: int = LABEL_SETS) -> None:
        self.registry = registry
        self._label_sets = label_sets
        self._store = PRIVATE
        self._closed = False
        self._series: dict[str, _Series] = {}
        self.kept: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        """What `keep` has kept, for those who look before they ask."""

        self.usage_readers: dict[str, UsageReaderMaker] = {}
        """Make who else is told of calls' token usage; see `read_usage`."""

        self._told: set[str] = set()
        self.late: deque[Callable[[], None]] = deque()
        """What `later` was given and `drain` has not run yet."""

        self._looks: list[Callable[[], None]] = []
        self._drain = Drain(self)
        with self.guard("registry"):
            registry.register(self._drain)

    def child(self, family: Family, *values: str) -> Any:
        """Return the series of *family* with these label values, in the order of ``family.labels``.

        Never raises. Values of any kind are made text; one that cannot be shown becomes ``invalid``.
        Keep what it returns where a path is hot.
        """
        try:
            return self._series[family.name].children[values]
        except Exception:  # noqa: BLE001 -- a new set mostly; else a value whose own __hash__ or __eq__ raises
            return self._admit_or_nowhere(family, values)

    def keep(
        self,
        key: tuple[Any, ...],
        *wanted: tuple[Family, tuple[str, ...]],
        more: Callable[..., tuple[Any, ...]] | None = None,
    ) -> tuple[Any, ...]:
        """Return the series of all *wanted* families and label values, and what *more* makes of them; keep all that in
        ``kept`` under *key*.

        A hot path finds them there by one look, and must ask again when it does not: none is kept that is over the cap,
        because each recording into ``other`` is told.
        """
        children = tuple(self.child(family, *texts) for family, texts in wanted)
        if more is not None:
            children += more(*children)
        with self.guard("registry"), LOCK:
            lasting = all(self.lasts(*each, child) for each, child in zip(wanted, children))  # noqa: B905 -- and *more*
            if lasting and len(self.kept) < self._label_sets:
                self.kept[key] = children
        return children

    def lasts(self, family: Family, texts: tuple[str, ...], child: object) -> bool:
        """Whether *child* is the series of these labels until it is forgotten, and none that others fold into."""
        series = self._series.get(family.name)
        return series is not None and series.children.get(texts) is child

    def read_usage(self, name: str, reader: UsageReaderMaker) -> None:
        """Tell the token usage of each call from here on to what *reader* makes for it, the last of a *name*."""
        self.usage_readers = {**self.usage_readers, name: reader}
        self.kept.clear()

    def forget(self, family: Family, *values: str) -> None:
        """Take one series off ``/metrics``: what it spoke of is gone."""
        with self.guard("registry"), LOCK:
            series = self._series.get(family.name)
            texts = tuple(map(label_text, values))
            self.kept.clear()
            if series is not None and series.children.pop(texts, None) is not None and texts:
                series.metric.remove(*texts)

    def read_at_scrape(self, family: Family, *values: str, read: Callable[[], float]) -> None:
        """Let *read* give the value of a gauge whenever it is scraped. When it raises, the value is NaN."""

        def guarded() -> float:
            try:
                return float(read())
            except Exception as error:  # noqa: BLE001 -- one bad callback must not spoil the scrape
                self.fault(family.name, error, "the value is shown as NaN")
                return float("nan")

        with self.guard("registry"):
            self.child(family, *values).set_function(guarded)

    def look_at_scrape(self, look: Callable[[], None]) -> None:
        """Call *look* at each scrape: for what is worth a look now and then, and no thread of its own."""
        self._looks.append(look)

    @contextmanager
    def guard(self, component: str) -> Iterator[None]:
        """Keep a fault inside from the application: count it under *component* and log it once."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 -- the purpose
            self.fault(component, error)

    def fault(self, component: str, error: BaseException, consequence: str = "") -> None:
        """Count a fault of the instrumentation and log the first of its kind. Never raises."""
        try:
            self.child(catalogue.INSTRUMENTATION_ERRORS, component).inc()
        except Exception:
            log.debug("llmvitals cannot count its own faults", exc_info=True)
        kind = f"{component}:{type(error).__name__}"
        if kind in self._told:
            return
        self._told.add(kind)
        log.warning(
            "llmvitals: fault in %s: %s: %s%s. Further ones are only counted in %s.",
            component,
            type(error).__name__,
            error,
            f"; {consequence}" if consequence else "",
            catalogue.INSTRUMENTATION_ERRORS.name,
        )

    def later(self, record: Callable[[], None]) -> None:
        """Record soon, from an ordinary place; safe inside the garbage collector.

        A finaliser runs between any two instructions, even while its own thread holds a metric's lock: recording there
        could wait for itself for ever.
        """
        self.late.append(record)

    def look(self) -> None:
        """Run what ``look_at_scrape`` was given."""
        for look in self._looks:
            with self.guard("look"):
                look()

    def drain(self) -> None:
        """Run what ``later`` was given."""
        while self.late:
            try:
                record = self.late.popleft()
            except IndexError:  # Another thread was quicker.
                return
            with self.guard("later"):
                record()

    def move(self, store: Store, *, forked: bool = False) -> None:
        """Keep all numbers of our own in *store* from now on. *forked* says that they are the parent process's: what
        was counted is not ours then, and what was put aside for later neither.
        """
        with LOCK:
            self._store = store
            if forked:
                self.late.clear()
            for metric in self.own_metrics():
                metric.move(store, forked=forked)

    def own_metrics(self) -> list[OwnMetric]:
        with LOCK:
            return [series.metric for series in self._series.values() if isinstance(series.metric, OwnMetric)]

    def close(self) -> None:
        """Take every family of this recorder off its registry; recording goes on into nothing that is shown."""
        self.drain()
        with LOCK:
            self._closed = True
            metrics = [self._drain, *(series.metric for series in self._series.values() if series.metric is not None)]
            self._series.clear()
            self.kept.clear()
        for metric in metrics:
            take_back(self.registry, metric)

    def _admit_or_nowhere(self, family: Family, values: tuple[Any, ...]) -> Any:
        try:
            return self._admit(family, values)
        except Exception as error:  # noqa: BLE001 -- whatever a foreign registry throws, the application goes on
            self.fault("registry", error, f"{family.name} is not recorded")
            return _NOWHERE

    def _admit(self, family: Family, values: tuple[Any, ...]) -> Any:
        with LOCK:
            series = self._series.get(family.name)
            if series is None or not series.settled:
                series = self._settle(family)
            if series.metric is None:
                return _NOWHERE
            texts = tuple(map(label_text, values))
            known = series.children.get(texts)
            if known is not None:
                return known
            if len(texts) != len(family.labels):
                raise ValueError(f"{family.name} has labels {family.labels}, got {len(texts)} values")
            if len(series.children) < self._label_sets:
                child = series.children[texts] = series.labels(texts)
                return child
        self._tell_of_drop(family)
        with LOCK:
            return series.fold(texts)

    def _settle(self, family: Family) -> "_Series":
        """Show the family, once; anew where an interrupt, as of Ctrl-C, ended an earlier try half-way."""
        series = self._series.setdefault(family.name, _Series(family))
        try:
            # Said first, for a signal handler that records meanwhile, and taken back when that interrupts.
            series.settled = True
            if not self._closed:
                if series.metric is None:
                    series.metric = _metric(family, self._store)
                else:
                    take_back(self.registry, series.metric)
                self.registry.register(series.metric)
        except Exception:
            # A name that is taken stays taken, and is told once.
            series.metric = None
            raise
        except BaseException:
            series.settled = False
            raise
        return series

    def _tell_of_drop(self, family: Family) -> None:
        if family.name == catalogue.LABEL_VALUES_DROPPED.name:  # At its cap itself: it would tell of that for ever.
            return
        self.child(catalogue.LABEL_VALUES_DROPPED, family.name).inc()
        if family.name not in self._told:
            self._told.add(family.name)
            text = "llmvitals: %s has %d label sets, its cap; more count as 'other'. Has a label ids for values?"
            log.warning(text, family.name, self._label_sets)


class _Series:
    """A family's metric, the series handed out, and those that hold what went over the cap."""

    __slots__ = ("children", "family", "folded", "metric", "settled")

    def __init__(self, family: Family) -> None:
        self.family = family
        self.metric: Any = None
        self.settled = False
        self.children: dict[tuple[str, ...], Any] = {}
        self.folded: dict[tuple[str, ...], Any] = {}

    def labels(self, texts: tuple[str, ...]) -> Any:
        # prometheus_client's metric without labels is its own series.
        return self.metric.labels(*texts) if texts or isinstance(self.metric, OwnMetric) else self.metric

    def fold(self, texts: tuple[str, ...]) -> Any:
        folded = fold_texts(self.family, texts, self.folded)
        child = self.folded.get(folded)
        if child is None:
            child = self.labels(folded)
            if self.family.type == "gauge":
                child = _SharedGauge(child)
            self.folded[folded] = child
        return child


def fold_texts(family: Family, texts: tuple[str, ...], folded: Collection[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the label values under which *texts* count when they are over the cap, with those *folded* so far."""
    # An empty value is kept too: error_type="" must not turn into an error.
    found = tuple(
        text if not text or label in catalogue.CLOSED_LABELS else OTHER
        for label, text in zip(family.labels, texts, strict=True)
    )
    return found if found in folded or len(folded) < _FOLDED_SETS else (OTHER,) * len(texts)


class _SharedGauge:
    """A gauge under ``other``: ups and downs of many add up, a set value of one would only lie about the rest."""

    __slots__ = ("_gauge",)

    def __init__(self, gauge: Any) -> None:
        self._gauge = gauge

    def inc(self, amount: float = 1) -> None:
        self._gauge.inc(amount)

    def dec(self, amount: float = 1) -> None:
        self._gauge.dec(amount)

    def set(self, value: float) -> None: ...

    def set_function(self, f: Callable[[], float]) -> None: ...

    def exemplify(self, amount: float, labels: Mapping[str, str], timestamp: float) -> None: ...


class _Nowhere:
    """Stands in for a series that could not be made."""

    __slots__ = ()

    def inc(self, amount: float = 1) -> None: ...
    def dec(self, amount: float = 1) -> None: ...
    def set(self, value: float) -> None: ...
    def observe(self, amount: float) -> None: ...
    def merge(self, counts: list[int], total: float) -> None: ...
    def set_function(self, f: Callable[[], float]) -> None: ...
    def exemplify(self, amount: float, labels: Mapping[str, str], timestamp: float) -> None: ...


_NOWHERE = _Nowhere()


class Drain:
    """Collector that shows nothing: the scrape is where late recordings are caught up with."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        self._recorder.drain()
        self._recorder.look()
        return ()


def _metric(family: Family, store: Store) -> Any:
    if not ValueClass._multiprocess:  # noqa: SLF001 -- no public way to know
        return OwnMetric(family, None, store)
    # The application's workers share their numbers through prometheus_client's files, so ours must go there, too.
    if family.type == "counter":
        return Counter(family.name, family.help, family.labels, registry=None)
    if family.type == "gauge":
        mode: Any = f"live{family.across}"
        return Gauge(family.name, family.help, family.labels, registry=None, multiprocess_mode=mode)
    return Histogram(family.name, family.help, family.labels, registry=None, buckets=family.buckets)


def error_type(error: BaseException | None) -> str:
    """Name an error for a label: its HTTP status when it has one, else its class; empty when there is none.

    A 400 that is for a prompt's length or its content is named so: what to do about them differs.
    """
    if error is None:
        return ""
    status = getattr(error, "status_code", None)
    if status is None:
        status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(status, int):
        return (status == 400 and refusal(error)) or str(status)
    return type(error).__name__


def observe_counted(child: Any, counts: list[int], total: float) -> None:
    """Put many amounts into a histogram at once: how many per bucket, the one above all bounds last, and their sum."""
    try:
        merge = child.merge
    except AttributeError:  # prometheus_client's.
        child._sum.inc(total)  # noqa: SLF001
        for bucket, count in zip(child._buckets, counts, strict=True):  # noqa: SLF001
            bucket.inc(count)
    else:
        merge(counts, total)
