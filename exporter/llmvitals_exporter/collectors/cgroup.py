"""The limits and the use of the control group that this process is in: the container's, when it runs in one.

Version 2 is read first, then version 1, controller by controller, because a machine may have both mounted. "No limit"
is an absent series, never a huge number.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass

from llmvitals_exporter._declaration import Declaration, NothingToCollect, Reader, Settings
from llmvitals_exporter._family import Family, Reading
from llmvitals_exporter._places import PROCFS, read_text

MEMORY_USAGE = Family(
    "llmvitals_cgroup_memory_usage_bytes", "gauge", "Memory that the control group uses, page cache included."
)
MEMORY_LIMIT = Family(
    "llmvitals_cgroup_memory_limit_bytes",
    "gauge",
    "Memory that the control group may use, the strictest limit of its parents included; absent when there is none.",
)
OOM_KILLS = Family(
    "llmvitals_cgroup_oom_events_total", "counter", "Processes killed because the group's memory was full."
)
CPU_USAGE = Family("llmvitals_cgroup_cpu_usage_seconds_total", "counter", "CPU seconds that the control group used.")
CPU_THROTTLED = Family(
    "llmvitals_cgroup_cpu_throttled_seconds_total", "counter", "Seconds in which the group's CPU limit held it back."
)
CPU_LIMIT = Family(
    "llmvitals_cgroup_cpu_limit_cores",
    "gauge",
    "CPUs' worth of time that the control group may use, the strictest of its parents included; absent when unlimited.",
)


@dataclass(frozen=True, slots=True)
class Place:
    """A group's directory and its parents' up to the mount point, nearest first."""

    directories: tuple[str, ...]

    def text(self, name: str) -> str | None:
        """The group's own file, or None where it has none (the root group lacks most)."""
        return _text(f"{self.directories[0]}/{name}")

    def texts(self, name: str) -> Iterator[str]:
        """The file of the group and of every parent that has one."""
        for directory in self.directories:
            text = _text(f"{directory}/{name}")
            if text is not None:
                yield text


def _text(path: str) -> str | None:
    try:
        return read_text(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


# --- Where the group is -----------------------------------------------------------------------------------------------


def find(procfs: str) -> dict[str, Place]:
    """The places by controller of version 1 (``memory``, ``cpu`` …); version 2's is under the empty name."""
    membership = {}
    for line in read_text(f"{procfs}/self/cgroup").splitlines():
        _number, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            membership[controller] = path
    places = {}
    for root, mountpoint, fstype, options in _mounts(procfs):
        names = [""] if fstype == "cgroup2" else [name for name in options if name in membership]
        for name in names:
            if name in membership and name not in places:
                places[name] = _place(mountpoint, root, membership[name])
    return places


def _mounts(procfs: str) -> Iterator[tuple[str, str, str, list[str]]]:
    for line in read_text(f"{procfs}/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        fstype, _device, options = after.split(" ", 2)
        root, mountpoint = fields[3:5]
        # A mount whose root lies outside of our view ("/..") is the host's, and our path is not in it.
        if fstype in ("cgroup", "cgroup2") and not root.startswith("/.."):
            yield root, mountpoint, fstype, options.split(",")


def _place(mountpoint: str, root: str, path: str) -> Place:
    # Without a cgroup namespace a container sees the host's path, but its own group mounted as the root.
    inside = path[len(root) :] if root != "/" and (path == root or path.startswith(f"{root}/")) else path
    if root != "/" and inside == path:
        inside = ""
    parts = [part for part in inside.split("/") if part not in ("", "..")]
    directories = [os.path.join(mountpoint, *parts[:count]) for count in range(len(parts), -1, -1)]  # noqa: PTH118
    return Place(tuple(directories))


# --- What its files say -----------------------------------------------------------------------------------------------


def _fields(text: str) -> dict[str, int]:
    return {key: int(number) for key, number in (line.split() for line in text.splitlines())}


def _memory_v2(place: Place, installed: float) -> Iterator[Reading]:
    usage = place.text("memory.current")
    if usage is not None:
        yield MEMORY_USAGE, (), float(usage)
    yield from _limit(
        MEMORY_LIMIT, [float(text) for text in place.texts("memory.max") if text.strip() != "max"], installed
    )
    events = place.text("memory.events")
    if events is not None:
        yield OOM_KILLS, (), float(_fields(events)["oom_kill"])


def _memory_v1(place: Place, installed: float) -> Iterator[Reading]:
    usage = place.text("memory.usage_in_bytes")
    if usage is not None:
        yield MEMORY_USAGE, (), float(usage)
    yield from _limit(MEMORY_LIMIT, [float(text) for text in place.texts("memory.limit_in_bytes")], installed)
    control = place.text("memory.oom_control")
    if control is not None and "oom_kill" in _fields(control):  # Since Linux 4.13.
        yield OOM_KILLS, (), float(_fields(control)["oom_kill"])


def _cpu_v2(place: Place) -> Iterator[Reading]:
    stat = place.text("cpu.stat")
    if stat is not None:
        fields = _fields(stat)
        yield CPU_USAGE, (), fields["usage_usec"] / 1e6
        if "throttled_usec" in fields:
            yield CPU_THROTTLED, (), fields["throttled_usec"] / 1e6
    pairs = [text.split() for text in place.texts("cpu.max")]
    yield from _limit(CPU_LIMIT, [int(quota) / int(period) for quota, period in pairs if quota != "max"])


def _cpu_v1(place: Place) -> Iterator[Reading]:
    stat = place.text("cpu.stat")
    if stat is not None and "throttled_time" in _fields(stat):
        yield CPU_THROTTLED, (), _fields(stat)["throttled_time"] / 1e9
    pairs = zip(place.texts("cpu.cfs_quota_us"), place.texts("cpu.cfs_period_us"), strict=False)
    yield from _limit(CPU_LIMIT, [int(quota) / int(period) for quota, period in pairs if int(quota) > 0])


def _limit(family: Family, limits: list[float], installed: float = float("inf")) -> Iterator[Reading]:
    # Version 1 writes "unlimited" as a number near 2^63: a limit above what is installed limits nothing.
    limits = [limit for limit in limits if limit < installed]
    if limits:
        yield family, (), min(limits)


def _read(procfs: str) -> Iterator[Reading]:
    places = find(procfs)
    unified = places.get("")
    readings: list[Reading] = []
    if unified is not None and unified.text("memory.current") is not None:
        readings += _memory_v2(unified, _installed(procfs))
    elif "memory" in places:
        readings += _memory_v1(places["memory"], _installed(procfs))
    if "cpuacct" in places:
        usage = places["cpuacct"].text("cpuacct.usage")
        if usage is not None:
            readings.append((CPU_USAGE, (), int(usage) / 1e9))
    if "cpu" in places:
        readings += _cpu_v1(places["cpu"])
    elif unified is not None:
        readings += _cpu_v2(unified)
    if not readings:
        raise NothingToCollect("this process is in no control group that counts or limits")
    yield from readings


def _installed(procfs: str) -> float:
    for line in read_text(f"{procfs}/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            return float(line.split()[1]) * 1024
    return float("inf")


def _open(settings: Settings) -> Reader:
    procfs = settings[PROCFS]
    return Reader(lambda: _read(procfs))


COLLECTOR = Declaration(
    name="cgroup",
    help="limits, use, throttling and out-of-memory kills of our control group (the container)",
    families=(MEMORY_USAGE, MEMORY_LIMIT, OOM_KILLS, CPU_USAGE, CPU_THROTTLED, CPU_LIMIT),
    options=(PROCFS,),
    open=_open,
)
