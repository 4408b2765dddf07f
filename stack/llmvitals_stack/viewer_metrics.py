"""The viewer's own metrics, made from the catalogue."""

from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from llmvitals_stack import catalogue
from llmvitals_stack.catalogue import Family

RESULTS = ("answered", "error", "unreachable", "timeout", "too_large", "aborted")
REASONS = ("size", "time", "path", "site")


class Metrics:
    """One attribute per family of the catalogue; each label's value is there from the start, at zero."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.queries = self._counter(catalogue.QUERIES, RESULTS)
        self.refused = self._counter(catalogue.REFUSED, REASONS)
        self.asking = Gauge(catalogue.ASKING.name, catalogue.ASKING.help, registry=self.registry)
        self.duration = Histogram(
            catalogue.DURATION.name,
            catalogue.DURATION.help,
            buckets=catalogue.DURATION.buckets,
            registry=self.registry,
        )
        info = catalogue.BUILD_INFO
        Gauge(info.name, info.help, info.labels, registry=self.registry).labels(version("llmvitals")).set(1)

    def _counter(self, family: Family, values: tuple[str, ...]) -> Counter:
        counter = Counter(family.name, family.help, family.labels, registry=self.registry)
        for value in values:
            counter.labels(value)
        return counter
