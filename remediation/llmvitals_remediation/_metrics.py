"""The service's own metrics, made from the catalogue."""

from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from llmvitals_remediation import catalogue
from llmvitals_remediation.catalogue import Family


class Metrics:
    """One attribute per family of the catalogue, on one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.deliveries = _counter(catalogue.DELIVERIES, registry)
        self.inbox_depth = _gauge(catalogue.INBOX_DEPTH, registry)
        self.inbox_oldest = _gauge(catalogue.INBOX_OLDEST, registry)
        self.incidents = _gauge(catalogue.INCIDENTS, registry)
        self.incidents_closed = _counter(catalogue.INCIDENTS_CLOSED, registry)
        self.gate_refusals = _counter(catalogue.GATE_REFUSALS, registry)
        self.attempts = _counter(catalogue.ATTEMPTS, registry)
        self.breaker_open = _gauge(catalogue.BREAKER_OPEN, registry)
        self.slots_in_use = _gauge(catalogue.SLOTS_IN_USE, registry)
        self.time_to_action = _histogram(catalogue.TIME_TO_ACTION, registry)
        self.time_to_proof = _histogram(catalogue.TIME_TO_PROOF, registry)
        self.relapses = _counter(catalogue.RELAPSES, registry)
        self.reconciled = _gauge(catalogue.RECONCILED, registry)
        self.reconcile_found = _counter(catalogue.RECONCILE_FOUND, registry)
        self.kill_switch = _gauge(catalogue.KILL_SWITCH, registry)
        self.watchdog = _gauge(catalogue.WATCHDOG, registry)
        self.handler_mode = _gauge(catalogue.HANDLER_MODE, registry)
        self.handler_errors = _counter(catalogue.HANDLER_ERRORS, registry)
        self.agents_connected = _gauge(catalogue.AGENTS_CONNECTED, registry)
        _gauge(catalogue.BUILD_INFO, registry).labels(version("llmvitals")).set(1)
        for result in ("accepted", "duplicate", "quarantined", "rejected"):
            self.deliveries.labels(result)


def _counter(family: Family, registry: CollectorRegistry) -> Counter:
    return Counter(family.name, family.help, family.labels, registry=registry)


def _gauge(family: Family, registry: CollectorRegistry) -> Gauge:
    return Gauge(family.name, family.help, family.labels, registry=registry)


def _histogram(family: Family, registry: CollectorRegistry) -> Histogram:
    return Histogram(family.name, family.help, family.labels, buckets=family.buckets, registry=registry)
