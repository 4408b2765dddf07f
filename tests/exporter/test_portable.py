"""The way through psutil: on this machine for real, and as macOS and Windows would answer (see `systems`)."""

import math
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from tests.exporter import systems
from tests.exporter.reading import series, until, values

from llmvitals_exporter import _portable
from llmvitals_exporter._declaration import NothingToCollect, Settings
from llmvitals_exporter._places import PROCFS
from llmvitals_exporter.collectors import (
    COLLECTORS,
    cgroup,
    cpu,
    disk,
    filesystem,
    load,
    memory,
    network,
    pressure,
    processes,
    system,
    vmstat,
)
from llmvitals_exporter.collectors.processes import WATCH

linux = pytest.mark.skipif(sys.platform != "linux", reason="compares with Linux' own files")


@pytest.fixture(name="on")
def _on(monkeypatch):
    """Opens a collector as if this were another system, where psutil is *module*."""

    def open_on(platform, collector, module=psutil, **options):
        monkeypatch.setattr(sys, "platform", platform)
        monkeypatch.setattr(_portable, "psutil", lambda: module)
        source = collector.COLLECTOR.open(Settings(options.get("settings")))
        monkeypatch.undo()
        return lambda: values(collector.COLLECTOR, source)

    return open_on


# --- This machine, both ways ------------------------------------------------------------------------------------------

#: What psutil tells of devices that the other way leaves out on purpose: partitions, memory disks, containers' mounts.
MORE = ("node_disk_", "node_filesystem_")
#: How far apart two readings of a working machine may be.
RELATIVE, ABSOLUTE = 0.05, {"bytes": 400e6, "seconds": 5.0, "": 20_000.0}


def absolute(name):
    return next(value for word, value in ABSOLUTE.items() if word in name)


@linux
@pytest.mark.parametrize(
    "collector", [cpu, disk, filesystem, load, network, system], ids=lambda collector: collector.COLLECTOR.name
)
def test_both_ways_agree(on, collector):
    """What psutil tells of this machine under a name is what the kernel's files tell under it."""
    ours = on("darwin", collector)()
    kernels = values(collector.COLLECTOR, collector.COLLECTOR.open(Settings()))
    shared = ours.keys() & kernels.keys()
    far = {
        name: (kernels[name], ours[name])
        for name in shared
        if not math.isclose(kernels[name], ours[name], rel_tol=RELATIVE, abs_tol=absolute(name))
    }

    assert {} == far
    assert shared
    assert set() == {name for name in ours if name not in shared and not name.startswith((*MORE, "node_uname_info"))}


@linux
def test_both_ways_agree_on_memory(on):
    """The sizes that psutil tells are those of meminfo."""
    ours = on("darwin", memory)()
    kernels = values(memory.COLLECTOR, memory.COLLECTOR.open(Settings()))

    assert kernels["node_memory_MemTotal_bytes"] == ours["node_memory_total_bytes"]
    assert kernels["node_memory_SwapTotal_bytes"] == ours["llmvitals_host_swap_total_bytes"]
    assert math.isclose(
        kernels["node_memory_MemAvailable_bytes"], ours["llmvitals_host_memory_available_bytes"], abs_tol=400e6
    )


@linux
def test_both_ways_agree_on_processes(on):
    """A group has the same numbers both ways, but for the storage that psutil's systems do not count."""
    with subprocess.Popen(["sleep", "4343.5"]) as sleeper:
        try:
            until(lambda: b"4343" in Path(f"/proc/{sleeper.pid}/cmdline").read_bytes())
            given = {WATCH: WATCH.parse(["sleeper=^sleep 4343[.]5$"])}
            ours = on("darwin", processes, settings=given)()
            kernels = values(processes.COLLECTOR, processes.COLLECTOR.open(Settings(given)))
        finally:
            sleeper.kill()
    started = 'llmvitals_process_group_oldest_start_time_seconds{group="sleeper"}'
    resident = 'llmvitals_process_group_resident_memory_bytes{group="sleeper"}'

    assert 1.0 == ours['llmvitals_process_group_processes{group="sleeper"}']
    assert math.isclose(kernels.pop(started), ours.pop(started), abs_tol=2.0)
    # The kernel keeps the number in stat, which is read in the same breath as the others, in coarser steps.
    assert math.isclose(kernels.pop(resident), ours.pop(resident), abs_tol=1e6)
    assert ours == {name: value for name, value in kernels.items() if "_bytes_total" not in name}


# --- macOS and Windows ------------------------------------------------------------------------------------------------


def test_cpu(on):
    """The modes that a system has are told for each of its CPUs; what it counts within another is not told again."""
    macos = on("darwin", cpu, systems.MACOS)()
    windows = on("win32", cpu, systems.WINDOWS)()
    name = 'node_cpu_seconds_total{{cpu="{}",mode="{}"}}'.format

    assert {
        name(number, mode): seconds
        for number in (0, 1)
        for mode, seconds in {"user": 10.5, "nice": 0.0, "system": 4.25, "idle": 900.0}.items()
    } == macos
    assert {name(0, "user"): 10.5, name(0, "system"): 4.25, name(0, "idle"): 900.0} == windows


def test_memory(on):
    """On macOS there are node_exporter's names for what psutil has in that meaning; on Windows only ours."""
    windows = {
        "llmvitals_host_memory_total_bytes": 16_000.0,
        "llmvitals_host_memory_available_bytes": 6_000.0,
        "llmvitals_host_swap_total_bytes": 2_000.0,
        "llmvitals_host_swap_used_bytes": 500.0,
    }

    assert windows == on("win32", memory, systems.WINDOWS)()
    assert {
        **windows,
        "node_memory_total_bytes": 16_000.0,
        "node_memory_active_bytes": 5_000.0,
        "node_memory_inactive_bytes": 5_000.0,
        "node_memory_wired_bytes": 4_000.0,
        "node_memory_swap_total_bytes": 2_000.0,
        "node_memory_swap_used_bytes": 500.0,
        "node_memory_swapped_in_bytes_total": 70_000.0,
        "node_memory_swapped_out_bytes_total": 3_000.0,
    } == on("darwin", memory, systems.MACOS)()


def test_disks_and_networks(on):
    """Disks' times are seconds; what macOS does not count of a network device is absent, not 0."""
    disks = on("win32", disk, systems.WINDOWS)()
    macos, windows = on("darwin", network, systems.MACOS)(), on("win32", network, systems.WINDOWS)()
    drops = 'node_network_transmit_drop_total{{device="{}"}}'.format

    assert {
        f'node_disk_{name}_total{{device="PhysicalDrive0"}}': value
        for name, value in {
            "reads_completed": 100.0,
            "read_bytes": 4_096_000.0,
            "read_time_seconds": 2.5,
            "writes_completed": 50.0,
            "written_bytes": 512_000.0,
            "write_time_seconds": 1.5,
        }.items()
    } == disks
    assert (7, 2_000.0, 1.0) == (
        len(macos),
        macos['node_network_receive_bytes_total{device="en0"}'],
        macos['node_network_receive_errs_total{device="en0"}'],
    )
    assert drops("en0") not in macos
    assert 4.0 == windows[drops("Ethernet")]


def test_filesystems_of_macos(on, monkeypatch):
    """Volumes and shares are measured, the device files are not a filesystem to fill."""
    source = on("darwin", filesystem, systems.MACOS)
    answer = SimpleNamespace(f_blocks=100, f_frsize=4096, f_bfree=50, f_bavail=40, f_files=9, f_ffree=8)
    monkeypatch.setattr(os, "statvfs", lambda path: answer)
    found = source()
    root = '{device="/dev/disk3s1s1",fstype="apfs",mountpoint="/"}'
    share = '{device="//me@nas/models",fstype="smbfs",mountpoint="/Volumes/models"}'

    assert 14 == len(found)
    assert (1.0, 0.0) == (found[f"node_filesystem_readonly{root}"], found[f"node_filesystem_readonly{share}"])
    assert (409600.0, 163840.0, 8.0) == (
        found[f"node_filesystem_size_bytes{root}"],
        found[f"node_filesystem_avail_bytes{share}"],
        found[f"node_filesystem_files_free{share}"],
    )


def test_filesystems_of_windows(on):
    """A drive has its space and no file nodes."""
    found = on("win32", filesystem, systems.WINDOWS)()
    drive = SimpleNamespace(name="", labels=("device", "fstype", "mountpoint"))
    labels = series(drive, ("C:\\", "NTFS", "C:\\"))

    assert {
        f"node_filesystem_{name}{labels}": value
        for name, value in {
            "device_error": 0.0,
            "readonly": 0.0,
            "size_bytes": 1_000.0,
            "free_bytes": 400.0,
            "avail_bytes": 400.0,
        }.items()
    } == {name: value for name, value in found.items() if labels in name}


def test_machine(on, monkeypatch):
    """Boot time and clock are told everywhere, the kernel's name where there is uname, switches on Windows only."""
    windows = on("win32", system, systems.WINDOWS)()
    macos_source = on("darwin", system, systems.MACOS)
    names = {"machine": "arm64", "release": "24", "sysname": "Darwin", "version": "V"}
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(nodename="mini.home.arpa", **names))
    macos = macos_source()
    clock = windows.pop("node_time_seconds")

    assert math.isclose(time.time(), clock, abs_tol=60)
    assert {
        "node_boot_time_seconds": 1_795_270_000.0,
        "node_context_switches_total": 7_000.0,
        "node_intr_total": 8_000.0,
    } == windows
    assert {
        "node_time_seconds",
        "node_boot_time_seconds",
        'node_uname_info{domainname="home.arpa",machine="arm64",nodename="mini",release="24",sysname="Darwin",version="V"}',
    } == macos.keys()


@pytest.mark.parametrize("platform", ["darwin", "win32"])
@pytest.mark.parametrize("collector", [cgroup, pressure, vmstat], ids=lambda collector: collector.COLLECTOR.name)
def test_what_only_linux_tells(on, platform, collector):
    """What no other system has is absent there, in words, and no failure."""
    with pytest.raises(NothingToCollect, match="are told by Linux only"):
        on(platform, collector)()


def test_load_of_windows(on, monkeypatch):
    """Windows has no load averages, and what psutil reckons in their place is not called by their name."""
    source = on("win32", load, systems.WINDOWS)
    monkeypatch.delattr(os, "getloadavg")
    with pytest.raises(NothingToCollect, match="no load averages"):
        source()


def test_machine_without_disks(on):
    """Where the system counts no disk there is no such series, and that is no failure."""
    with pytest.raises(NothingToCollect, match="counts no disk"):
        on("win32", disk, SimpleNamespace(disk_io_counters=lambda **_: {}))()


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_every_host_collector_opens_elsewhere(on, platform):
    """No collector of the host needs procfs to be opened on another system."""
    module = systems.MACOS if platform == "darwin" else systems.WINDOWS
    modules = (cgroup, cpu, disk, filesystem, load, memory, network, pressure, system, vmstat)

    assert {module.COLLECTOR for module in modules} <= set(COLLECTORS)
    for collector in modules:
        on(platform, collector, module)


def test_text_that_no_scrape_can_hold(on):
    """A device whose name is not Unicode is told in characters that are."""
    odd = SimpleNamespace(net_io_counters=lambda **_: {"tap\udcff": systems.net(1, 2, 3, 4, 5, 6, 7, 8)})
    found = on("darwin", network, odd)()

    assert 2.0 == found['node_network_receive_bytes_total{device="tap\\xff"}']


#: psutil is imported as what it is, before this becomes another system.
ELSEWHERE = """
import sys, psutil
from llmvitals_exporter.__main__ import main
platform, *arguments = sys.argv[1:]
sys.platform = platform
sys.exit(main(arguments))
"""


def test_places_of_linux(monkeypatch, tmp_path):
    """A place that would not be looked at is refused, not ignored."""
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ValueError, match="is for Linux only"):
        PROCFS.parse([str(tmp_path)])


@linux
@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_the_whole_program(platform):
    """Elsewhere the program serves what that system has; no collector fails, and what only Linux tells is absent."""
    command = [sys.executable, "-c", ELSEWHERE, platform, "--once", "--without", "nvidia,amd"]
    if platform == "darwin":  # This machine's psutil has no handles to count.
        command += ["--watch", "any=."]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    success = [line for line in done.stdout.splitlines() if line.startswith("llmvitals_scrape_collector_success{")]
    served = {"cpu", "memory", "disk", "filesystem", "network", "load", "system"}
    if platform == "darwin":
        served.add("processes")

    assert [f'llmvitals_scrape_collector_success{{collector="{name}"}} 1.0' for name in sorted(served)] == sorted(
        success
    )
    assert "" == done.stderr


#: Windows as far as Python's standard library shows it: what is not there, and selectors that take sockets only.
WINDOWS = """
import os, selectors, sys, psutil
for name in ("fcntl", "pwd", "resource", "grp", "termios"):
    sys.modules[name] = None
for name in ("statvfs", "uname", "getloadavg", "set_blocking", "register_at_fork", "fork", "O_CLOEXEC"):
    delattr(os, name)
def register(selector, file, *_):
    raise OSError(10038, "An operation was attempted on something that is not a socket")
selectors.DefaultSelector.register = register
from llmvitals_exporter.collectors import nvidia
import llmvitals_exporter.__main__
sys.platform = "win32"
from llmvitals_exporter._declaration import Settings
source = nvidia.COLLECTOR.open(Settings({nvidia.NVIDIA: "demo"}))
source._wait = 20.0
print(len(list(source.read())) > 100)
source.close()
"""


@linux
def test_a_driver_on_windows():
    """Nothing that Windows lacks is needed to start, and its NVIDIA cards are asked."""
    done = subprocess.run([sys.executable, "-c", WINDOWS], capture_output=True, text=True, timeout=60, check=False)

    assert ("True\n", "") == (done.stdout, done.stderr)
