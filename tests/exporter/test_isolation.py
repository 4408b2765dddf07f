"""One collector's trouble stays its own."""

import logging
import threading
import time

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from tests.exporter.reading import flat, until

from llmvitals.exposition import encode
from llmvitals_exporter._declaration import CollectionFailedError, Declaration, NothingToCollect, Reader, Settings
from llmvitals_exporter._family import Family
from llmvitals_exporter._runner import Runner, State
from llmvitals_exporter._scrape import Scrape, View

GOOD = Family("test_good_bytes", "gauge", "A reading that must survive.", ("name",))
BAD = Family("test_bad_bytes", "gauge", "A reading of the collector in trouble.", ("name",))
PLAIN = Family("test_plain_bytes", "gauge", "A reading without labels.")


def declare(name, read, *, families=(BAD, PLAIN), waits=False):
    return Declaration(name=name, help="", families=families, open=lambda _: Reader(read), waits=waits)


good = declare("good", lambda: [(GOOD, ("a",), 1.0)], families=(GOOD,))
also_good = declare("also_good", lambda: [(GOOD, ("b",), 2.0)], families=(GOOD,), waits=True)


def raises(error):
    def read():
        raise error

    return read


def raises_halfway():
    yield BAD, ("first",), 1.0
    raise OSError("the file ended")


TROUBLE = {
    "raises": raises(RuntimeError("no")),
    "raises after a reading": raises_halfway,
    "ends the thread": raises(SystemExit(3)),
    "fails with garbage": raises(CollectionFailedError("lost", health=[None])),
    "gives None": lambda: None,
    "gives a number": lambda: 3,
    "no reading": lambda: [None],
    "value None": lambda: [(PLAIN, (), None)],
    "value N/A": lambda: [(PLAIN, (), "N/A")],
    "value NaN": lambda: [(PLAIN, (), float("nan"))],
    "value infinite": lambda: [(PLAIN, (), float("inf"))],
    "value int": lambda: [(PLAIN, (), 3)],
    "value bool": lambda: [(PLAIN, (), True)],
    "label int": lambda: [(BAD, (3,), 1.0)],
    "label None": lambda: [(BAD, (None,), 1.0)],
    "label missing": lambda: [(BAD, (), 1.0)],
    "label too many": lambda: [(BAD, ("a", "b"), 1.0)],
    "labels a string": lambda: [(BAD, "a", 1.0)],
    "series twice": lambda: [(BAD, ("a",), 1.0), (BAD, ("a",), 2.0)],
    "another's family": lambda: [(GOOD, ("c",), 1.0)],
    "no family": lambda: [("test_bad_bytes", ("a",), 1.0)],
}


def served(*declarations, timeout=2.0):
    registry = CollectorRegistry()
    registry.register(View(Scrape(Runner(declarations, Settings(), timeout=timeout))))
    text = encode(registry).decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.parametrize("waits", [False, True], ids=["in the shared thread", "in its own thread"])
@pytest.mark.parametrize("trouble", TROUBLE)
def test_trouble_stays_with_its_collector(trouble, waits):
    """Whatever a collector does, the others are served whole, and its own success is 0 without half a reading."""
    samples = served(good, declare("bad", TROUBLE[trouble], waits=waits), also_good)

    assert samples["test_good_bytes", "a"] == 1.0
    assert samples["test_good_bytes", "b"] == 2.0
    assert samples["llmvitals_scrape_collector_success", "bad"] == 0.0
    assert samples["llmvitals_scrape_collector_success", "good"] == 1.0
    assert not [name for name, *_ in samples if name in ("test_bad_bytes", "test_plain_bytes")]
    assert samples["llmvitals_scrape_collector_duration_seconds", "bad"] >= 0


def test_absence_is_not_failure():
    """A collector that finds nothing of its kind has no series at all, so that no alert fires for it."""
    samples = served(good, declare("gpu", raises(NothingToCollect("no driver"))))

    assert samples["llmvitals_scrape_collector_success", "good"] == 1.0
    assert not [labels for _, *labels in samples if "gpu" in labels]


def test_failure_can_tell_its_health():
    """A failed collection publishes what it says about the failure, and nothing else."""
    samples = served(declare("bad", raises(CollectionFailedError("lost", health=[(PLAIN, (), 15.0)]))))

    assert samples["test_plain_bytes",] == 15.0
    assert samples["llmvitals_scrape_collector_success", "bad"] == 0.0


def test_collector_with_nothing_to_do_is_left_out():
    """A collector whose settings give it nothing to read is not part of the exporter."""
    idle = Declaration(name="idle", help="", families=(), open=lambda _: None)

    assert ("good",) == Runner([good, idle], Settings()).collectors


@pytest.fixture(name="gate")
def _gate():
    gate = threading.Event()
    yield gate
    gate.set()


def collector_threads():
    return [thread for thread in threading.enumerate() if thread.name == "collector"]


@pytest.mark.parametrize("waits", [False, True], ids=["in the shared thread", "in its own thread"])
def test_stuck_collector_is_skipped(gate, waits):
    """A collector that hangs costs one timeout, once; then it is skipped, holds one thread, and comes back."""
    calls = []

    def hang():
        calls.append(1)
        gate.wait()
        return [(PLAIN, (), 1.0)]

    before = len(collector_threads())
    runner = Runner([good, declare("stuck", hang, waits=waits), also_good], Settings(), timeout=0.2)
    seconds = []
    for _ in range(5):
        started = time.monotonic()
        outcomes = runner.collect()
        seconds.append(time.monotonic() - started)

        assert [State.OK, State.STUCK, State.OK] == [outcome.state for outcome in outcomes]
    until(lambda: len(collector_threads()) == before + 1)

    assert seconds[0] < 1.0
    assert max(seconds[1:]) < 0.2
    assert 1 == len(calls)

    gate.set()
    until(lambda: len(collector_threads()) == before)

    assert [State.OK] * 3 == [outcome.state for outcome in runner.collect()]


def test_late_result_is_thrown_away(gate):
    """What a stuck collector finds in the end is old, and is never served."""

    def hang():
        gate.wait()
        return [(PLAIN, (), 1.0)]

    runner = Runner([declare("stuck", hang)], Settings(), timeout=0.05)
    runner.collect()
    gate.set()
    until(lambda: not collector_threads())

    def now():
        return [(PLAIN, (), 2.0)]

    runner._members[0].source = Reader(now)

    assert {"test_plain_bytes": 2.0} == flat(runner.collect()[0].samples)


def test_everyone_stuck_costs_one_timeout_each(gate):
    """The shared thread's members go on one after another, each with its own time, whoever hangs before them."""
    names = ["a", "b", "c"]
    hang = [declare(name, lambda: gate.wait() and []) for name in names]
    runner = Runner([*hang, good], Settings(), timeout=0.1)
    started = time.monotonic()
    outcomes = runner.collect()

    assert [State.STUCK] * 3 + [State.OK] == [outcome.state for outcome in outcomes]
    assert time.monotonic() - started < 2.0


def test_concurrent_scrapes_share_one_collection(gate):
    """Scrapes that come while one runs get its result, and cause no second one."""
    calls = []

    def slow():
        calls.append(1)
        gate.wait()
        return [(PLAIN, (), 1.0)]

    scrape = Scrape(Runner([declare("slow", slow)], Settings(), timeout=30))
    results = []
    threads = [threading.Thread(target=lambda: results.append(scrape.outcomes())) for _ in range(20)]
    for thread in threads:
        thread.start()
    until(lambda: calls)
    gate.set()
    for thread in threads:
        thread.join(10)

    assert 20 == len(results)
    assert len(calls) < 20
    assert all(result[0].state is State.OK for result in results)


def test_failure_is_logged_once(caplog):
    """A failure is logged when it begins and when it ends, not at each scrape, even if its text counts seconds."""
    trouble = [f"no answer for {second} s" for second in range(5)]

    def read():
        if trouble:
            raise OSError(trouble.pop(0))
        return []

    runner = Runner([declare("flaky", read)], Settings())
    with caplog.at_level(logging.INFO, "llmvitals_exporter"):
        for _ in range(8):
            runner.collect()

    assert [
        "collector flaky failed: OSError: no answer for 0 s",
        "collector flaky works again",
    ] == caplog.messages


def test_absence_is_logged_once(caplog):
    """That a machine has nothing for a collector is told with the reason, and no failure."""

    def read():
        raise NothingToCollect("no driver")

    runner = Runner([declare("gpu", read)], Settings())
    with caplog.at_level(logging.INFO, "llmvitals_exporter"):
        for _ in range(3):
            runner.collect()

    told = [("INFO", "collector gpu has nothing to read here: no driver")]
    assert told == [(record.levelname, record.message) for record in caplog.records]


def test_scrape_has_a_time_of_its_own(gate):
    """When the whole scrape's time is over it answers with what it has, and reads no more behind its back."""
    read = []

    def hang():
        gate.wait()
        return []

    def late():
        read.append(1)
        return []

    hung = [declare("stuck", hang), declare("behind", late), declare("waiting", hang, waits=True)]
    runner = Runner([also_good, *hung], Settings(), timeout=30)
    started = time.monotonic()
    outcomes = runner.collect(within=0.3)

    assert time.monotonic() - started < 2.0
    assert [State.OK, State.STUCK, State.STUCK, State.STUCK] == [outcome.state for outcome in outcomes]
    assert {"the 0.3 s of the scrape were over"} == {outcome.error for outcome in outcomes[1:]}

    gate.set()
    until(lambda: not collector_threads())

    assert not read
    assert [State.OK] * 4 == [outcome.state for outcome in runner.collect(within=30)]


def test_some_collectors_only():
    """A scrape of some collectors reads no other."""
    read = []
    noted = [declare(name, lambda name=name: read.append(name) or []) for name in "abc"]
    outcomes = Scrape(Runner(noted, Settings())).outcomes(frozenset("ac"))

    assert ["a", "c"] == read == [outcome.collector for outcome in outcomes]


def test_a_part_shares_the_whole_and_waits_for_another_part(gate):
    """Who asks for less shares what runs; who asks for something else waits, so that nothing is read twice at once."""
    calls = []

    def slow(name):
        def read():
            calls.append(name)
            gate.wait()
            return []

        return declare(name, read)

    scrape = Scrape(Runner([slow("a"), slow("b")], Settings(), timeout=30))
    results = {}

    def ask(*names):
        only = frozenset(names) or None
        results[names] = [outcome.collector for outcome in scrape.outcomes(only)]

    threads = [threading.Thread(target=ask, args=("a",))]
    threads[0].start()
    until(lambda: calls)
    threads += [threading.Thread(target=ask, args=names) for names in (("b",), ())]
    for thread in threads[1:]:
        thread.start()

    assert ["a"] == calls

    gate.set()
    for thread in threads:
        thread.join(10)

    assert {("a",): ["a"], ("b",): ["b"], (): ["a", "b"]} == results
    assert len(calls) in (3, 4)
