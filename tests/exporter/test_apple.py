"""Apple's GPUs; ioreg is played, because the tests run on Linux. No Mac was at hand."""

import platform
import plistlib
import sys
import time
from pathlib import Path

import pytest
from tests.exporter.reading import values

from llmvitals_exporter._declaration import CollectionFailedError, NothingToCollect, Settings
from llmvitals_exporter.collectors.apple import COLLECTOR, Apple

M2_MAX = Path(__file__).parent / "macos" / "ioreg-m2-max.plist"
INFO = (
    'llmvitals_gpu_info{{uuid="apple-{0}",index="{0}",name="{1}",pci_bus_id="",vbios_version="",mig_mode="",'
    'memory="unified",driver_version="",cuda_version=""}}'
)


def printing(path):
    return Apple((sys.executable, "-S", "-c", f"print(open({str(path)!r}).read())"), 20.0)


@pytest.fixture(name="telling")
def _telling(tmp_path):
    """What is read when ioreg prints these entries."""

    def make(*entries):
        path = tmp_path / "printed"
        path.write_bytes(plistlib.dumps(list(entries)))
        return values(COLLECTOR, printing(path))

    return make


def test_apple_silicon():
    """A GPU's use and the memory of the machine that it uses have the families of other GPUs'."""
    assert {
        'llmvitals_gpu_count{vendor="apple"}': 1.0,
        INFO.format(0, "Apple M2 Max"): 1.0,
        'llmvitals_gpu_utilization_ratio{uuid="apple-0"}': 0.63,
        'llmvitals_gpu_memory_used_bytes{uuid="apple-0"}': 38_654_705_664.0,
    } == values(COLLECTOR, printing(M2_MAX))


@pytest.mark.parametrize("statistics", [0, "text", {}, {"Device Utilization %": 101, "In use system memory": -1}])
def test_what_is_not_told_is_absent(telling, statistics):
    """A GPU without statistics, or with impossible ones, is shown without readings."""
    found = telling({"IOClass": "AGXAcceleratorG13G", "PerformanceStatistics": statistics, "model": b"bytes"})

    assert {'llmvitals_gpu_count{vendor="apple"}', INFO.format(0, "")} == found.keys()


def test_other_accelerators_are_left_out(telling):
    """The GPUs of Intel Macs, and whatever else calls itself an accelerator, are not Apple's."""
    with pytest.raises(NothingToCollect):
        telling({"IOClass": "AMDRadeonX6000_AMDNavi21GraphicsAccelerator"}, "text", {})


@pytest.mark.parametrize(
    ("program", "match"),
    [
        ("raise SystemExit(3)", "ended with status 3"),
        ("print('no list')", "something else than a property list"),
        ("print('<plist><dict>')", "something else than a property list"),
        ("print('<!DOCTYPE p [<!ENTITY e \"x\">]><plist><string>&e;</string></plist>')", "something else"),
    ],
)
def test_trouble(program, match):
    """A program that fails or prints nonsense fails this collection only, with its name."""
    with pytest.raises(CollectionFailedError, match=match):
        values(COLLECTOR, Apple((sys.executable, "-S", "-c", program), 20.0))


def test_missing_program():
    """A program that is not there is told by its path."""
    with pytest.raises(CollectionFailedError, match="/nowhere/ioreg cannot be run: No such file"):
        values(COLLECTOR, Apple(("/nowhere/ioreg",)))


def test_a_program_that_hangs_is_ended():
    """The program has its time, and not more."""
    started = time.monotonic()
    with pytest.raises(CollectionFailedError, match=r"did not answer within 0\.3 s"):
        values(COLLECTOR, Apple((sys.executable, "-S", "-c", "import time; time.sleep(60)"), 0.3))

    assert time.monotonic() - started < 5.0


def test_nothing_printed_is_absence():
    """A Mac without such a GPU, a virtual one say, has nothing to read."""
    with pytest.raises(NothingToCollect):
        values(COLLECTOR, Apple((sys.executable, "-S", "-c", ""), 20.0))


@pytest.mark.parametrize(("system", "there"), [("Darwin", True), ("Linux", False), ("Windows", False)])
def test_only_on_macos(monkeypatch, system, there):
    """Elsewhere there is no collector; there it runs the system's own program by its whole path."""
    monkeypatch.setattr(platform, "system", lambda: system)
    source = COLLECTOR.open(Settings())

    assert there == (source is not None)
    if source is not None:
        assert "/usr/sbin/ioreg" == source.command[0]
