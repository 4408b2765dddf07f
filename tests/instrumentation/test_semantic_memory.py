import pytest
from prometheus_client import CollectorRegistry

from llmvitals._recording import Recorder
from llmvitals._semantic_memory import SemanticMemory


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture(name="clock")
def _clock():
    return Clock()


@pytest.fixture(name="recorder")
def _recorder():
    return Recorder(CollectorRegistry())


@pytest.fixture(name="journal")
def _journal(recorder, clock):
    return SemanticMemory(recorder, "journal", size=lambda: 42, max_documents=100_000, clock=clock)


def value(recorder, name, **labels):
    return recorder.registry.get_sample_value(f"llmvitals_semantic_memory_{name}", {"memory": "journal", **labels})


def test_a_search_says_what_it_found(recorder, clock, journal):
    """Time, results, and the similarity of each."""
    with journal.search() as search:
        clock.now += 0.4
        search.found(score for score in (0.91, 0.65, 1.2))

    assert 0.4 == value(recorder, "operation_duration_seconds_sum", operation="search", error_type="")
    assert 3 == value(recorder, "results_sum")
    assert 1 == value(recorder, "similarity_ratio_bucket", le="0.7")
    assert 3 == value(recorder, "similarity_ratio_bucket", le="1.0")
    assert 0 == value(recorder, "weak_searches_total")
    assert {"searches": 1, "search_p95_seconds": 0.4, "weak_searches": 0}.items() <= journal.summary().items()


@pytest.mark.parametrize("similarities", [[], [0.69, 0.3]], ids=["nothing", "too little"])
def test_a_search_below_the_similarity_wanted_is_weak(recorder, journal, similarities):
    """Also one that found nothing."""
    with journal.search() as search:
        search.found(similarities)

    assert 1 == value(recorder, "weak_searches_total")
    assert 1 == journal.summary()["weak_searches"]


def test_a_search_that_says_nothing_is_only_timed(recorder, journal):
    """What it found is not guessed."""
    with journal.search():
        pass

    assert value(recorder, "results_count") is None
    assert 0 == value(recorder, "weak_searches_total")


@pytest.mark.parametrize("similarities", [["near"], 7], ids=["no number", "no list"])
def test_odd_similarities_do_not_reach_the_application(recorder, journal, similarities):
    """They are a fault of the instrumentation, counted as one."""
    with journal.search() as search:
        search.found(similarities)

    assert 1 == recorder.registry.get_sample_value(
        "llmvitals_instrumentation_errors_total", {"component": "semantic_memory"}
    )


def test_a_search_that_fails_is_told_by_its_error(recorder, journal):
    """And passes it through."""
    with pytest.raises(OSError, match="index is gone"), journal.search():
        raise OSError("index is gone")

    assert 1 == value(recorder, "operation_duration_seconds_count", operation="search", error_type="OSError")


def test_storing_context_and_optimising_are_timed(recorder, clock, journal):
    """A batch that failed was not stored."""
    with journal.store(documents=100):
        clock.now += 1
    with pytest.raises(OSError, match="full"), journal.store(documents=7):
        raise OSError("full")
    with journal.context():
        clock.now += 2
    with journal.optimise():
        clock.now += 3

    assert (1, 2, 3) == tuple(
        value(recorder, "operation_duration_seconds_sum", operation=operation, error_type="")
        for operation in ("store", "context", "optimise")
    )
    assert (1, 100) == (value(recorder, "batch_size_count"), value(recorder, "batch_size_sum"))
    assert 100 == journal.summary()["stored"]


def test_the_size_is_read_when_somebody_looks(recorder, journal):
    """And where the index cannot say it, it is left out of the summary."""
    broken = SemanticMemory(recorder, "broken", size=lambda: 1 / 0)

    assert (42, 100_000) == (value(recorder, "documents"), value(recorder, "max_documents"))
    assert 42 == journal.summary()["documents"]
    assert broken.summary()["documents"] is None
    assert SemanticMemory(recorder, "unsized").summary()["documents"] is None


def test_a_taken_name_and_a_target_of_nothing_are_refused(vitals):
    """At the line that makes the mistake."""
    vitals.semantic_memory("journal")

    with pytest.raises(ValueError, match="registered already"):
        vitals.semantic_memory("journal")
    with pytest.raises(ValueError, match="above 0"):
        vitals.semantic_memory("other", target_seconds=0)
    assert {"journal"} == set(vitals.summary()["semantic_memories"])
