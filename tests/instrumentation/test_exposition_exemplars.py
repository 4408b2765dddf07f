"""Exemplars in OpenMetrics: byte for byte as prometheus_client writes them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeHistogramMetricFamily, HistogramMetricFamily, Metric, Timestamp
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Exemplar

from llmvitals import catalogue
from llmvitals._series import OwnMetric
from llmvitals.exposition import encode, encode_openmetrics

pytestmark = pytest.mark.usefixtures("no_created_series")

CALL = ("chat", "openai", "talker", "", "", "", "")
TRACE = {"trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331"}


class Collector:
    """Shows what it is given."""

    def __init__(self, *families):
        self._families = families

    def describe(self):
        return ()

    def collect(self):
        return self._families


def registry_of(*families):
    registry = CollectorRegistry()
    registry.register(Collector(*families))
    return registry


def own():
    """Our own families, as calls are recorded into."""
    registry = CollectorRegistry()
    return registry, OwnMetric(catalogue.CALL_DURATION, registry), OwnMetric(catalogue.USAGE_MISSING, registry)


@settings(max_examples=80, deadline=None)
@given(
    names=st.dictionaries(st.text(max_size=20), st.text(max_size=40), max_size=4),
    amounts=st.lists(st.floats(), min_size=1, max_size=6),
    stamp=st.none() | st.floats() | st.integers(),
)
def test_any_exemplar_is_written_alike(names, amounts, stamp):
    """Hostile labels, NaN, infinities, times before 1970 and none at all: of our families and of anybody's."""
    registry, durations, missing = own()
    bare = Metric("bare", "A histogram's own name.", "histogram")
    for number, amount in enumerate(amounts):
        durations.labels(*CALL).observe(amount)
        durations.labels(*CALL).exemplify(amount, names, stamp)
        missing.labels("openai", f"model {number}", "true").exemplify(amount, names, stamp)
        bare.add_sample("bare", {"n": str(number)}, amount, exemplar=Exemplar(names, amount, stamp), timestamp=stamp)
    registry.register(Collector(bare))
    try:
        expected = generate_openmetrics(registry)
    except UnicodeEncodeError:  # A lone surrogate fails their whole scrape; ours shows a question mark.
        encode_openmetrics(registry)
        return

    assert expected == encode_openmetrics(registry)


def test_exemplars_of_prometheus_clients_own_metrics_are_written_alike():
    """With labels and without, some series with exemplars and some without, up to their longest."""
    registry = CollectorRegistry()
    Counter("plain", "Counter.", registry=registry).inc(2, TRACE)
    counter = Counter("labelled", "Counter.", ["l"], registry=registry)
    counter.labels("a").inc(1, {"k": "v" * 127})
    counter.labels("b").inc()
    histogram = Histogram("seconds", "Histogram.", ["l"], registry=registry, buckets=(0.1, 1))
    for amount in (0.05, 0.5, float("inf"), -2):
        histogram.labels("a").observe(amount, TRACE)
    histogram.labels("b").observe(0.5)
    Histogram("negative", "No sum.", registry=registry, buckets=(-1, 1)).observe(-3, TRACE)
    Gauge("gauge", "Gauge.", registry=registry).set(1)

    assert generate_openmetrics(registry) == encode_openmetrics(registry)
    assert 6 == encode_openmetrics(registry).count(b" # {")


def test_exemplars_of_collectors_are_written_alike():
    """Of each kind that may have them, with stamps of each kind."""
    histogram = HistogramMetricFamily("h", "Histogram.", labels=["l"])
    bucket = Exemplar({"a": 'b\n\\"'}, 1, Timestamp(-5, 120))
    histogram.add_metric(["x"], buckets=[("1.0", 1, bucket), ("+Inf", 3, None)], sum_value=7, timestamp=12.5)
    gauge_histogram = GaugeHistogramMetricFamily("g", "Gauge histogram.", labels=["l"])
    gauge_histogram.add_metric(["x"], buckets=[("1.0", 1), ("+Inf", 3)], gsum_value=7, timestamp=Timestamp(1, 5))
    gauge_histogram.samples[0] = gauge_histogram.samples[0]._replace(exemplar=Exemplar({}, float("nan"), -1.5))
    registry = registry_of(histogram, gauge_histogram)

    assert generate_openmetrics(registry) == encode_openmetrics(registry)


def test_a_family_whose_exemplar_is_out_of_place_is_left_out_alone():
    """prometheus_client fails the whole scrape for it."""
    bad = Metric("bad", "A gauge.", "gauge")
    bad.add_sample("bad", {}, 1, exemplar=Exemplar(TRACE, 1))
    good = Metric("good", "A gauge.", "gauge")
    good.add_sample("good", {}, 2)
    told = []

    text = encode_openmetrics(registry_of(bad, good), on_error=lambda name, error: told.append((name, str(error))))

    assert [("bad", "bad has an exemplar, and is neither a counter nor a histogram's bucket")] == told
    assert b"# HELP good A gauge.\n# TYPE good gauge\ngood 2.0\n# EOF\n" == text


def test_plain_text_has_no_exemplars():
    """Its format knows none."""
    registry, durations, _ = own()
    durations.labels(*CALL).observe(0.5)
    without = encode(registry)

    durations.labels(*CALL).exemplify(0.5, TRACE, 1.5)

    assert without == encode(registry)


def test_a_parser_reads_back_what_was_written():
    """The exemplar is on the bucket of its amount, with its time."""
    registry, durations, _ = own()
    durations.labels(*CALL).observe(0.5)
    durations.labels(*CALL).exemplify(0.5, TRACE, 1234.5)

    families = text_string_to_metric_families(encode_openmetrics(registry).decode())

    found = [(sample.labels["le"], *sample.exemplar) for family in families for sample in family.samples if sample[4]]
    assert [("0.64", TRACE, 0.5, Timestamp(1234, 500_000_000))] == found
