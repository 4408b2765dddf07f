import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram, Info, Summary, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeHistogramMetricFamily,
    GaugeMetricFamily,
    Metric,
    StateSetMetricFamily,
    UntypedMetricFamily,
)
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from llmvitals.exposition import encode, encode_openmetrics

pytestmark = pytest.mark.usefixtures("no_created_series")


class Collector:
    """Shows what it is given."""

    def __init__(self, *families, then=None):
        self._families = families
        self._then = then

    def describe(self):
        return ()

    def collect(self):
        yield from self._families
        if self._then is not None:
            raise self._then


def everything():
    registry = CollectorRegistry(target_info={"service_name": "app"})
    counter = Counter("requests", 'Help with "quotes", \\ and\nnewline.', ["path", "code"], registry=registry)
    counter.labels('/a"b\\c\nd', "200").inc(12345678)
    counter.labels("/ä😀", "500").inc(0.1)
    Counter("plain", "No labels.", registry=registry).inc(3)
    gauge = Gauge("temperature_celsius", "Gauge.", ["z", "a"], registry=registry)
    for number, value in enumerate((0, -1.5, 1e21, 123456789.0, float("inf"), float("-inf"), float("nan"), 1e-9, -0.0)):
        gauge.labels(str(number), "x").set(value)
    Gauge("called", "A function's.", registry=registry).set_function(lambda: 42)
    histogram = Histogram("latency_seconds", "Histogram.", ["op"], registry=registry, buckets=(0.1, 1, 1e7))
    for amount in (0.05, 0.5, 5e6, 1e9):
        histogram.labels("x").observe(amount)
    Histogram("unlabelled_seconds", "Histogram.", registry=registry).observe(2)
    Histogram("negative", "No sum.", registry=registry, buckets=(-1, 1)).observe(-0.5)
    Summary("size_bytes", "Summary.", ["k"], registry=registry).labels("v").observe(7)
    Info("build", "Info.", registry=registry).info({"version": "1"})
    Enum("mood", "Enum.", states=["good", "bad"], registry=registry).state("bad")
    Gauge("job:rule:sum", "Colons.", ["l"], registry=registry).labels("x").set(1)
    Gauge("empty", "No series.", ["l"], registry=registry)
    return registry


def custom(registry):
    stamped = GaugeMetricFamily("stamped", "With a timestamp.", labels=["a"])
    stamped.add_metric(["x"], 1, timestamp=1234.5678)
    unit = Metric("weight_grams", "With a unit.", "gauge", "grams")
    unit.add_sample("weight_grams", {}, 1)
    counter = CounterMetricFamily("seen", "Custom.", labels=["l"])
    counter.add_metric(["1"], 5)
    gauge_histogram = GaugeHistogramMetricFamily(
        "queue", "Gauge histogram.", buckets=[("1.0", 1), ("+Inf", 3)], gsum_value=7
    )
    untyped = UntypedMetricFamily("anything", "Untyped.", value=1)
    states = StateSetMetricFamily("state", "States.", value={"a": True, "b": False})
    registry.register(Collector(stamped, unit, counter, gauge_histogram, untyped, states))
    return registry


def test_text_is_byte_for_byte_prometheus_clients():
    """All kinds of metrics, odd values and odd labels; the second time from what was kept."""
    registry = custom(everything())

    assert generate_latest(registry) == encode(registry)
    assert generate_latest(registry) == encode(registry)


def test_openmetrics_is_byte_for_byte_prometheus_clients():
    """With exemplars, units and timestamps."""
    registry = custom(everything())
    Counter("traced", "Exemplar.", registry=registry).inc(2, {"trace_id": "abc"})
    Histogram("traced_seconds", "Exemplar.", registry=registry).observe(2, {"trace_id": 'a"b'})

    assert generate_openmetrics(registry) == encode_openmetrics(registry)
    assert generate_openmetrics(registry) == encode_openmetrics(registry)


def test_series_that_come_and_go_are_followed():
    """What is kept from an earlier scrape shows nothing that is gone."""
    registry = CollectorRegistry()
    gauge = Gauge("connections", "Gauge.", ["id"], registry=registry)
    for round_ in range(5):
        for number in range(40):
            gauge.labels(f"{round_}-{number}").set(number)
        assert generate_latest(registry) == encode(registry)
        gauge.clear()

    assert generate_latest(registry) == encode(registry)


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.tuples(st.text(), st.text()), max_size=5),
    values=st.lists(st.floats(), min_size=1, max_size=5),
    help_text=st.text(),
)
def test_any_labels_and_values_are_written_alike(labels, values, help_text):
    """Whatever prometheus_client can write, we write the same."""
    registry = CollectorRegistry()
    gauge = Gauge("g", help_text, ["b", "a"], registry=registry)
    histogram = Histogram("h", help_text, ["b", "a"], registry=registry, buckets=(1, 2.5, 1e9))
    for first, second in labels:
        for value in values:
            gauge.labels(first, second).set(value)
            histogram.labels(first, second).observe(value)
    try:
        expected = generate_latest(registry)
    except UnicodeEncodeError:  # A lone surrogate fails their whole scrape; ours shows a question mark.
        encode(registry)
        return

    assert expected == encode(registry)
    assert generate_openmetrics(registry) == encode_openmetrics(registry)


def test_created_series_are_left_out(monkeypatch):
    """Whatever prometheus_client is set to: they double the series and nobody queries them."""
    registry = custom(everything())
    without = encode(registry), encode_openmetrics(registry)

    monkeypatch.setattr("prometheus_client.metrics._use_created", True)

    assert b"_created" in generate_latest(registry)
    assert without == (encode(registry), encode_openmetrics(registry))


@pytest.mark.parametrize("write", [encode, encode_openmetrics])
def test_a_collector_that_raises_spoils_nothing_else(write):
    """What it gave before, and all others, are served; the fault is told."""
    registry = CollectorRegistry()
    Gauge("before", "Before.", registry=registry).set(1)
    registry.register(Collector(GaugeMetricFamily("half", "Half.", value=2), then=RuntimeError("device lost")))
    Gauge("after", "After.", registry=registry).set(3)
    told = []

    text = write(registry, on_error=lambda name, error: told.append((name, str(error))))

    assert all(line in text for line in (b"before 1.0\n", b"half 2.0\n", b"after 3.0\n"))
    assert [("Collector", "device lost")] == told


@pytest.mark.parametrize("write", [encode, encode_openmetrics])
@pytest.mark.parametrize("value", [None, "N/A", object()], ids=["none", "text", "object"])
def test_a_family_with_a_wrong_value_is_left_out_alone(write, value):
    """The families around it are served, and the log says which one is missing."""
    bad = Metric("bad", "Bad.", "gauge")
    bad.add_sample("bad", {"l": "x"}, value)
    registry = CollectorRegistry()
    registry.register(
        Collector(GaugeMetricFamily("good", "Good.", value=1), bad, GaugeMetricFamily("fine", "Fine.", value=2))
    )
    told = []

    text = write(registry, on_error=lambda name, error: told.append(name))

    assert b"good 1.0\n" in text
    assert b"fine 2.0\n" in text
    assert b"bad" not in text
    assert ["bad"] == told


def test_a_label_value_that_is_no_text_leaves_its_family_out(caplog):
    """As with prometheus_client it cannot be written; unlike there, the rest can."""
    bad = Metric("bad", "Bad.", "gauge")
    bad.add_sample("bad", {"l": 5}, 1)
    registry = CollectorRegistry()
    registry.register(Collector(bad, GaugeMetricFamily("good", "Good.", value=1)))

    text = encode(registry)

    assert b"good 1.0\n" in text
    assert "bad is left out of /metrics" in caplog.text


def test_a_restricted_registry_is_asked_as_a_whole():
    """What is not exactly a CollectorRegistry decides for itself what it shows."""
    registry = everything()
    some = registry.restricted_registry(["requests_total"])

    assert generate_latest(some) == encode(some)
