"""The effect ledger: what was done to this process from outside, on disk before anybody is told that it was done."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

__all__ = ["EffectLedger"]


class EffectLedger:
    """
    An append-only file of JSON lines. Thread-safe.

    A line cut short by a crash is kept as it is and told apart when reading; the next one starts on a line of its own.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._file = path.open("ab")
        if self._file.tell() and path.read_bytes()[-1:] != b"\n":
            self._file.write(b"\n")

    def note(self, attempt_id: str, verb: str, boot_id: str) -> None:
        """Append one effect; returns when it is on disk."""
        line = json.dumps({"attempt_id": attempt_id, "verb": verb, "at": time.time(), "boot_id": boot_id})
        with self._lock:
            self._file.write(line.encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())

    def effects(self) -> list[dict[str, Any]]:
        """Everything noted so far, by this process and the ones before it; a torn line is {"torn": its text}."""
        effects: list[dict[str, Any]] = []
        for line in self._path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                effects.append(json.loads(line))
            except ValueError:
                if line:
                    effects.append({"torn": line})
        return effects

    def close(self) -> None:
        with self._lock:
            self._file.close()
