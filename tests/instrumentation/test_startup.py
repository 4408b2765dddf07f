import logging

import pytest
from prometheus_client import CollectorRegistry

from llmvitals._recording import Recorder
from llmvitals._startup import Startup


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture(name="clock")
def _clock():
    return Clock()


@pytest.fixture(name="recorder")
def _recorder():
    return Recorder(CollectorRegistry())


@pytest.fixture(name="startup")
def _startup(recorder, clock):
    return Startup(recorder, ("settings", "models"), clock=clock)


def value(recorder, name, **labels):
    return recorder.registry.get_sample_value(f"llmvitals_{name}", labels)


def test_phases_make_the_progress_and_ready_the_total(recorder, clock, startup, caplog):
    """Durations of each, and one line in the log with the longest."""
    assert (0, 0) == (value(recorder, "startup_progress_ratio"), value(recorder, "startup_complete"))
    with startup.phase("settings"):
        clock.now += 1
    assert 0.5 == value(recorder, "startup_progress_ratio")
    with startup.phase("models"):
        clock.now += 3
    with caplog.at_level(logging.INFO, logger="llmvitals"):
        assert 4 == startup.ready()
        clock.now += 10
        assert 4 == startup.ready()

    assert (1, 1, 4) == tuple(
        value(recorder, f"startup_{name}") for name in ("progress_ratio", "complete", "duration_seconds")
    )
    assert 3 == value(recorder, "startup_phase_duration_seconds", phase="models")
    assert ["llmvitals: ready after 4.00 s; longest: models 3.00 s, settings 1.00 s"] == caplog.messages


def test_what_was_announced_and_not_done_is_told(startup, caplog):
    """The application says that it is ready; the log says without what."""
    with caplog.at_level(logging.INFO, logger="llmvitals"):
        startup.ready()

    assert "not done: settings, models" in caplog.text
    assert 1.0 == startup.progress


def test_a_phase_that_fails_may_be_tried_again(recorder, startup):
    """Its error passes through and is counted."""
    with pytest.raises(OSError, match="no file"), startup.phase("models"):
        raise OSError("no file")
    assert "failed" == startup.summary()["phases"]["models"]["state"]
    with startup.phase("models"):
        assert "running" == startup.summary()["phases"]["models"]["state"]

    assert 1 == value(recorder, "startup_phase_failures_total", phase="models", error_type="OSError")
    assert 0.5 == startup.progress


def test_one_that_was_not_announced_joins_the_others(startup):
    """So phases need no list."""
    with startup.phase("index"):
        pass

    assert 1 / 3 == startup.progress


def test_a_lazy_load_is_no_part_of_the_progress(recorder, clock, startup):
    """It happens when somebody needs it; failed or not, it is timed."""
    with startup.lazy("embeddings"):
        clock.now += 2
    with pytest.raises(OSError, match="gone"), startup.lazy("voices"):
        raise OSError("gone")

    assert 0 == startup.progress
    assert 2 == value(recorder, "lazy_load_duration_seconds_sum", load="embeddings", error_type="")
    assert 1 == value(recorder, "lazy_load_duration_seconds_count", load="voices", error_type="OSError")
    assert {"embeddings": 2} == startup.summary()["lazy_loads_seconds"]


def test_there_is_one_start(vitals):
    """And while it goes on, the summary says so."""
    startup = vitals.startup("models")

    assert startup is vitals.startup()
    assert "yellow" == vitals.summary()["status"]
    startup.ready()
    assert "green" == vitals.summary()["status"]
