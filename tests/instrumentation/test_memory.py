import logging
import time

import pytest
from prometheus_client import CollectorRegistry

from llmvitals._memory import BASELINE_AFTER_VARIABLE, Memory, _high_water_bytes, resident_bytes
from llmvitals._recording import Recorder

MIB = 2**20


class Process:
    """A process whose memory and clock a test sets."""

    def __init__(self):
        self.now = 0.0
        self.resident = 100 * MIB
        self.recorder = Recorder(CollectorRegistry())
        self.memory = Memory(
            self.recorder, baseline_after_seconds=60, resident=lambda: self.resident, clock=lambda: self.now
        )

    def run(self, seconds, grow=0):
        for _ in range(seconds):
            self.now += 1
            self.resident += grow
            self.memory.sample()

    def value(self, name):
        return self.recorder.registry.get_sample_value(f"llmvitals_memory_{name}")


@pytest.fixture(name="process")
def _process():
    return Process()


def test_there_is_no_baseline_while_it_warms_up(process):
    """No ratio either: absent, not 1."""
    process.run(59, grow=MIB)

    assert process.value("baseline_bytes") is None
    assert process.value("baseline_ratio") is None


def test_the_baseline_is_taken_when_it_has_settled(process):
    """The ratio is live: it follows the process, not the last sample."""
    process.run(60)
    process.resident = 160 * MIB

    assert 100 * MIB == process.value("baseline_bytes")
    assert 1.6 == process.value("baseline_ratio")
    process.run(30)
    assert 100 * MIB == process.value("baseline_bytes")


def test_a_spike_at_the_wrong_moment_is_no_baseline(process):
    """The median of the last samples, not the last one."""
    process.run(59)
    process.resident = 900 * MIB
    process.run(1)

    assert 100 * MIB == process.value("baseline_bytes")


def test_growth_is_the_slope_of_the_window(process):
    """One MiB a second, and flat again once the window has passed."""
    process.run(5, grow=MIB)
    assert process.memory.growth_bytes_per_second is None
    process.run(30, grow=MIB)
    assert MIB == pytest.approx(process.value("growth_bytes_per_second"))
    process.run(120)

    assert 0 == pytest.approx(process.value("growth_bytes_per_second"), abs=1)


def test_the_peak_stays(process):
    """What once was needed."""
    process.run(3, grow=10 * MIB)
    process.resident = 50 * MIB
    process.run(3)

    assert 130 * MIB == process.memory.peak_bytes


def test_a_real_process_shows_all_of_it():
    """Resident, peak, blocks, with the thread running."""
    recorder = Recorder(CollectorRegistry())
    memory = Memory(recorder, baseline_after_seconds=0)
    memory.start()
    try:
        deadline = time.monotonic() + 10
        read = recorder.registry.get_sample_value
        while not read("llmvitals_memory_baseline_ratio") and time.monotonic() < deadline:
            time.sleep(0.01)
        assert 0.5 < read("llmvitals_memory_baseline_ratio") < 2
        assert read("llmvitals_memory_peak_bytes") >= resident_bytes() * 0.9
        assert read("llmvitals_python_allocated_blocks") > 10_000
    finally:
        memory.stop()
    assert {"resident_bytes", "baseline_bytes", "baseline_ratio", "peak_bytes", "growth_bytes_per_second"} == set(
        memory.summary()
    )


def test_the_kernel_s_high_water_mark_is_read():
    """Where there is one, a short spike between two samples is not missed."""
    high = _high_water_bytes()

    assert high is None or high >= resident_bytes() * 0.9


@pytest.mark.parametrize(
    ("text", "seconds", "warned"), [("5", 5.0, False), ("", 60.0, False), ("soon", 60.0, True), ("-1", 60.0, True)]
)
def test_the_environment_sets_the_warm_up(monkeypatch, caplog, text, seconds, warned):
    """A wrong value is told, and does not stop the application."""
    monkeypatch.setenv(BASELINE_AFTER_VARIABLE, text)

    with caplog.at_level(logging.WARNING, logger="llmvitals"):
        memory = Memory(Recorder(CollectorRegistry()))

    assert seconds == memory._baseline_after_seconds
    assert warned == bool(caplog.records)
