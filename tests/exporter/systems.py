"""Machines that are not here: psutil as it answers on macOS and on Windows.

The tuples' names and fields are those of psutil's sources, 7.2 and, where it says so, 8.0. The numbers are made up:
nothing of this was recorded on such a machine.
"""

from types import SimpleNamespace
from typing import NamedTuple

import psutil

from llmvitals_exporter._declaration import Reader
from llmvitals_exporter.collectors import memory


def shape(name, fields):
    return NamedTuple(name, [(field, object) for field in fields.split()])


swap = shape("sswap", "total used free percent sin sout")
partition = shape("sdiskpart", "device mountpoint fstype opts")
usage = shape("sdiskusage", "total used free percent")
disk = shape("sdiskio", "read_count write_count read_bytes write_bytes read_time write_time")
net = shape("snetio", "bytes_sent bytes_recv packets_sent packets_recv errin errout dropin dropout")
stats = shape("scpustats", "ctx_switches interrupts soft_interrupts syscalls")


def _answering(**answers):
    """A module whose functions give these, whatever they are asked."""
    functions = {name: lambda *_, _answer=answer, **__: _answer for name, answer in answers.items()}
    errors = {name: getattr(psutil, name) for name in ("AccessDenied", "NoSuchProcess", "ZombieProcess")}
    return SimpleNamespace(**functions, **errors)


MACOS = _answering(
    cpu_times=[shape("scputimes", "user nice system idle")(*cpu) for cpu in [(10.5, 0.0, 4.25, 900.0)] * 2],
    virtual_memory=shape("svmem", "total available percent used free active inactive wired")(
        16_000, 6_000, 62.5, 9_000, 900, 5_000, 5_000, 4_000
    ),
    swap_memory=swap(2_000, 500, 1_500, 25.0, 70_000, 3_000),
    disk_partitions=[
        partition("/dev/disk3s1s1", "/", "apfs", "ro,local,rootfs,dovolfs,journaled,multilabel"),
        partition("devfs", "/dev", "devfs", "rw,local,dontbrowse,multilabel"),
        partition("//me@nas/models", "/Volumes/models", "smbfs", "rw,nodev,nosuid,mounted by me"),
    ],
    disk_io_counters={"disk0": disk(100, 50, 4_096_000, 512_000, 2_500, 1_500)},
    net_io_counters={"en0": net(1_000, 2_000, 10, 20, 1, 2, 3, 0)},
    boot_time=1_795_270_000.0,
)

#: psutil 8.0 calls Windows' interrupt irq, and tells its memory's cached and wired.
WINDOWS = _answering(
    cpu_times=[shape("scputimes", "user system idle irq dpc")(10.5, 4.25, 900.0, 0.5, 0.25)],
    virtual_memory=shape("svmem", "total available percent used free cached wired")(
        16_000, 6_000, 62.5, 10_000, 6_000, 3_000, 900
    ),
    swap_memory=swap(2_000, 500, 1_500, 25.0, 0, 0),
    disk_partitions=[partition("C:\\", "C:\\", "NTFS", "rw,fixed"), partition("D:\\", "D:\\", "CDFS", "ro,cdrom")],
    disk_usage=usage(1_000, 600, 400, 60.0),
    disk_io_counters={"PhysicalDrive0": disk(100, 50, 4_096_000, 512_000, 2_500, 1_500)},
    net_io_counters={"Ethernet": net(1_000, 2_000, 10, 20, 1, 2, 3, 4)},
    boot_time=1_795_270_000.0,
    cpu_stats=stats(7_000, 8_000, 0, 9_000),
)


class Process:
    """A process as `psutil.Process`: each question has an answer, or an error that is raised."""

    def __init__(self, **answers):
        self._answers = answers

    def oneshot(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def __getattr__(self, question):
        answer = self._answers[question]
        if isinstance(answer, BaseException):
            raise answer
        return lambda: answer


def process(name="python", *, cpu=(1.0, 0.5), threads=2, rss=1_000, open_files=3, born=1_000_000.0, **other):
    return {
        "name": name,
        "cmdline": [name, "-m", "my_app"],
        "create_time": born,
        "status": "running",
        "cpu_times": shape("pcputimes", "user system children_user children_system")(*cpu, 0.0, 0.0),
        "num_threads": threads,
        "memory_info": shape("pmem", "rss vms pfaults pageins")(rss, 0, 0, 0),
        "num_fds": open_files,
        "num_handles": open_files * 10,
        **other,
    }


def with_processes(system, processes):
    """The machine *system*, with these by their ids; one that is an error is gone or forbidden altogether."""

    def opened(pid):
        answers = processes[pid]
        if isinstance(answers, BaseException):
            raise answers
        return Process(**answers)

    return SimpleNamespace(**{**vars(system), "pids": lambda: list(processes), "Process": opened})


def all_memory(settings):
    """The collector of memory on this machine and on macOS at once: every family that it has."""
    here = memory.COLLECTOR.open(settings)
    return Reader(lambda: (*here.read(), *memory.portable(MACOS, darwin=True)))
