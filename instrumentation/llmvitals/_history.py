"""What happened lately and mattered: breakers, checks, levels, critical runs; kept in memory, and on disk for after a
crash.
"""

import json
import logging
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llmvitals import _work_families as families
from llmvitals._recording import Recorder
from llmvitals._telling import Level

log = logging.getLogger("llmvitals")

LEVELS: tuple[Level, ...] = ("info", "warning", "critical", "emergency")

EVENTS = 1000
MAX_BYTES = 1_048_576
FILES = 3
_LINE = 4096
# Beyond, whoever writes so much is stuck on a disk: what is newest is in memory all the same.
_WAITING = 10_000


class History:
    """The last 1,000 events of an application, of its own and of the library's. Thread-safe, never blocks.

    After `write_to`, each one is appended to a file as a line of JSON within milliseconds, by a thread: what the file
    has survives the process, also its ``kill -9``. Read it with `read_history`.
    """

    def __init__(self, recorder: Recorder, *, threads: bool = True) -> None:
        self._recorder = recorder
        self._threads = threads
        self._events: deque[dict[str, Any]] = deque(maxlen=EVENTS)
        self._waiting: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._listeners: list[tuple[int, Callable[[Mapping[str, Any]], object]]] = []
        self._file: _Rotating | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def record(self, event: str, name: str, *, level: Level = "info", **facts: object) -> None:
        """Add an event of the application's own: what kind (one of few words), of what, and anything about it that
        JSON can say. No user's words: the file is for whoever runs the application.
        """
        with self._recorder.guard("history"):
            level = level if level in LEVELS else "info"
            entry = {"at": round(time.time(), 3), "event": event, "name": name, "level": level, **facts}
            self._events.append(entry)
            self._recorder.child(families.HISTORY_EVENTS, event, level).inc()
            if self._thread is not None and self._waiting.qsize() < _WAITING:
                self._waiting.put(entry)

    def recent(self, limit: int = 100, *, least_level: Level = "info") -> list[dict[str, Any]]:
        """The latest events of that level or above, oldest first."""
        least = LEVELS.index(least_level)
        found = [entry for entry in self._events.copy() if LEVELS.index(entry["level"]) >= least]
        return found[-limit:] if limit > 0 else []

    def export(self) -> str:
        """All that is kept, as a JSON array."""
        return json.dumps(self.recent(EVENTS), default=str)

    def listen(self, listener: Callable[[Mapping[str, Any]], object], *, least_level: Level = "warning") -> None:
        """Call *listener* with each event of that level or above, in the history's thread. What it raises is counted.

        Raises ValueError for a level that is none.
        """
        if least_level not in LEVELS:
            raise ValueError(f"least_level must be one of {', '.join(LEVELS)}, not {least_level!r}")
        self._listeners.append((LEVELS.index(least_level), listener))
        self._start()

    def write_to(self, path: str | Path, *, max_bytes: int = MAX_BYTES, files: int = FILES) -> None:
        """Append each event from now on to *path*; one process, one path. What is kept already is written first.

        A file that is larger than *max_bytes* becomes ``path.1``, and so on; *files* are kept in all. A disk that is
        full or gone is counted and logged once, and tried again with the next event.
        """
        with self._lock:
            self._file = _Rotating(Path(path), max_bytes=max_bytes, files=files)
            before = list(self._events)
        self._start()
        for entry in before:
            self._waiting.put(entry)

    def close(self) -> None:
        """Write what waits, for a second at most, and write no more."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None and thread.is_alive():
            self._waiting.put(None)
            thread.join(1.0)

    def deliver(self) -> None:
        """Write and tell what waits, here and now: for tests, where no thread does it."""
        while not self._waiting.empty():
            entry = self._waiting.get()
            if entry is not None:
                self._deliver(entry)

    def _start(self) -> None:
        with self._lock:
            if self._thread is not None:
                return
            self._thread = threading.Thread(target=self._run, name="llmvitals-history", daemon=True)
            if self._threads:
                self._thread.start()

    def _run(self) -> None:
        while (entry := self._waiting.get()) is not None:
            self._deliver(entry)

    def _deliver(self, entry: dict[str, Any]) -> None:
        if self._file is not None:
            with self._recorder.guard("history_file"):
                self._file.append(line(entry))
        for least, listener in self._listeners:
            if LEVELS.index(entry["level"]) >= least:
                with self._recorder.guard("history_listener"):
                    listener(entry)


class _Rotating:
    """A file of lines that is never larger than it should be. For one thread."""

    def __init__(self, path: Path, *, max_bytes: int, files: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._files = files
        self._descriptor: int | None = None
        self._size = 0

    def append(self, text: bytes) -> None:
        """Raises OSError when it cannot; the next time starts anew."""
        try:
            if self._descriptor is None:
                text = self._open() + text
            elif self._size + len(text) > self._max_bytes:
                self._rotate()
                self._open()
            # One write: a crash leaves whole lines, and at worst one that is cut off.
            self._size += os.write(self._descriptor or 0, text)
        except OSError:
            self._close()
            raise

    def _open(self) -> bytes:
        """What has to come first: an end to a line that a crash has cut off."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # 0600: what an application says of itself is its owner's business.
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._descriptor).st_size
        cut_off = self._size > 0 and os.pread(self._descriptor, 1, self._size - 1) != b"\n"
        return b"\n" if cut_off else b""

    def _rotate(self) -> None:
        self._close()
        for number in range(self._files - 1, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            newer = self._path if number == 1 else self._path.with_name(f"{self._path.name}.{number - 1}")
            if newer.exists():
                newer.replace(older)
        if self._files == 1:
            self._path.unlink()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def line(entry: Mapping[str, Any]) -> bytes:
    """One event as a line of JSON, of 4 KiB at most: of a longer one, what and when is kept."""
    text = json.dumps(entry, default=str).encode()
    if len(text) >= _LINE:
        short = {name: str(entry[name])[:200] for name in ("event", "name", "level")}
        text = json.dumps({"at": entry["at"], **short, "cut": True}).encode()
    return text + b"\n"


def read_history(path: str | Path) -> list[dict[str, Any]]:
    """The events in the files of *path*, oldest first; without lines that a crash has cut off."""
    path = Path(path)
    rotated = sorted(
        (file for file in path.parent.glob(f"{path.name}.*") if file.suffix[1:].isdecimal()),
        key=lambda file: -int(file.suffix[1:]),
    )
    events = []
    for file in [*rotated, path]:
        if not file.exists():
            continue
        for text in file.read_bytes().splitlines():
            try:
                event = json.loads(text)
            except ValueError:
                continue
            if isinstance(event, dict):
                events.append(event)
    return events
