"""Which processes belong together, and whether they still live: what the kernel knows, and no environment variable."""

import hashlib
import os
import struct
import sys
from pathlib import Path
from typing import Any

_AT_RANDOM = 25

Process = tuple[int, str]
"""A process's id and when it started, in the kernel's ticks: an id alone is reused."""


def digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:20]


def namespaces() -> tuple[int, int]:
    """Return what tells this container's processes and ports from another's."""
    try:
        return Path("/proc/self/ns/pid").stat().st_ino, Path("/proc/self/ns/net").stat().st_ino
    except OSError:
        return 0, 0


def kin() -> list[str]:
    """Return marks that this process shares with those it belongs to; empty where there are none to be had.

    One is of the program as it was executed: the 16 random bytes that the kernel gives each execution are inherited by
    all its forks. The other is multiprocessing's key, which a parent gives to all its children, spawned ones too.
    """
    marks = [digest("execution", random) for random in (_execution_bytes(),) if random]
    multiprocessing = sys.modules.get("multiprocessing.process")
    if multiprocessing is not None:
        marks.append(digest("multiprocessing", bytes(multiprocessing.current_process().authkey)))
    if _multiprocessing_parent() is not None:
        # A child is its siblings' kin first: a spawned one was executed anew.
        marks.reverse()
    return marks


def parents() -> list[Process]:
    """Return the processes that this one is a worker of: forked from it, or multiprocessing's child."""
    found = []
    parent = os.getppid()
    if parent > 1 and _stack_start(parent) is not None and _stack_start(parent) == _stack_start(os.getpid()):
        found.append(parent)
    child_of = _multiprocessing_parent()
    if child_of is not None and child_of not in found:
        found.append(child_of)
    return [(pid, started) for pid in found if (started := started_at(pid))]


def is_alive(process: Process) -> bool:
    pid, started = process
    return started_at(pid) == started


def started_at(pid: int) -> str:
    """Return when a process started, in the kernel's ticks; empty when there is none, or only its zombie."""
    fields = _stat(pid)
    return "" if len(fields) < 20 or fields[0] in ("Z", "X") else fields[19]


def _stat(pid: int) -> list[str]:
    try:
        # The name, in parentheses, may hold anything.
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _stack_start(pid: int) -> str | None:
    """Return the random address that an execution's stack was given: its forks have the same."""
    fields = _stat(pid)
    return fields[25] if len(fields) > 25 and fields[25] != "0" else None


def is_multiprocessing_child() -> bool:
    return _multiprocessing_parent() is not None


def _multiprocessing_parent() -> int | None:
    multiprocessing: Any = sys.modules.get("multiprocessing.process")
    parent = None if multiprocessing is None else multiprocessing.parent_process()
    return None if parent is None else parent.pid


def _execution_bytes() -> bytes:
    try:
        auxiliary = Path("/proc/self/auxv").read_bytes()
        word = struct.Struct("@NN")
        entries = dict(word.iter_unpack(auxiliary[: len(auxiliary) // word.size * word.size]))
        with Path("/proc/self/mem").open("rb", buffering=0) as memory:
            memory.seek(entries[_AT_RANDOM])
            return memory.read(16)
    except (OSError, KeyError, ValueError, OverflowError):
        return b""
