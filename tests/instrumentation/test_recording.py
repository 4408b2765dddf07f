import logging
import os
import threading

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.values import MultiProcessValue

from llmvitals import catalogue
from llmvitals._recording import Recorder, error_type, label_text, observe_counted
from llmvitals._series import LOCK
from llmvitals.exposition import encode, encode_openmetrics


class Hostile:
    def __str__(self):
        raise RuntimeError("no text")

    def __hash__(self):
        raise RuntimeError("no hash")

    def __eq__(self, other):
        raise RuntimeError("no equality")


@pytest.fixture(name="recorder")
def _recorder():
    return Recorder(CollectorRegistry(), label_sets=10)


def value(recorder, name, /, **labels):
    return recorder.registry.get_sample_value(name, labels)


def test_label_sets_over_the_cap_fold_into_other_and_sums_stay_exact(recorder):
    """Nothing is lost but the names, and the drop is told."""
    for number in range(100):
        recorder.child(catalogue.RETRY_WAIT, f"place-{number}").observe(number)

    samples = {
        sample.labels["name"]: sample.value
        for family in recorder.registry.collect()
        for sample in family.samples
        if sample.name == "llmvitals_retry_wait_seconds_sum"
    }
    assert 11 == len(samples)
    assert sum(range(100)) == sum(samples.values())
    assert sum(range(10, 100)) == samples["other"]
    assert 90 == value(recorder, "llmvitals_label_values_dropped_total", metric="llmvitals_retry_wait_seconds")


def test_folding_keeps_closed_labels_and_empty_ones(recorder):
    """A success folded into "other" is still a success."""
    for number in range(20):
        recorder.child(catalogue.ATTEMPTS, f"place-{number}", "success").inc()
        recorder.child(catalogue.OPERATION_DURATION, f"operation-{number}", "").observe(1)

    assert 10 == value(recorder, "llmvitals_attempts_total", name="other", outcome="success")
    assert 10 == value(recorder, "llmvitals_operation_duration_seconds_count", operation="other", error_type="")


def test_a_closed_label_with_hostile_values_cannot_open_the_fold(recorder):
    """Even labels that are ours are capped in the end."""
    for number in range(1000):
        recorder.child(catalogue.ATTEMPTS, "place", f"outcome-{number}").inc()

    samples = [
        sample
        for family in recorder.registry.collect()
        for sample in family.samples
        if sample.name == "llmvitals_attempts_total"
    ]
    assert 1000 == sum(sample.value for sample in samples)
    assert 10 + 32 + 1 >= len(samples)


def test_a_folded_gauge_takes_ups_and_downs_and_no_values(recorder):
    """Movements of many add up; a set value of one would speak for all."""
    for number in range(10):
        recorder.child(catalogue.OPERATIONS_IN_FLIGHT, f"operation-{number}")

    recorder.child(catalogue.OPERATIONS_IN_FLIGHT, "eleventh").inc(3)
    recorder.child(catalogue.OPERATIONS_IN_FLIGHT, "twelfth").dec()
    recorder.child(catalogue.OPERATIONS_IN_FLIGHT, "thirteenth").set(99)

    assert 2 == value(recorder, "llmvitals_operations_in_flight", operation="other")


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ('quote" and \\', 'quote" and \\'),
        ("two\nlines", "two\nlines"),
        ("x" * 1_000_000, "x" * 255 + "…"),
        (None, ""),
        (True, "true"),
        (8080, "8080"),
        (b"\xffbytes", "\N{REPLACEMENT CHARACTER}bytes"),
        ("lone \udcff surrogate", "lone ? surrogate"),
        (["unhashable"], "['unhashable']"),
        (Hostile(), "invalid"),
    ],
    ids=["quotes", "newline", "megabyte", "none", "bool", "int", "bytes", "surrogate", "unhashable", "raises"],
)
def test_any_value_can_be_a_label(recorder, hostile, shown):
    """It is made text, and the scrape can be read back."""
    recorder.child(catalogue.POOL_PENDING_REQUESTS, hostile).set(1)

    (family,) = text_string_to_metric_families(encode(recorder.registry).decode())
    assert {"pool": shown} == family.samples[0].labels
    assert shown == label_text(hostile)


def test_equal_values_of_different_types_are_different_labels(recorder):
    """1, True and 1.0 are one dictionary key, and three texts."""
    for same in (1, True, 1.0):
        recorder.child(catalogue.POOL_PENDING_REQUESTS, same).set(1)

    shown = {sample.labels["pool"] for family in recorder.registry.collect() for sample in family.samples}
    assert {"1", "true", "1.0"} == shown


def test_a_name_that_is_taken_is_told_once_and_never_raises(recorder, caplog):
    """The application's own metric of that name stays; ours goes nowhere."""
    Counter("llmvitals_attempts", "The application's.", registry=recorder.registry)

    for _ in range(3):
        recorder.child(catalogue.ATTEMPTS, "place", "success").inc()

    assert 0 == value(recorder, "llmvitals_attempts_total")
    assert 1 == value(recorder, "llmvitals_instrumentation_errors_total", component="registry")
    assert ["llmvitals_attempts_total is not recorded" in record.message for record in caplog.records] == [True]


def test_a_registry_that_raises_is_survived(caplog):
    """Everything can still be called."""

    class Broken(CollectorRegistry):
        def register(self, collector):
            raise RuntimeError("full")

    recorder = Recorder(Broken())

    recorder.child(catalogue.ATTEMPTS, "place", "success").inc()
    recorder.child(catalogue.RETRY_WAIT, "place").observe(1)
    recorder.child(catalogue.CACHE_ENTRIES, "cache").set(1)
    recorder.forget(catalogue.CACHE_ENTRIES, "cache")
    recorder.close()

    assert {logging.WARNING} == {record.levelno for record in caplog.records}


def test_wrong_number_of_labels_is_a_fault_of_ours(recorder):
    """It counts, and raises nothing."""
    recorder.child(catalogue.ATTEMPTS, "only a name").inc()

    assert 1 == value(recorder, "llmvitals_instrumentation_errors_total", component="registry")


def test_a_gauge_whose_callback_raises_shows_nan(recorder, caplog):
    """The scrape goes on, and the fault counts."""

    def read():
        raise RuntimeError("gone")

    recorder.read_at_scrape(catalogue.CACHE_ENTRIES, "cache", read=read)

    text = encode(recorder.registry).decode()

    assert 'llmvitals_cache_entries{cache="cache"} NaN' in text
    assert value(recorder, "llmvitals_instrumentation_errors_total", component="llmvitals_cache_entries")
    assert "the value is shown as NaN" in caplog.text


def test_a_forgotten_series_is_gone_and_may_come_back(recorder):
    """What a series spoke of may end, and begin anew from zero."""
    recorder.child(catalogue.ATTEMPTS, "place", "success").inc(5)

    recorder.forget(catalogue.ATTEMPTS, "place", "success")
    assert value(recorder, "llmvitals_attempts_total", name="place", outcome="success") is None

    recorder.child(catalogue.ATTEMPTS, "place", "success").inc()
    assert 1 == value(recorder, "llmvitals_attempts_total", name="place", outcome="success")


def test_what_is_recorded_later_is_there_at_the_scrape(recorder):
    """A finaliser's recording waits no longer than the next scrape."""
    recorder.child(catalogue.ATTEMPTS, "place", "success")
    recorder.later(lambda: recorder.child(catalogue.ATTEMPTS, "place", "success").inc())

    assert b'llmvitals_attempts_total{name="place",outcome="success"} 1.0' in encode(recorder.registry)


def share_files(monkeypatch, folder):
    """Be as in an application whose workers share their numbers through prometheus_client's files."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder))
    value_class = MultiProcessValue()
    for module in ("llmvitals._recording", "prometheus_client.values"):
        monkeypatch.setattr(f"{module}.ValueClass", value_class)


def use_all_kinds(recorder):
    recorder.child(catalogue.ATTEMPTS, 'a "place"', "success").inc(12345678)
    recorder.child(catalogue.USER_PROFILES_CREATED).inc()
    recorder.child(catalogue.POOL_PENDING_REQUESTS, "pool").inc(7)
    recorder.child(catalogue.POOL_PENDING_REQUESTS, "pool").dec(2.5)
    recorder.child(catalogue.CACHE_ENTRIES, "cache").set(True)
    wait = recorder.child(catalogue.RETRY_WAIT, "place")
    for amount in (0.0, 0.1, 0.1000001, 0.25, 3, 60.0, 61.0, 1e9):
        wait.observe(amount)


def test_our_own_series_show_what_prometheus_clients_would(recorder, no_created_series, monkeypatch, tmp_path):
    """The same text, bounds included, from our encoder and from prometheus_client's; in both formats."""
    use_all_kinds(recorder)
    shown = encode(recorder.registry)
    assert generate_latest(recorder.registry) == shown
    assert generate_openmetrics(recorder.registry) == encode_openmetrics(recorder.registry)

    share_files(monkeypatch, tmp_path)
    by_prometheus_client = Recorder(CollectorRegistry())
    use_all_kinds(by_prometheus_client)

    assert generate_latest(by_prometheus_client.registry) == shown


def test_workers_that_share_files_find_our_numbers_there(monkeypatch, tmp_path):
    """An application in prometheus_client's many-worker mode sees ours as it sees its own."""
    share_files(monkeypatch, tmp_path)
    use_all_kinds(Recorder(CollectorRegistry()))
    shared = CollectorRegistry()
    MultiProcessCollector(shared, str(tmp_path))

    assert 12345678 == shared.get_sample_value("llmvitals_attempts_total", {"name": 'a "place"', "outcome": "success"})
    assert 8 == shared.get_sample_value("llmvitals_retry_wait_seconds_count", {"name": "place"})


@pytest.mark.parametrize("shared", [False, True], ids=["ours", "prometheus_client's"])
def test_observing_counted_is_observing_each(recorder, shared, monkeypatch, tmp_path):
    """What was counted by bucket lands in the same buckets."""
    for amount in (0.0, 0.0, 0.0, 0.75, 0.75, 60.75):
        recorder.child(catalogue.RETRY_WAIT, "place").observe(amount)
    if shared:
        share_files(monkeypatch, tmp_path)
    at_once = Recorder(CollectorRegistry())
    observe_counted(at_once.child(catalogue.RETRY_WAIT, "place"), [3, 0, 0, 2, 0, 0, 0, 0, 0, 1], 62.25)

    assert encode(recorder.registry) == encode(at_once.registry)


def test_a_counter_only_goes_up(recorder):
    """A mistake of ours must not look like a restart to Prometheus."""
    with pytest.raises(ValueError, match="only goes up"):
        recorder.child(catalogue.ATTEMPTS, "place", "success").inc(-1)


def test_many_threads_lose_nothing(recorder):
    """Increments of all of them add up."""
    counter = recorder.child(catalogue.ATTEMPTS, "place", "success")
    gauge = recorder.child(catalogue.OPERATIONS_IN_FLIGHT, "operation")
    histogram = recorder.child(catalogue.RETRY_WAIT, "place")

    def work():
        for _ in range(2_000):
            gauge.inc()
            counter.inc()
            histogram.observe(1.0)
            observe_counted(histogram, [1, *([0] * 9)], 0.0)
            gauge.dec()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 16_000 == value(recorder, "llmvitals_attempts_total", name="place", outcome="success")
    assert 32_000 == value(recorder, "llmvitals_retry_wait_seconds_count", name="place")
    assert 16_000 == value(recorder, "llmvitals_retry_wait_seconds_sum", name="place")
    assert 0 == value(recorder, "llmvitals_operations_in_flight", operation="operation")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_fork_in_the_middle_of_recording_leaves_a_child_that_records():
    """The lock is nobody's in the child, whoever held it."""
    recorder = Recorder(CollectorRegistry())
    held, free = threading.Event(), threading.Event()

    def hold():
        with LOCK:
            held.set()
            free.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(10)
    threading.Timer(0.05, free.set).start()
    child = os.fork()
    if child == 0:
        done = threading.Thread(target=recorder.child(catalogue.ATTEMPTS, "place", "success").inc)
        done.start()
        done.join(5)
        os._exit(int(done.is_alive()))
    _, status = os.waitpid(child, 0)
    holder.join()

    assert 0 == status


def test_closing_frees_the_names():
    """Another recorder may use the registry after it."""
    registry = CollectorRegistry()
    first = Recorder(registry)
    first.child(catalogue.ATTEMPTS, "place", "success").inc()
    first.close()

    second = Recorder(registry)
    second.child(catalogue.ATTEMPTS, "place", "success").inc()

    assert 1 == value(second, "llmvitals_attempts_total", name="place", outcome="success")


def test_what_is_recorded_after_the_end_takes_no_name_again():
    """A stream may outlive what watches it; the next recorder on the registry must not find its names taken."""
    registry = CollectorRegistry()
    first = Recorder(registry)
    first.close()
    first.child(catalogue.ATTEMPTS, "place", "success").inc()

    second = Recorder(registry)
    second.child(catalogue.ATTEMPTS, "place", "success").inc(5)

    assert 5 == value(second, "llmvitals_attempts_total", name="place", outcome="success")


class StatusError(Exception):
    status_code = 429


class ResponseError(Exception):
    response = StatusError()


@pytest.mark.parametrize(
    ("error", "named"),
    [(None, ""), (ValueError("x"), "ValueError"), (StatusError(), "429"), (ResponseError(), "429")],
    ids=["none", "class", "status", "response"],
)
def test_errors_are_named_by_status_or_class(error, named):
    """Never by their text, which has no end of values."""
    assert named == error_type(error)


TWO = ((catalogue.ATTEMPTS, ("place", "success")), (catalogue.RETRY_WAIT, ("place",)))


def test_kept_series_are_found_by_one_look(recorder):
    """They are the very ones that their families' names and labels give."""
    kept = recorder.keep("key", *TWO)

    assert kept is recorder.kept["key"]
    assert list(kept) == [recorder.child(family, *texts) for family, texts in TWO]


def test_nothing_is_kept_that_folds(recorder):
    """Each recording into "other" is told, so it must be asked for each time."""
    for number in range(10):
        recorder.child(catalogue.RETRY_WAIT, f"place-{number}")

    for _ in range(3):
        recorder.keep("key", *TWO)[1].observe(1)

    assert {} == recorder.kept
    assert 3 == value(recorder, "llmvitals_label_values_dropped_total", metric="llmvitals_retry_wait_seconds")
    assert 3 == value(recorder, "llmvitals_retry_wait_seconds_sum", name="other")


def test_what_is_forgotten_is_kept_no_longer(recorder):
    """Nothing is recorded into a series that no scrape shows."""
    recorder.keep("key", *TWO)
    recorder.forget(*TWO[0][:1], *TWO[0][1])

    assert {} == recorder.kept


def test_keys_are_not_kept_without_end(recorder):
    """As many as a family has label sets."""
    for number in range(1000):
        recorder.keep(("key", number), *TWO)

    assert 10 == len(recorder.kept)
