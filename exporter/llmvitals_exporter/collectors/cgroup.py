"""The limits and the use of the control group that this process is in: the container's, when it runs in one.

Version 2 is read first, then version 1, controller by controller, because a machine may have both mounted. "No limit"
is an absent series, never a huge number.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from llmvitals_exporter import _portable
from llmvitals_exporter._declaration import Declaration, NothingToCollect, Reader, Settings
from llmvitals_exporter._family import Family, Reading
from llmvitals_exporter._places import PROCFS, lines, read_bytes, read_text, unescape
from llmvitals_exporter.collectors.pressure import stalls

MEMORY_USAGE = Family(
    "llmvitals_cgroup_memory_usage_bytes", "gauge", "Memory that the control group uses, page cache included."
)
MEMORY_LIMIT = Family(
    "llmvitals_cgroup_memory_limit_bytes",
    "gauge",
    "Memory that the control group may use, the strictest limit of its parents included; absent when there is none.",
)
MEMORY_WORKING_SET = Family(
    "llmvitals_cgroup_memory_working_set_bytes",
    "gauge",
    "Memory used but for page cache that was not touched lately: what the kernel cannot take back without effort.",
)
OOM_KILLS = Family(
    "llmvitals_cgroup_oom_events_total", "counter", "Processes killed because the group's memory was full."
)
CPU_USAGE = Family("llmvitals_cgroup_cpu_usage_seconds_total", "counter", "CPU seconds that the control group used.")
CPU_THROTTLED = Family(
    "llmvitals_cgroup_cpu_throttled_seconds_total", "counter", "Seconds in which the group's CPU limit held it back."
)
CPU_PERIODS = Family(
    "llmvitals_cgroup_cpu_periods_total", "counter", "Periods of the group's CPU limit in which it wanted to run."
)
CPU_THROTTLED_PERIODS = Family(
    "llmvitals_cgroup_cpu_throttled_periods_total", "counter", "Those of the periods in which the limit held it back."
)
CPU_LIMIT = Family(
    "llmvitals_cgroup_cpu_limit_cores",
    "gauge",
    "CPUs' worth of time that the control group may use, the strictest of its parents included; absent when unlimited.",
)


def _pressure(resource: str, state: str, who: str) -> Family:
    return Family(
        f"llmvitals_cgroup_pressure_{resource}_{state}_seconds_total",
        "counter",
        f"Seconds in which {who} of the control group's runnable processes waited for {resource}.",
    )


#: The file's name and the line's first word, as for the whole machine; a group's "full" of CPU means something.
PRESSURE = {
    (resource, kind): _pressure(resource, state, who)
    for resource in ("cpu", "io", "memory")
    for kind, state, who in (("some", "waiting", "some"), ("full", "stalled", "all"))
}


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

    def fields(self, name: str) -> dict[str, int]:
        """The words and numbers of the group's own file; none where it has no such file."""
        text = self.text(name)
        return {key: int(number) for key, number in map(str.split, (text or "").splitlines())}


def _text(path: str) -> str | None:
    try:
        return read_text(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


# --- Where the group is -----------------------------------------------------------------------------------------------


def find(procfs: str) -> dict[str, Place]:
    """The places by controller of version 1 (``memory``, ``cpu`` …); version 2's is under the empty name."""
    membership = {}
    for line in _lines(f"{procfs}/self/cgroup"):
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


def _lines(path: str) -> Iterator[str]:
    """Lines with paths in them, as Python's functions for files want them."""
    return filter(None, os.fsdecode(read_bytes(path)).split("\n"))


def _mounts(procfs: str) -> Iterator[tuple[str, str, str, list[str]]]:
    for line in _lines(f"{procfs}/self/mountinfo"):
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        fstype, _device, options = after.split(" ", 2)
        root, mountpoint = map(unescape, fields[3:5])
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


def _memory_v2(place: Place, installed: float) -> Iterator[Reading]:
    yield from _use(place.text("memory.current"), place.fields("memory.stat").get("inactive_file"))
    limits = [float(text) for text in place.texts("memory.max") if text.strip() != "max"]
    yield from _limit(MEMORY_LIMIT, limits, installed)
    yield from _told(place.fields("memory.events"), {"oom_kill": (OOM_KILLS, 1.0)})


def _memory_v1(place: Place, installed: float) -> Iterator[Reading]:
    stat = place.fields("memory.stat")
    yield from _use(place.text("memory.usage_in_bytes"), stat.get("total_inactive_file"))
    limits = [float(text) for text in place.texts("memory.limit_in_bytes")]
    if "hierarchical_memory_limit" in stat:  # The strictest of the parents, which a container does not see.
        limits.append(float(stat["hierarchical_memory_limit"]))
    yield from _limit(MEMORY_LIMIT, limits, installed)
    yield from _told(place.fields("memory.oom_control"), {"oom_kill": (OOM_KILLS, 1.0)})  # Since Linux 4.13.


def _use(usage: str | None, inactive: int | None) -> Iterator[Reading]:
    if usage is not None:
        yield MEMORY_USAGE, (), float(usage)
        if inactive is not None:
            # As the kubelet reckons it. The two are read one after the other, so the difference may be negative.
            yield MEMORY_WORKING_SET, (), max(0.0, float(usage) - inactive)


_PERIODS = {"nr_periods": (CPU_PERIODS, 1.0), "nr_throttled": (CPU_THROTTLED_PERIODS, 1.0)}
#: ``cpu.stat``: its words, their families, and what a family's unit is in the file.
_CPU_V2 = {"usage_usec": (CPU_USAGE, 1e6), "throttled_usec": (CPU_THROTTLED, 1e6), **_PERIODS}
_CPU_V1 = {"throttled_time": (CPU_THROTTLED, 1e9), **_PERIODS}


def _cpu_v2(place: Place, cpus: float) -> Iterator[Reading]:
    yield from _told(place.fields("cpu.stat"), _CPU_V2)
    pairs = [text.split() for text in place.texts("cpu.max")]
    yield from _limit(CPU_LIMIT, [int(quota) / int(period) for quota, period in pairs if quota != "max"], cpus)


def _cpu_v1(place: Place, cpus: float) -> Iterator[Reading]:
    yield from _told(place.fields("cpu.stat"), _CPU_V1)
    pairs = zip(place.texts("cpu.cfs_quota_us"), place.texts("cpu.cfs_period_us"), strict=False)
    yield from _limit(CPU_LIMIT, [int(quota) / int(period) for quota, period in pairs if int(quota) > 0], cpus)


def _pressures(place: Place) -> Iterator[Reading]:
    for resource in ("cpu", "io", "memory"):
        seconds = stalls(f"{place.directories[0]}/{resource}.pressure") or {}
        for kind, value in seconds.items():
            yield PRESSURE[resource, kind], (), value


def _told(fields: Mapping[str, int], families: Mapping[str, tuple[Family, float]]) -> Iterator[Reading]:
    for key, (family, unit) in families.items():
        if key in fields:
            yield family, (), fields[key] / unit


def _limit(family: Family, limits: list[float], installed: float) -> Iterator[Reading]:
    # Version 1 writes "unlimited" as a number near 2^63: a limit above what is installed limits nothing.
    limits = [limit for limit in limits if limit <= installed]
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
        readings += _cpu_v1(places["cpu"], _cpus(procfs))
    elif unified is not None:
        readings += _cpu_v2(unified, _cpus(procfs))
    if unified is not None:
        readings += _pressures(unified)
    if not readings:
        raise NothingToCollect("this process is in no control group that counts or limits")
    yield from readings


def _installed(procfs: str) -> float:
    for line in lines(f"{procfs}/meminfo"):
        if line.startswith("MemTotal:"):
            return float(line.split()[1]) * 1024
    return float("inf")


def _cpus(procfs: str) -> float:
    count = sum(line.startswith("cpu") and line[3:4].isdecimal() for line in lines(f"{procfs}/stat"))
    return float(count) or float("inf")


def _open(settings: Settings) -> Reader:
    if not _portable.on_linux():
        return _portable.linux_only("control groups")
    procfs = settings[PROCFS]
    return Reader(lambda: _read(procfs))


COLLECTOR = Declaration(
    name="cgroup",
    help="limits, use, throttling, out-of-memory kills and pressure of our control group (the container)",
    families=(
        MEMORY_USAGE,
        MEMORY_WORKING_SET,
        MEMORY_LIMIT,
        OOM_KILLS,
        CPU_USAGE,
        CPU_THROTTLED,
        CPU_PERIODS,
        CPU_THROTTLED_PERIODS,
        CPU_LIMIT,
        *PRESSURE.values(),
    ),
    options=(PROCFS,),
    open=_open,
)
