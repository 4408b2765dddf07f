"""GPUs behind a child process that is scripted to do what drivers do."""

import json
import sys
import threading
import time
from pathlib import Path

import pytest
from tests.exporter.reading import until, values

from llmvitals_exporter import _child
from llmvitals_exporter._cards import Cards
from llmvitals_exporter._child import Child
from llmvitals_exporter._declaration import CollectionFailedError, NothingToCollect, Settings
from llmvitals_exporter._pipe import ThreadedPipe
from llmvitals_exporter.collectors.nvidia import COLLECTOR, NVIDIA, VENDOR

FAKE = Path(__file__).parent / "fake_nvml_child.py"
UUID = "GPU-00000000-0000-0000-0000-000000000001"


def gpu(readings=(("temperature_celsius", ["gpu"], 41.0), ("utilization_ratio", [], 0.5)), uuid=UUID):
    info = {"index": "0", "name": "NVIDIA H200", "pci_bus_id": "0:1", "vbios_version": "9"} | {
        "mig_mode": "disabled",
        "memory": "dedicated",
    }
    return {"uuid": uuid, "info": info, "readings": [list(reading) for reading in readings]}


def ok(*devices):
    driver = {"driver_version": "570.1", "cuda_version": "12.8"}
    return {"status": "ok", "code": 0, "driver": driver, "devices": list(devices) or [gpu()]}


OK = ok()
LOST = {"status": "failed", "code": 15, "error": "GPU 0: GPU is lost"}
ABSENT = {"status": "absent", "code": 12, "error": "nvmlInit: NVML Shared Library Not Found"}
OK_SERIES = {
    "llmvitals_gpu_collector_nvml_return_code": 0.0,
    'llmvitals_gpu_count{vendor="nvidia"}': 1.0,
    f'llmvitals_gpu_info{{uuid="{UUID}",index="0",name="NVIDIA H200",pci_bus_id="0:1",vbios_version="9",'
    'mig_mode="disabled",memory="dedicated",driver_version="570.1",cuda_version="12.8"}': 1.0,
    f'llmvitals_gpu_temperature_celsius{{uuid="{UUID}",sensor="gpu"}}': 41.0,
    f'llmvitals_gpu_utilization_ratio{{uuid="{UUID}"}}': 0.5,
}


class Driver:
    """A collector in front of a scripted child, with a clock that the test turns."""

    def __init__(self, folder, *lives, required=False, patience=10.0):
        self._starts = folder / "starts"
        script = folder / "script"
        script.write_text("".join(json.dumps(life) + "\n" for life in lives))
        self.now = 0.0
        command = [sys.executable, "-S", str(FAKE), str(script), str(self._starts)]
        self.child = Child(command, start_patience=patience, patience=patience)
        self.source = Cards(self.child, VENDOR, required=required, wait=5.0, clock=lambda: self.now)

    @property
    def starts(self):
        return len(self._starts.read_text())

    def read(self):
        return values(COLLECTOR, self.source)

    def fails(self, match):
        with pytest.raises(CollectionFailedError, match=match) as failure:
            self.read()
        return {reading[0].name: reading[2] for reading in failure.value.health}


@pytest.fixture(name="driver")
def _driver(tmp_path):
    drivers = []

    def make(*lives, **options):
        drivers.append(Driver(tmp_path, *lives, **options))
        return drivers[-1]

    yield make
    for driver in drivers:
        driver.source.close()


def test_gpu(driver):
    """A card's identity is on one series, and its readings are in base units by its UUID."""
    assert OK_SERIES == driver([OK]).read()


def test_no_driver_is_absence(driver):
    """A machine without a driver is not asked again for a while, and its collector has not failed."""
    there_is_none = driver([ABSENT])
    for _ in range(3):
        with pytest.raises(NothingToCollect, match="Library Not Found"):
            there_is_none.read()

    assert 1 == there_is_none.starts

    there_is_none.now = 301.0
    with pytest.raises(NothingToCollect):
        there_is_none.read()

    assert 2 == there_is_none.starts


def test_no_driver_is_failure_when_asked_for(driver):
    """With --nvidia on, a missing driver is a failed collection that tells NVML's return code."""
    health = driver([ABSENT], required=True).fails("Library Not Found")

    assert {"llmvitals_gpu_collector_nvml_return_code": 12.0} == health


def test_lost_and_back(driver):
    """A lost GPU fails the collection, leaves no old reading, and is back when a new child sees it."""
    flaky = driver([OK, LOST], [LOST], [OK])

    assert OK_SERIES == flaky.read()
    assert {"llmvitals_gpu_collector_nvml_return_code": 15.0} == flaky.fails("GPU is lost")

    flaky.fails("GPU is lost")  # Told from memory: the next child waits for its time.

    assert 1 == flaky.starts

    flaky.now += 1.0
    flaky.fails("GPU is lost")
    flaky.now += 2.0

    assert OK_SERIES == flaky.read()
    assert 3 == flaky.starts


def test_driver_unloaded_is_failure(driver):
    """A driver that has been here and is gone is a failure, not an absence."""
    driver_ = driver([OK], [ABSENT])
    driver_.read()
    driver_.child.replace()

    assert {"llmvitals_gpu_collector_nvml_return_code": 12.0} == driver_.fails("Library Not Found")


def test_no_gpu_is_failure(driver):
    """A driver that shows no GPU is a failed collection: a count of 0 is what a broken machine says."""
    driver([{"status": "ok", "code": 0, "devices": []}]).fails("no GPU")


@pytest.mark.parametrize("step", ["exit", "garbage", "list", "deep", "endless"])
def test_bad_child_is_replaced(driver, step):
    """A child that dies or talks nonsense fails one collection, and the next child is believed."""
    driver_ = driver([OK, step], [OK])
    driver_.read()
    driver_.fails("it is replaced")
    driver_.now += 1.0

    assert OK_SERIES == driver_.read()


@pytest.mark.parametrize("step", ["exit", "endless"])
def test_bad_child_where_pipes_cannot_be_selected(driver, step, monkeypatch):
    """On Windows a thread reads what a child says; it goes with the child."""
    monkeypatch.setattr(_child, "pipe", ThreadedPipe)
    driver_ = driver([OK, step], [OK])
    driver_.read()
    driver_.fails("it is replaced")
    driver_.now += 1.0

    assert OK_SERIES == driver_.read()

    driver_.source.close()
    until(lambda: "pipe" not in [thread.name for thread in threading.enumerate()])


def test_hanging_child_where_pipes_cannot_be_selected(driver, monkeypatch):
    """There, too, a hanging driver costs a scrape its short wait only."""
    monkeypatch.setattr(_child, "pipe", ThreadedPipe)
    driver_ = driver([OK, "hang"])
    driver_.read()
    driver_.source._wait = 0.2

    driver_.fails("no answer for 0.2 s")


def test_answer_to_an_earlier_question_is_dropped(driver):
    """An answer that comes late belongs to an earlier scrape; it is not served as a new one."""
    driver_ = driver([OK, "other id"])
    driver_.source._wait = 0.3
    driver_.read()
    driver_.fails("no answer")


def test_hanging_child_is_not_waited_for(driver):
    """A hanging driver costs a scrape its short wait; when patience is over, the child is killed and replaced."""
    driver_ = driver([OK, "hang"], [OK], patience=0.6)
    driver_.read()
    driver_.source._wait = 0.2
    started = time.monotonic()
    driver_.fails("no answer for 0.2 s")
    first = time.monotonic() - started
    hanging = driver_.child.pid
    driver_.fails("no answer")
    until(lambda: _fails_finally(driver_))
    driver_.now += 1.0
    driver_.source._wait = 5.0

    assert first < 1.0
    assert OK_SERIES == driver_.read()
    assert driver_.child.pid != hanging


def _fails_finally(driver_):
    try:
        driver_.read()
    except CollectionFailedError as failure:
        return "it is replaced" in str(failure)
    return False


def test_exporter_ends_with_a_hanging_child(driver):
    """Closing waits a moment only, whatever the child does; this one ignores SIGTERM."""
    driver_ = driver([OK, "hang"])
    driver_.read()
    driver_.source._wait = 0.1
    driver_.fails("no answer")
    started = time.monotonic()
    driver_.source.close()

    assert time.monotonic() - started < 2.0


def test_start_is_awaited_in_silence(driver):
    """While a first answer may still come, a machine that perhaps has no GPU has not failed."""
    driver_ = driver(["hang"])
    driver_.source._wait = 0.1
    with pytest.raises(NothingToCollect, match="awaited"):
        driver_.read()


def test_driver_that_is_always_too_slow_is_failure(driver):
    """A driver that answers, but never in time for a scrape, is no machine without one."""
    driver_ = driver(["slow"])
    driver_.source._wait = 0.2
    until(lambda: _is_failure(driver_))

    driver_.fails("the driver gives no answer")


def _is_failure(driver_):
    try:
        driver_.read()
    except NothingToCollect:
        return False
    except CollectionFailedError:
        return True
    raise AssertionError("it was not too slow")


IMPLAUSIBLE = {
    "negative": -1,
    "blank 32": 2**31 - 16,
    "blank 64": 2**63 - 16,
    "blank float": 1.8e308,
    "NaN": float("nan"),
    "infinite": float("inf"),
    "text": "N/A",
    "null": None,
    "bool": True,
    "list": [1],
    "huge": 10**400,
}


@pytest.mark.parametrize("value", IMPLAUSIBLE.values(), ids=IMPLAUSIBLE)
@pytest.mark.parametrize(
    ("name", "labels"), [("temperature_celsius", ["gpu"]), ("power_watts", []), ("utilization_ratio", [])]
)
def test_implausible_reading_is_absent(driver, name, labels, value):
    """What a driver writes for "no value" has no series, and the card's other readings are served."""
    found = driver([ok(gpu([(name, labels, value), ("processes", [], 2)]))]).read()

    assert not [series for series in found if f"_{name}" in series]
    assert 2.0 == found[f'llmvitals_gpu_processes{{uuid="{UUID}"}}']


@pytest.mark.parametrize(
    "readings",
    [
        None,
        "readings",
        [None],
        [["power_watts"]],
        [[3, [], 1.0]],
        [["unknown", [], 1.0]],
        [["power_watts", ["too", "many"], 1.0]],
        [["temperature_celsius", "gpu", 1.0]],
        [["info", [], 1.0]],
    ],
)
def test_strange_readings_are_left_out(driver, readings):
    """What is not a reading that we know is left out; the card is still shown."""
    found = driver([ok({**gpu(), "readings": readings})]).read()

    assert {"llmvitals_gpu_collector_nvml_return_code", 'llmvitals_gpu_count{vendor="nvidia"}'} < found.keys()
    assert 3 == len(found)


def test_off():
    """With --nvidia off there is no child at all."""
    assert COLLECTOR.open(Settings({NVIDIA: "off"})) is None


def test_real_child():
    """The real child says that this machine has no driver, or serves its cards."""
    source = COLLECTOR.open(Settings())
    source._wait = 10.0
    try:
        found = values(COLLECTOR, source)
    except NothingToCollect as absence:
        found = {"absent": str(absence)}
    finally:
        source.close()

    assert "NVML" in found.get("absent", "") or found['llmvitals_gpu_count{vendor="nvidia"}'] >= 1
