"""The host's collectors, on a small machine's files and a golden answer."""

import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.exporter.reading import plant, settings, until, values

from llmvitals_exporter._declaration import NothingToCollect
from llmvitals_exporter._places import ROOTFS
from llmvitals_exporter.collectors import COLLECTORS, cpu, filesystem, memory, pressure, system

HOST = ("cpu", "memory", "disk", "network", "load", "pressure", "vmstat")
GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", HOST)
def test_golden(name):
    """Each collector gives exactly the series of its golden file; LLMVITALS_UPDATE_GOLDEN=1 writes them anew."""
    (declaration,) = [collector for collector in COLLECTORS if collector.name == name]
    found = values(declaration, declaration.open(settings()))
    text = "".join(f"{series} {value!r}\n" for series, value in found.items())
    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("LLMVITALS_UPDATE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text, encoding="utf-8")

    assert golden.read_text(encoding="utf-8") == text


def test_system():
    """The machine's own numbers are read; the clock and the kernel's name are those of the machine that we run on."""
    found = values(system.COLLECTOR, system.COLLECTOR.open(settings()))
    uname = os.uname()

    assert 1795270000.0 == found["node_boot_time_seconds"]
    assert 555.0 == found["node_intr_total"]
    assert 4321.0 == found["node_forks_total"]
    assert 1056.0 == found["node_filefd_allocated"]
    assert 17.0 == found["node_nf_conntrack_entries"]
    assert found["node_time_seconds"] > 1.7e9
    assert (
        1.0
        == found[
            f'node_uname_info{{domainname="(none)",machine="{uname.machine}",nodename="{uname.nodename}",'
            f'release="{uname.release}",sysname="{uname.sysname}",version="{uname.version}"}}'
        ]
    )


def test_cpu_time_never_goes_back(tmp_path):
    """The kernel lets idle slip back a little; what we serve is a counter, and a CPU plugged in anew starts anew."""
    plant(tmp_path, {"proc/stat": "cpu0 100 0 0 1000 50\n"})
    source = cpu.COLLECTOR.open(settings(tmp_path))
    values(cpu.COLLECTOR, source)
    plant(tmp_path, {"proc/stat": "cpu0 101 0 0 999 49\n"})
    slipped = values(cpu.COLLECTOR, source)
    plant(tmp_path, {"proc/stat": "cpu0 1 0 0 10 0\n"})
    replugged = values(cpu.COLLECTOR, source)

    assert (10.0, 0.5, 1.01) == tuple(
        slipped[f'node_cpu_seconds_total{{cpu="0",mode="{mode}"}}'] for mode in ("idle", "iowait", "user")
    )
    assert 0.1 == replugged['node_cpu_seconds_total{cpu="0",mode="idle"}']


def test_unknown_memory_field_is_left_out():
    """A line that a newer kernel adds has no series until the catalogue names it."""
    found = values(memory.COLLECTOR, memory.COLLECTOR.open(settings()))

    assert not [series for series in found if "Tomorrow" in series]


def test_no_pressure_information(tmp_path):
    """A kernel without pressure information has no pressure series, and that is no failure."""
    plant(tmp_path, {"proc/stat": ""})
    with pytest.raises(NothingToCollect, match="no pressure information"):
        values(pressure.COLLECTOR, pressure.COLLECTOR.open(settings(tmp_path)))


@pytest.fixture(name="disks")
def _disks(monkeypatch):
    """All filesystems answer with the same numbers, but for one; the paths asked for are kept."""
    asked = []

    def statvfs(path):
        asked.append(path)
        if path.endswith("/srv/gone"):
            raise OSError(116, "Stale file handle")
        return SimpleNamespace(f_blocks=1000, f_frsize=4096, f_bfree=500, f_bavail=400, f_files=90, f_ffree=80)

    monkeypatch.setattr(os, "statvfs", statvfs)
    return asked


ROOT = '{device="/dev/nvme0n1p1",fstype="ext4",mountpoint="/"}'
SHARE = '{device="//nas/my models",fstype="cifs",mountpoint="/srv/my models"}'
GONE = '{device="//gone/share",fstype="cifs",mountpoint="/srv/gone"}'


def test_filesystems(disks):
    """Real filesystems are measured once each; one that does not answer has only its error."""
    found = values(filesystem.COLLECTOR, filesystem.COLLECTOR.open(settings()))

    assert {"/", "/srv/my models", "/srv/gone"} == set(disks)
    assert 4096000.0 == found[f"node_filesystem_size_bytes{ROOT}"]
    assert 2048000.0 == found[f"node_filesystem_free_bytes{ROOT}"]
    assert 1638400.0 == found[f"node_filesystem_avail_bytes{ROOT}"]
    assert (0.0, 1.0) == (found[f"node_filesystem_readonly{ROOT}"], found[f"node_filesystem_readonly{SHARE}"])
    assert [f"node_filesystem_device_error{GONE}"] == [series for series in found if GONE in series]
    assert 1.0 == found[f"node_filesystem_device_error{GONE}"]
    assert 15 == len(found)


def test_hung_mount(monkeypatch):
    """A network mount whose server is gone costs its own series, one thread and one wait, and comes back by itself."""
    gate = threading.Event()
    asked = []

    def statvfs(path):
        asked.append(path)
        if path == "/srv/gone":
            gate.wait()
        return SimpleNamespace(f_blocks=1000, f_frsize=4096, f_bfree=500, f_bavail=400, f_files=90, f_ffree=80)

    monkeypatch.setattr(os, "statvfs", statvfs)
    source = filesystem.COLLECTOR.open(settings())
    seconds = []
    for _ in range(4):
        started = time.monotonic()
        found = values(filesystem.COLLECTOR, source)
        seconds.append(time.monotonic() - started)

        assert [f"node_filesystem_device_error{GONE}"] == [series for series in found if GONE in series]
        assert 15 == len(found)
    assert seconds[0] < 2.0  # A collector's time: else the whole collector would be left out.
    assert max(seconds[1:]) < 0.5
    assert 1 == asked.count("/srv/gone")

    gate.set()
    until(lambda: 4096000.0 == values(filesystem.COLLECTOR, source).get(f"node_filesystem_size_bytes{GONE}"))


def test_host_mounted_in_a_container(disks):
    """With the host's root mounted somewhere, its filesystems are measured there and named as the host names them."""
    source = filesystem.COLLECTOR.open(settings(more={ROOTFS: "/host"}))
    found = values(filesystem.COLLECTOR, source)

    assert {"/host/", "/host/srv/my models", "/host/srv/gone"} == set(disks)
    assert 4096000.0 == found[f"node_filesystem_size_bytes{ROOT}"]
