"""The machine's processes: in procfs, or as psutil knows them.

Both speak of a process that ended in between as ProcessLookupError, and of one that does not let us look as
PermissionError, whichever of the calls meets it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from llmvitals_exporter._places import lines, read_text

#: A command line longer than this is matched by its start only.
_COMMAND_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Stat:
    """What is known of a process at one moment.

    Attributes:
        birth: Seconds from the table's epoch to the process's start; with the id, it tells a process from all others.
        state: One of process-exporter's words; None where the system does not tell what a process does.
        cpu_seconds: With threads and memory, None where the process does not let us look.
    """

    birth: float
    name: str
    state: str | None
    cpu_seconds: float | None
    threads: int | None
    resident_bytes: int | None


class Table(Protocol):
    """What a collector asks of a system's processes."""

    def epoch(self) -> float:
        """The Unix time that births count from."""

    def pids(self) -> Iterator[int]:
        """All processes but this exporter."""

    def stat(self, pid: int) -> Stat: ...

    def command(self, pid: int) -> str:
        """The command line, its words separated by spaces."""

    def storage(self, pid: int) -> tuple[int, int]:
        """Bytes read from storage, and written to it. Raises PermissionError where nobody counts them."""

    def open_files(self, pid: int) -> int: ...


# --- Linux ------------------------------------------------------------------------------------------------------------

#: The kernel's letters, in process-exporter's words: waiting is for a disk or the like, and cannot be interrupted.
_LETTERS = {"R": "running", "S": "sleeping", "I": "sleeping", "D": "waiting", "Z": "zombie"}


class Procfs:
    """Linux: a file or two for each process."""

    def __init__(self, procfs: str) -> None:
        self._procfs = procfs
        self._hertz = float(os.sysconf("SC_CLK_TCK"))
        self._page = os.sysconf("SC_PAGE_SIZE")
        # In a container with the host's procfs, "self" is our id on the host.
        self._own = os.readlink(f"{procfs}/self")  # noqa: PTH115 -- strings throughout

    def epoch(self) -> float:
        for line in lines(f"{self._procfs}/stat"):
            if line.startswith("btime "):
                return float(line.split()[1])
        raise ValueError(f"{self._procfs}/stat has no boot time")

    def pids(self) -> Iterator[int]:
        return (int(name) for name in os.listdir(self._procfs) if name.isdecimal() and name != self._own)  # noqa: PTH208 -- many

    def stat(self, pid: int) -> Stat:
        text = self._text(pid, "stat")
        # The name stands in brackets and may itself hold brackets and spaces.
        end = text.rindex(")")
        fields = text[end + 2 :].split(" ", 22)
        return Stat(
            birth=int(fields[19]) / self._hertz,
            name=text[text.index("(") + 1 : end],
            state=_LETTERS.get(fields[0], "other"),
            cpu_seconds=(int(fields[11]) + int(fields[12])) / self._hertz,
            threads=int(fields[17]),
            resident_bytes=int(fields[21]) * self._page,
        )

    def command(self, pid: int) -> str:
        return self._text(pid, "cmdline")[:_COMMAND_BYTES].replace("\0", " ").strip()

    def storage(self, pid: int) -> tuple[int, int]:
        text = self._text(pid, "io")
        return _after(text, "\nread_bytes: "), _after(text, "\nwrite_bytes: ")

    def open_files(self, pid: int) -> int:
        try:
            return len(os.listdir(f"{self._procfs}/{pid}/fd"))  # noqa: PTH208 -- one for each process
        except FileNotFoundError as error:
            raise ProcessLookupError(pid) from error

    def _text(self, pid: int, file: str) -> str:
        try:
            return read_text(f"{self._procfs}/{pid}/{file}")
        except FileNotFoundError as error:
            raise ProcessLookupError(pid) from error


def _after(text: str, words: str) -> int:
    start = text.index(words) + len(words)
    return int(text[start : text.index("\n", start)])


# --- Elsewhere --------------------------------------------------------------------------------------------------------

#: psutil's words, in process-exporter's.
_STATUSES = {
    "running": "running",
    "sleeping": "sleeping",
    "idle": "sleeping",
    "disk-sleep": "waiting",
    "zombie": "zombie",
}


class Portable:
    """macOS and Windows, through psutil.

    Args:
        psutil: The module.
        windows: True where what a process does is not told, and open files are handles.
    """

    def __init__(self, psutil: Any, *, windows: bool) -> None:
        self._psutil = psutil
        self._windows = windows

    def epoch(self) -> float:
        return 0.0

    def pids(self) -> Iterator[int]:
        own = os.getpid()
        # 0 is the kernel, or Windows' idle time.
        return (pid for pid in self._psutil.pids() if pid not in (0, own))

    def stat(self, pid: int) -> Stat:
        with self._asking(pid):
            process = self._psutil.Process(pid)
            with process.oneshot():
                birth, name = float(process.create_time()), str(process.name())
                state = None if self._windows else self._state(process)
                if state == "zombie":  # It holds nothing any more, and macOS answers no question about it.
                    return Stat(birth, name, state, 0.0, 0, 0)
                try:
                    times = process.cpu_times()
                    threads, resident = int(process.num_threads()), int(process.memory_info().rss)
                    return Stat(birth, name, state, float(times.user + times.system), threads, resident)
                except self._psutil.ZombieProcess:  # It died between the questions.
                    return Stat(birth, name, None if self._windows else "zombie", 0.0, 0, 0)
                except self._psutil.AccessDenied:  # Another user's.
                    return Stat(birth, name, state, None, None, None)

    def _state(self, process: Any) -> str:
        try:
            return _STATUSES.get(str(process.status()), "other")
        except self._psutil.ZombieProcess:
            return "zombie"

    def command(self, pid: int) -> str:
        with self._asking(pid):
            return " ".join(self._psutil.Process(pid).cmdline())[:_COMMAND_BYTES]

    def storage(self, pid: int) -> tuple[int, int]:
        # macOS does not count them, and Windows counts pipes and connections in.
        raise PermissionError(f"nobody counts the storage that {pid} uses")

    def open_files(self, pid: int) -> int:
        with self._asking(pid):
            process = self._psutil.Process(pid)
            return int(process.num_handles() if self._windows else process.num_fds())

    @contextmanager
    def _asking(self, pid: int) -> Iterator[None]:
        try:
            yield
        except self._psutil.AccessDenied as error:
            raise PermissionError(pid) from error
        except self._psutil.NoSuchProcess as error:  # A zombie, too.
            raise ProcessLookupError(pid) from error
        except OSError as error:  # What a system says of one that is half gone, psutil passes on.
            raise PermissionError(pid) from error
