"""Faults of machines, which are played or fenced in, so that the one that the demo is a guest of comes to no harm.

Each has an exporter of its own: one reads a prepared `/proc`; one sees small disks that are mounted in a namespace of
its own, which takes root, and are gone with it; one waits for a file that answers late.
"""

import contextlib
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.stack import checkout
from tests.stack.demo_world import Undo, World
from tests.stack.fault import Fault

_MEMINFO = "MemTotal: 8388608 kB\nMemFree: 200000 kB\nMemAvailable: {available} kB\n"
_PRESSURE = "some avg10=0 avg60=0 avg300=0 total={some:.0f}\nfull avg10=0 avg60=0 avg300=0 total={full:.0f}\n"

Files = Mapping[str, str]


def _short_of_all(seconds: float) -> Files:
    """A machine with 3 % of its memory left, whose processes wait for CPUs, disks and memory."""
    return {
        "meminfo": _MEMINFO.format(available=250_000),
        "vmstat": f"oom_kill {1 + seconds // 60:.0f}\n",
        "pressure/cpu": _PRESSURE.format(some=0.9e6 * seconds, full=0),
        "pressure/io": _PRESSURE.format(some=0.7e6 * seconds, full=0.2e6 * seconds),
        "pressure/memory": _PRESSURE.format(some=0.4e6 * seconds, full=0.2e6 * seconds),
    }


def _small_container(seconds: float) -> Files:
    """A control group of 512 MiB and half a CPU, both of which are too little."""
    group = "cgroup/container"
    return {
        "meminfo": _MEMINFO.format(available=6_000_000),
        "stat": "cpu 0 0 0 0\ncpu0 0 0 0 0\ncpu1 0 0 0 0\n",
        "self/cgroup": "0::/container\n",
        f"{group}/memory.current": f"{500 << 20}\n",
        f"{group}/memory.stat": f"inactive_file {8 << 20}\n",
        f"{group}/memory.max": f"{512 << 20}\n",
        f"{group}/memory.events": f"oom_kill {1 + seconds // 60:.0f}\n",
        f"{group}/cpu.max": "50000 100000\n",
        f"{group}/cpu.stat": f"usage_usec {5e5 * seconds:.0f}\nnr_periods {10 * seconds:.0f}\n"
        f"nr_throttled {6 * seconds:.0f}\nthrottled_usec {3e5 * seconds:.0f}\n",
    }


def _played(job: str, collectors: str, machine: Callable[[float], Files]) -> Callable[[World], Undo]:
    def turn_on(world: World) -> Undo:
        with contextlib.ExitStack() as stack:
            proc = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="llmvitals-proc-")))
            begun = time.monotonic()

            def write(_: int) -> None:
                for name, text in machine(time.monotonic() - begun).items():
                    path = proc / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    draft = path.with_name(f".{path.name}")
                    draft.write_text(text, encoding="utf-8")
                    draft.replace(path)

            write(0)
            mount = f"1 1 0:1 / {proc}/cgroup rw - cgroup2 cgroup2 rw\n"
            (proc / "self").mkdir(exist_ok=True)
            (proc / "self" / "mountinfo").write_text(mount, encoding="utf-8")
            stack.callback(world.repeat(write, 1))
            stack.callback(_exporter(world, job, "--only", collectors, "--procfs", str(proc)))
            return stack.pop_all().close

    return turn_on


def _slow(world: World) -> Undo:
    """A list of file systems that takes 1.5 s each time: who opens it waits for its writer."""
    with contextlib.ExitStack() as stack:
        proc = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="llmvitals-proc-")))
        mounts = proc / "1" / "mounts"
        mounts.parent.mkdir()
        os.mkfifo(mounts)

        def answer(_: int) -> None:
            # Fails while nobody reads, and is tried again.
            writer = os.open(mounts, os.O_WRONLY | os.O_NONBLOCK)
            try:
                time.sleep(1.5)
                os.write(writer, b"/dev/played / ext4 rw 0 0\n")
            finally:
                os.close(writer)

        stack.callback(world.repeat(answer, 0.05))
        stack.callback(_exporter(world, "slow-machine", "--only", "filesystem", "--procfs", str(proc)))
        return stack.pop_all().close


def _exporter(world: World, job: str, *arguments: str, within: Sequence[str] = (), before: str = "") -> Undo:
    port = checkout.free_ports(1)[0]
    command = [sys.executable, "-m", "llmvitals_exporter", f"--port={port}", *arguments]
    if before:
        command = [*within, "sh", "-ec", f"{before}\nexec {shlex.join(command)}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    away = world.scraped(job, port, like="exporter")

    def undo() -> None:
        away()
        # `unshare` ignores what is gentler.
        process.kill()
        process.wait()

    return undo


def _small_disks(world: World) -> Undo:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="llmvitals-disks-")))
        steps = [f"cd {shlex.quote(str(folder))}"]
        # Of the 53 MiB that a file system of 64 MiB has: 97 %, and 80 % with 2 KiB more each second.
        for name, mebibytes in (("full", 52), ("filling", 43)):
            image = folder / f"{name}.img"
            with image.open("wb") as file:
                file.truncate(64 << 20)
            subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
            steps += [f"mkdir {name}", f"mount -o loop {name}.img {name}"]
            steps += [f"head -c {mebibytes}M /dev/zero > {name}/data", "sync"]
        steps.append("while sleep 2; do head -c 4096 /dev/zero >> filling/data; done &")
        # Process 1 of the namespace is whose mounts are read, and takes all with it.
        within = ("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")
        undo = _exporter(world, "small-disks", "--only", "filesystem", within=within, before="\n".join(steps))
        stack.callback(undo)
        return stack.pop_all().close


MACHINE_FAULTS = (
    Fault(
        "played: an exporter reads a prepared /proc, of a machine short of memory, whose work waits for CPUs and disks",
        ("HostMemoryLow", "HostMemoryPressure", "HostOutOfMemory", "HostIoPressure", "HostCpuPressure"),
        0,
        1800,
        _played("short-machine", "memory,vmstat,pressure", _short_of_all),
    ),
    Fault(
        "played: an exporter reads a prepared control group, of 512 MiB and half a CPU, both too little",
        ("ContainerMemoryNearlyFull", "ContainerOutOfMemory", "ContainerCpuThrottled"),
        0,
        1800,
        _played("small-container", "cgroup", _small_container),
    ),
    Fault(
        "as root: two disks of 64 MiB, mounted for one exporter alone; one is full, one fills with 2 KiB a second",
        ("HostDiskNearlyFull", "HostDiskFilling"),
        0,
        2300,
        _small_disks,
    ),
    Fault(
        "played: an exporter's list of file systems takes 1.5 s",
        ("ExporterCollectorSlow",),
        0,
        900,
        _slow,
    ),
)
