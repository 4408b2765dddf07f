"""What Prometheus sees of the collectors: a `prometheus_client` collector in front of the runner."""

import math
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass

from prometheus_client import Metric
from prometheus_client.registry import Collector

from llmvitals_exporter._family import Family
from llmvitals_exporter._runner import Outcome, Runner, State
from llmvitals_exporter._samples import Samples

SUCCESS = Family(
    "llmvitals_scrape_collector_success",
    "gauge",
    "1 when the collector gave all its readings; absent when this machine has nothing for it to read.",
    ("collector",),
)
DURATION = Family(
    "llmvitals_scrape_collector_duration_seconds", "gauge", "Seconds that the collector took.", ("collector",)
)
TIMEOUT = Family(
    "llmvitals_scrape_collector_timeout",
    "gauge",
    "1 when the collector was not ready in time, or has not come back from an earlier scrape.",
    ("collector",),
)


class Scrape:
    """Reads the collectors when asked; scrapes that come while one is under way share its result."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._lock = threading.Lock()
        #: What is being collected, and for whom: the names, or None for all.
        self._flight: tuple[frozenset[str] | None, Future[list[Outcome]]] | None = None

    def outcomes(self, only: frozenset[str] | None = None, within: float = math.inf) -> list[Outcome]:
        """One collection, shared by all who ask for no more while it runs.

        Args:
            only: The collectors to read; all when None.
            within: Seconds until it must be over; who shares another's collection shares its time, too.
        """
        deadline = time.monotonic() + within
        while True:
            with self._lock:
                mine = self._flight is None
                if self._flight is None:
                    self._flight = only, Future()
                covered, flight = self._flight
            if mine:
                return self._collect(flight, only, deadline - time.monotonic())
            if covered is None or (only is not None and only <= covered):
                return [outcome for outcome in flight.result() if only is None or outcome.collector in only]
            # Another part is being read: the collectors are read by one at a time.
            wait([flight])

    def _collect(self, flight: Future[list[Outcome]], only: frozenset[str] | None, within: float) -> list[Outcome]:
        try:
            flight.set_result(self._runner.collect(only=only, within=max(0.0, within)))
        except BaseException as error:
            flight.set_exception(error)
            raise
        finally:
            with self._lock:
                self._flight = None
        return flight.result()


@dataclass(frozen=True, slots=True)
class View(Collector):
    """What one request sees: all of a scrape, or some collectors of it, within its time."""

    scrape: Scrape
    only: frozenset[str] | None = None
    within: float = math.inf

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not read."""
        return ()

    def collect(self) -> Iterator[Metric]:
        outcomes = self.scrape.outcomes(self.only, self.within)
        for family, series in _together(outcomes).items():
            yield _metric(family, series)
        told = [outcome for outcome in outcomes if outcome.state is not State.ABSENT]
        yield _metric(SUCCESS, {(outcome.collector,): float(outcome.state is State.OK) for outcome in told})
        yield _metric(DURATION, {(outcome.collector,): outcome.seconds for outcome in told})
        yield _metric(TIMEOUT, {(outcome.collector,): float(outcome.state is State.STUCK) for outcome in told})


def _together(outcomes: Iterable[Outcome]) -> Samples:
    """The samples of all, each family once: several collectors can share one, but an exposition may not repeat it.

    Should two tell one series, which Prometheus would refuse, the first of them counts.
    """
    samples: Samples = {}
    for outcome in outcomes:
        for family, series in outcome.samples.items():
            shared = samples.get(family)
            samples[family] = series if shared is None else {**series, **shared}
    return samples


def _metric(family: Family, series: Mapping[tuple[str, ...], float]) -> Metric:
    # prometheus_client calls a counter by its name without the ending, and puts it back.
    name = family.name.removesuffix("_total") if family.type == "counter" else family.name
    metric = Metric(name, family.help, "unknown" if family.type == "untyped" else family.type)
    for labels, value in series.items():
        metric.add_sample(family.name, dict(zip(family.labels, labels, strict=True)), value)
    return metric
