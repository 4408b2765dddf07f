"""Groups of processes, found by name or command line. No process id and no command line is ever a label."""

import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from llmvitals_exporter._declaration import Declaration, Option, Settings, each
from llmvitals_exporter._family import Family, Reading
from llmvitals_exporter._places import PROCFS, read_text


def _family(name: str, help_: str) -> Family:
    kind: Literal["counter", "gauge"] = "counter" if name.endswith("_total") else "gauge"
    return Family(f"llmvitals_process_group_{name}", kind, help_, ("group",))


PROCESSES = _family("processes", "Running processes of a watched group; 0 when none runs.")
CPU = _family("cpu_seconds_total", "CPU seconds used by a group's processes, the ended ones included.")
MEMORY = _family(
    "resident_memory_bytes", "Sum of the processes' resident memory; memory that they share counts for each."
)
FDS = _family("open_fds", "Open file descriptors; absent when one of the processes does not let us look.")
THREADS = _family("threads", "Threads of a group's processes.")
OLDEST = _family("oldest_start_time_seconds", "When the group's oldest process started, in Unix time.")

READ = _family(
    "read_bytes_total",
    "Bytes read from storage, those of ended processes included; absent when one does not let us look.",
)
WRITTEN = _family("written_bytes_total", "Bytes written to storage, like the bytes read.")
STATES = Family("llmvitals_process_group_states", "gauge", "A group's processes by what they do.", ("group", "state"))

#: The kernel's letters, in process-exporter's words: waiting is for a disk or the like, and cannot be interrupted.
_STATES = {"R": "running", "S": "sleeping", "I": "sleeping", "D": "waiting", "Z": "zombie"}
_STATE_NAMES = ("running", "sleeping", "waiting", "zombie", "other")

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}")
#: A command line longer than this is matched by its start only.
_COMMAND_BYTES = 4096
#: A process younger than this is matched anew at each read: between fork and exec it still has its parent's name.
_SETTLED_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Watch:
    group: str
    pattern: re.Pattern[str]


def _parse_watch(text: str) -> Watch:
    group, equals, pattern = text.partition("=")
    if not equals or not pattern:
        raise ValueError(f"{text!r} is not NAME=REGEX")
    if not _NAME.fullmatch(group):
        raise ValueError(f"{group!r} is not a name: letters, digits, '_', '.', '-', 64 at most")
    try:
        return Watch(group, re.compile(pattern))
    except re.error as error:
        raise ValueError(f"the pattern of {group!r} is not a regular expression: {error}") from error


def _parse_watches(texts: Sequence[str]) -> tuple[Watch, ...]:
    watches = each(_parse_watch)(texts)
    groups = [watch.group for watch in watches]
    twice = sorted({group for group in groups if groups.count(group) > 1})
    if twice:
        raise ValueError(f"names used twice: {', '.join(twice)}; write one pattern as A|B")
    return watches


WATCH: Option[tuple[Watch, ...]] = Option(
    flag="--watch",
    metavar="NAME=REGEX",
    help="count the processes whose name or command line the expression finds as the group NAME (repeatable; the first "
    "that fits takes the process; this exporter itself is never counted)",
    default=(),
    parse=_parse_watches,
)


@dataclass(frozen=True, slots=True)
class _Stat:
    """What ``/proc/<pid>/stat`` says of a process."""

    started_ticks: int
    name: str
    state: str
    cpu_seconds: float
    threads: int
    resident_bytes: int


@dataclass(slots=True)
class _Known:
    """A process that was seen before: its start and name tell it from a later one with the same id."""

    started_ticks: int
    name: str
    group: str | None
    cpu_seconds: float = 0.0
    read_bytes: int = 0
    written_bytes: int = 0


@dataclass(slots=True)
class _Group:
    cpu_seconds: float = 0.0
    read_bytes: int = 0
    written_bytes: int = 0
    io_hidden: bool = False
    states: dict[str, int] = field(default_factory=dict)
    processes: int = 0
    resident_bytes: int = 0
    threads: int = 0
    fds: int | None = 0
    oldest_ticks: int | None = field(default=None)

    def start_over(self) -> None:
        """Forget the processes, but not what they used, which is counted."""
        self.io_hidden = False
        self.states = dict.fromkeys(_STATE_NAMES, 0)
        self.processes = self.resident_bytes = self.threads = self.fds = 0
        self.oldest_ticks = None


class Processes:
    """Follows the watched groups from read to read."""

    def __init__(self, procfs: str, watches: Sequence[Watch]) -> None:
        self._procfs = procfs
        self._watches = watches
        self._hertz = float(os.sysconf("SC_CLK_TCK"))
        self._page = os.sysconf("SC_PAGE_SIZE")
        self._own = _own_pid(procfs)
        self._known: dict[int, _Known] = {}
        self._groups = {watch.group: _Group() for watch in watches}

    def read(self) -> Iterator[Reading]:
        booted = _boot_time(self._procfs)
        for group in self._groups.values():
            group.start_over()
        known: dict[int, _Known] = {}
        for pid in self._pids():
            try:
                stat = self._stat(pid)
                process = self._recognise(pid, stat, booted)
            except (FileNotFoundError, ProcessLookupError):
                continue  # It ended while we looked.
            known[pid] = process
            if process.group is not None:
                self._count(pid, stat, process, self._groups[process.group])
        self._known = known
        for name, group in self._groups.items():
            yield from self._readings((name,), group, booted)

    def close(self) -> None:
        """There is nothing to give back."""

    def _pids(self) -> Iterator[int]:
        with os.scandir(self._procfs) as entries:
            for entry in entries:
                if entry.name.isdecimal() and int(entry.name) != self._own:
                    yield int(entry.name)

    def _stat(self, pid: int) -> _Stat:
        text = read_text(f"{self._procfs}/{pid}/stat")
        # The name stands in brackets and may itself hold brackets and spaces.
        name = text[text.index("(") + 1 : text.rindex(")")]
        fields = text[text.rindex(")") + 2 :].split()
        return _Stat(
            started_ticks=int(fields[19]),
            name=name,
            state=_STATES.get(fields[0], "other"),
            cpu_seconds=(int(fields[11]) + int(fields[12])) / self._hertz,
            threads=int(fields[17]),
            resident_bytes=int(fields[21]) * self._page,
        )

    def _recognise(self, pid: int, stat: _Stat, booted: float) -> _Known:
        known = self._known.get(pid)
        same = known is not None and known.started_ticks == stat.started_ticks
        settled = time.time() - (booted + stat.started_ticks / self._hertz) > _SETTLED_SECONDS
        if known is not None and same and known.name == stat.name and settled:
            return known
        group = self._match(pid, stat.name)
        if known is not None and same and known.group == group:
            known.name = stat.name
            return known
        return _Known(stat.started_ticks, stat.name, group)

    def _match(self, pid: int, name: str) -> str | None:
        try:
            command = read_text(f"{self._procfs}/{pid}/cmdline")[:_COMMAND_BYTES].replace("\0", " ").strip()
        except PermissionError:
            command = ""
        for watch in self._watches:
            if watch.pattern.search(name) or watch.pattern.search(command):
                return watch.group
        return None

    def _count(self, pid: int, stat: _Stat, process: _Known, group: _Group) -> None:
        group.processes += 1
        group.cpu_seconds += max(0.0, stat.cpu_seconds - process.cpu_seconds)
        process.cpu_seconds = stat.cpu_seconds
        group.states[stat.state] += 1
        group.resident_bytes += stat.resident_bytes
        group.threads += stat.threads
        if group.oldest_ticks is None or stat.started_ticks < group.oldest_ticks:
            group.oldest_ticks = stat.started_ticks
        self._count_io(pid, process, group)
        if group.fds is not None:
            try:
                group.fds += len(os.listdir(f"{self._procfs}/{pid}/fd"))  # noqa: PTH208 -- many of them in a scrape
            except PermissionError:
                group.fds = None
            except (FileNotFoundError, ProcessLookupError):
                return  # It ended just now; its CPU time is counted.

    def _count_io(self, pid: int, process: _Known, group: _Group) -> None:
        try:
            text = read_text(f"{self._procfs}/{pid}/io")
        except PermissionError:
            group.io_hidden = True
            return
        except (FileNotFoundError, ProcessLookupError):  # It ended just now, or the kernel does not count.
            return
        bytes_of = dict(line.split(": ") for line in text.splitlines())
        read, written = int(bytes_of.get("read_bytes", 0)), int(bytes_of.get("write_bytes", 0))
        group.read_bytes += max(0, read - process.read_bytes)
        group.written_bytes += max(0, written - process.written_bytes)
        process.read_bytes, process.written_bytes = read, written

    def _readings(self, labels: tuple[str], group: _Group, booted: float) -> Iterator[Reading]:
        yield PROCESSES, labels, float(group.processes)
        yield CPU, labels, group.cpu_seconds
        yield MEMORY, labels, float(group.resident_bytes)
        yield THREADS, labels, float(group.threads)
        for state in _STATE_NAMES:
            yield STATES, (*labels, state), float(group.states[state])
        if not group.io_hidden:
            yield READ, labels, float(group.read_bytes)
            yield WRITTEN, labels, float(group.written_bytes)
        if group.fds is not None:
            yield FDS, labels, float(group.fds)
        if group.oldest_ticks is not None:
            yield OLDEST, labels, booted + group.oldest_ticks / self._hertz


def _own_pid(procfs: str) -> int:
    # In a container with the host's procfs, "self" is our id on the host.
    return int(os.readlink(f"{procfs}/self"))  # noqa: PTH115 -- strings throughout


def _boot_time(procfs: str) -> float:
    for line in read_text(f"{procfs}/stat").splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    raise ValueError(f"{procfs}/stat has no boot time")


def _open(settings: Settings) -> Processes | None:
    watches = settings[WATCH]
    return Processes(settings[PROCFS], watches) if watches else None


COLLECTOR = Declaration(
    name="processes",
    help="CPU, memory, files, threads, storage and states of watched groups of processes (needs --watch)",
    families=(PROCESSES, CPU, MEMORY, THREADS, STATES, READ, WRITTEN, FDS, OLDEST),
    options=(PROCFS, WATCH),
    open=_open,
    waits=True,  # A command line is read from the process's own memory, which the kernel may have locked.
)
