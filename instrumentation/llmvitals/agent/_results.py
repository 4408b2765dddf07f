import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

from llmvitals.agent._protocol import Result

KEPT = 256
_LONGEST_RETRY_SECONDS = 30.0


@dataclass(slots=True)
class _Entry:
    # None while the attempt waits or runs.
    result: Result | None = None
    acknowledged: bool = False
    tries: int = 0
    next_try: float = 0.0


class Results:
    """What became of each attempt, by its id, so that none is made twice; and which results still must be told.

    The last 256 are kept. An attempt that waits, runs, or was not acknowledged yet is never the one to be dropped.
    """

    def __init__(self, *, kept: int = KEPT) -> None:
        self._kept = kept
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, attempt_id: str) -> Literal["new", "under way", "known"]:
        """Claim an attempt, unless it was seen before: then it waits or runs, or its result is told again."""
        with self._lock:
            entry = self._entries.get(attempt_id)
            if entry is None:
                self._entries[attempt_id] = _Entry()
                self._trim()
                return "new"
            if entry.result is None:
                return "under way"
            entry.acknowledged, entry.next_try = False, 0.0
            return "known"

    def finish(self, result: Result) -> None:
        with self._lock:
            entry = self._entries.setdefault(result.attempt_id, _Entry())
            entry.result = result

    def get(self, attempt_id: str) -> Result | None:
        with self._lock:
            entry = self._entries.get(attempt_id)
            return None if entry is None else entry.result

    def to_tell(self, now: float) -> list[Result]:
        """Results that are not acknowledged and whose next try is due at monotonic time *now*, oldest first."""
        with self._lock:
            return [
                entry.result
                for entry in self._entries.values()
                if entry.result is not None and not entry.acknowledged and entry.next_try <= now
            ]

    def next_try(self) -> float | None:
        """The monotonic time at which `to_tell` has something, or None when all is told."""
        with self._lock:
            return min(
                (entry.next_try for entry in self._entries.values() if entry.result and not entry.acknowledged),
                default=None,
            )

    def acknowledge(self, attempt_id: str) -> None:
        with self._lock:
            entry = self._entries.get(attempt_id)
            if entry is not None:
                entry.acknowledged, entry.tries = True, 0
            self._trim()

    def postpone(self, attempt_id: str, now: float) -> None:
        """Telling it failed at *now*: try again later, ever less often, at least every 30 s."""
        with self._lock:
            entry = self._entries.get(attempt_id)
            if entry is not None:
                entry.tries += 1
                entry.next_try = now + min(2.0 ** (entry.tries - 1), _LONGEST_RETRY_SECONDS)

    def __len__(self) -> int:
        with self._lock:
            return len(self._entries)

    def _trim(self) -> None:
        if len(self._entries) <= self._kept:
            return
        settled = [key for key, entry in self._entries.items() if entry.result is not None and entry.acknowledged]
        for key in settled[: len(self._entries) - self._kept]:
            del self._entries[key]
