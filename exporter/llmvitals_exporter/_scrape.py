"""What Prometheus sees of the collectors: a `prometheus_client` collector in front of the runner."""

import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future

from prometheus_client import Metric
from prometheus_client.registry import Collector

from llmvitals_exporter._family import Family
from llmvitals_exporter._runner import Outcome, Runner, State

SUCCESS = Family(
    "llmvitals_scrape_collector_success",
    "gauge",
    "1 when the collector gave all its readings; absent when this machine has nothing for it to read.",
    ("collector",),
)
DURATION = Family(
    "llmvitals_scrape_collector_duration_seconds", "gauge", "Seconds that the collector took.", ("collector",)
)


class Scrape(Collector):
    """Reads the collectors when asked; scrapes that come while one is under way share its result."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._lock = threading.Lock()
        self._flight: Future[list[Outcome]] | None = None

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not read."""
        return ()

    def collect(self) -> Iterator[Metric]:
        outcomes = self.outcomes()
        for outcome in outcomes:
            for family, series in outcome.samples.items():
                yield _metric(family, series)
        told = [outcome for outcome in outcomes if outcome.state is not State.ABSENT]
        yield _metric(SUCCESS, {(outcome.collector,): float(outcome.state is State.OK) for outcome in told})
        yield _metric(DURATION, {(outcome.collector,): outcome.seconds for outcome in told})

    def outcomes(self) -> list[Outcome]:
        """One collection, shared by all who ask while it runs."""
        with self._lock:
            flight = self._flight
            leads = flight is None
            if flight is None:
                flight = self._flight = Future()
        if leads:
            try:
                flight.set_result(self._runner.collect())
            except BaseException as error:
                flight.set_exception(error)
                raise
            finally:
                with self._lock:
                    self._flight = None
        return flight.result()


def _metric(family: Family, series: Mapping[tuple[str, ...], float]) -> Metric:
    # prometheus_client calls a counter by its name without the ending, and puts it back.
    name = family.name.removesuffix("_total") if family.type == "counter" else family.name
    metric = Metric(name, family.help, "unknown" if family.type == "untyped" else family.type)
    for labels, value in series.items():
        metric.add_sample(family.name, dict(zip(family.labels, labels, strict=True)), value)
    return metric
