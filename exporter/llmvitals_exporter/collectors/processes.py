"""Groups of processes, found by name or command line. No process id and no command line is ever a label."""

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from llmvitals_exporter import _portable
from llmvitals_exporter._declaration import Declaration, Option, Settings, each
from llmvitals_exporter._family import Family, Reading
from llmvitals_exporter._places import PROCFS
from llmvitals_exporter._process_table import Portable, Procfs, Stat, Table


def _family(name: str, help_: str) -> Family:
    kind: Literal["counter", "gauge"] = "counter" if name.endswith("_total") else "gauge"
    return Family(f"llmvitals_process_group_{name}", kind, help_, ("group",))


PROCESSES = _family("processes", "Running processes of a watched group; 0 when none runs.")
CPU = _family(
    "cpu_seconds_total",
    "CPU seconds used by a group's processes, the ended ones included; absent when one does not let us look.",
)
MEMORY = _family(
    "resident_memory_bytes",
    "Sum of the processes' resident memory, so that what they share counts for each; absent when one does not let us "
    "look.",
)
FDS = _family(
    "open_fds", "Open file descriptors, on Windows handles; absent when one of the processes does not let us look."
)
THREADS = _family("threads", "Threads of a group's processes; absent when one of them does not let us look.")
OLDEST = _family("oldest_start_time_seconds", "When the group's oldest process started, in Unix time.")

READ = _family(
    "read_bytes_total",
    "Bytes read from storage, those of ended processes included; absent when one does not let us look.",
)
WRITTEN = _family("written_bytes_total", "Bytes written to storage, like the bytes read.")
STATES = Family(
    "llmvitals_process_group_states",
    "gauge",
    "A group's processes by what they do; absent on Windows.",
    ("group", "state"),
)

_STATE_NAMES = ("running", "sleeping", "waiting", "zombie", "other")

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}")
#: A process younger than this is matched anew at each read: between fork and exec it still has its parent's name.
_SETTLED_SECONDS = 10.0
#: Births closer than this are one, told twice: macOS corrects them when the clock is set. No id comes again so soon.
_SAME_SECONDS = 1.0


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


@dataclass(slots=True)
class _Known:
    """A process that was seen before: its birth and name tell it from a later one with the same id."""

    birth: float
    name: str
    group: str | None
    cpu_seconds: float = 0.0
    read_bytes: int = 0
    written_bytes: int = 0


@dataclass(slots=True)
class _Group:
    """Sums over a group; what one of its processes hides has no sum, which is None or told by a flag."""

    cpu_seconds: float = 0.0
    cpu_hidden: bool = False
    read_bytes: int = 0
    written_bytes: int = 0
    io_hidden: bool = False
    states: dict[str, int] | None = None
    processes: int = 0
    resident_bytes: int | None = 0
    threads: int | None = 0
    fds: int | None = 0
    oldest: float | None = None

    def start_over(self) -> None:
        """Forget the processes, but not what they used, which is counted."""
        self.io_hidden = self.cpu_hidden = False
        self.states = dict.fromkeys(_STATE_NAMES, 0)
        self.processes = self.resident_bytes = self.threads = self.fds = 0
        self.oldest = None

    def add(self, stat: Stat, process: _Known) -> None:
        self.processes += 1
        if self.oldest is None or stat.birth < self.oldest:
            self.oldest = stat.birth
        if stat.state is None:
            self.states = None
        elif self.states is not None:
            self.states[stat.state] += 1
        self.resident_bytes = _sum(self.resident_bytes, stat.resident_bytes)
        self.threads = _sum(self.threads, stat.threads)
        if stat.cpu_seconds is None:
            self.cpu_hidden = True
        elif stat.cpu_seconds > process.cpu_seconds:
            self.cpu_seconds += stat.cpu_seconds - process.cpu_seconds
            process.cpu_seconds = stat.cpu_seconds

    def add_storage(self, read: int, written: int, process: _Known) -> None:
        self.read_bytes += max(0, read - process.read_bytes)
        self.written_bytes += max(0, written - process.written_bytes)
        process.read_bytes, process.written_bytes = read, written


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


class Processes:
    """Follows the watched groups from read to read."""

    def __init__(self, table: Table, watches: Sequence[Watch]) -> None:
        self._table = table
        self._watches = watches
        self._known: dict[int, _Known] = {}
        self._groups = {watch.group: _Group() for watch in watches}

    def read(self) -> Iterator[Reading]:
        epoch, now = self._table.epoch(), time.time()
        for group in self._groups.values():
            group.start_over()
        known: dict[int, _Known] = {}
        for pid in self._table.pids():
            try:
                stat = self._table.stat(pid)
                process = self._recognise(pid, stat, now - epoch - stat.birth)
            except ProcessLookupError:
                continue  # It ended while we looked.
            except PermissionError:
                continue  # Not even its name is ours to see.
            known[pid] = process
            if process.group is not None:
                self._count(pid, stat, process, self._groups[process.group])
        self._known = known
        for name, group in self._groups.items():
            yield from _readings((name,), group, epoch)

    def close(self) -> None:
        """There is nothing to give back."""

    def _recognise(self, pid: int, stat: Stat, age: float) -> _Known:
        known = self._known.get(pid)
        if known is None or abs(known.birth - stat.birth) > _SAME_SECONDS:
            return _Known(stat.birth, stat.name, self._match(pid, stat.name))
        if known.name == stat.name and age > _SETTLED_SECONDS:
            return known
        group = self._match(pid, stat.name)
        if known.group == group:
            known.name = stat.name
            return known
        return _Known(stat.birth, stat.name, group)

    def _match(self, pid: int, name: str) -> str | None:
        try:
            command = self._table.command(pid)
        except PermissionError:
            command = ""
        for watch in self._watches:
            if watch.pattern.search(name) or watch.pattern.search(command):
                return watch.group
        return None

    def _count(self, pid: int, stat: Stat, process: _Known, group: _Group) -> None:
        group.add(stat, process)
        if stat.state == "zombie":
            return  # It holds no files any more, and the kernel lets only root look whether it does.
        try:
            if not group.io_hidden:
                group.add_storage(*self._table.storage(pid), process)
        except PermissionError:
            group.io_hidden = True
        except ProcessLookupError:  # It ended just now; what it used until then is counted.
            return
        try:
            if group.fds is not None:
                group.fds += self._table.open_files(pid)
        except PermissionError:
            group.fds = None
        except ProcessLookupError:
            return


def _readings(labels: tuple[str], group: _Group, epoch: float) -> Iterator[Reading]:
    yield PROCESSES, labels, float(group.processes)
    if not group.cpu_hidden:
        yield CPU, labels, group.cpu_seconds
    if group.states is not None:
        for state, count in group.states.items():
            yield STATES, (*labels, state), float(count)
    if not group.io_hidden:
        yield READ, labels, float(group.read_bytes)
        yield WRITTEN, labels, float(group.written_bytes)
    for family, value in ((MEMORY, group.resident_bytes), (THREADS, group.threads), (FDS, group.fds)):
        if value is not None:
            yield family, labels, float(value)
    if group.oldest is not None:
        yield OLDEST, labels, epoch + group.oldest


def _open(settings: Settings) -> Processes | None:
    watches = settings[WATCH]
    if not watches:
        return None
    if _portable.on_linux():
        return Processes(Procfs(settings[PROCFS]), watches)
    return Processes(Portable(_portable.psutil(), windows=_portable.on_windows()), watches)


COLLECTOR = Declaration(
    name="processes",
    help="CPU, memory, files, threads, storage and states of watched groups of processes (needs --watch)",
    families=(PROCESSES, CPU, MEMORY, THREADS, STATES, READ, WRITTEN, FDS, OLDEST),
    options=(PROCFS, WATCH),
    open=_open,
    waits=True,  # A command line is read from the process's own memory, which the kernel may have locked.
)
