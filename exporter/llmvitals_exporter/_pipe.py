"""What a child process writes, read for no longer than one likes to wait."""

import os
import queue
import selectors
import threading
from contextlib import suppress
from typing import IO

from llmvitals_exporter._portable import on_windows

_CHUNK = 1 << 16


class Pipe:
    """The output of a child, where a selector can tell that there is some."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        os.set_blocking(file.fileno(), False)

    def read(self, seconds: float) -> bytes | None:
        """What there is, as soon as there is something; empty at the end, None when the time is over."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._file, selectors.EVENT_READ)
            return self._file.read(_CHUNK) if selector.select(seconds) else None

    def close(self) -> None:
        self._file.close()


class ThreadedPipe:
    """The same where only sockets can be selected, on Windows: a thread waits.

    Elsewhere it would stay behind with each child that the kernel holds; there a child that is killed closes its pipe.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._closed = False
        #: One at a time, so that a child which never stops is not read faster than it is heard.
        self._chunks = queue.Queue[bytes](maxsize=1)
        threading.Thread(target=self._read_all, name="pipe", daemon=True).start()

    def read(self, seconds: float) -> bytes | None:
        try:
            return self._chunks.get(timeout=max(0.0, seconds))
        except queue.Empty:
            return None

    def close(self) -> None:
        """Let the thread end; it closes the file, whose number might be another's if it were closed meanwhile."""
        self._closed = True
        with suppress(queue.Empty):
            self._chunks.get_nowait()

    def _read_all(self) -> None:
        with self._file:
            chunk = b"..."
            while chunk and not self._closed:
                try:
                    chunk = os.read(self._file.fileno(), _CHUNK)
                except OSError:  # Broken, which is how it ends there.
                    chunk = b""
                self._chunks.put(chunk)


def pipe(file: IO[bytes]) -> Pipe | ThreadedPipe:
    """The one that works here."""
    return ThreadedPipe(file) if on_windows() else Pipe(file)
