import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, Literal, TypeVar

from llmvitals import _work_families as families
from llmvitals import catalogue
from llmvitals._recording import Recorder
from llmvitals._sizes import size_of_entries

Value = TypeVar("Value")


class LocalCache(Generic[Value]):
    """At most *max_entries*, each with a time of its own; the one that was asked for last stays longest. Thread-safe.

    Its look-ups are counted by whoever asks.
    """

    def __init__(self, recorder: Recorder, name: str, *, max_entries: int, clock: Callable[[], float]) -> None:
        self.max_entries = max_entries
        self._clock = clock
        self._entries: OrderedDict[str, tuple[float, Value]] = OrderedDict()
        self._lock = threading.Lock()
        self._evicted = {
            reason: recorder.child(catalogue.CACHE_EVICTIONS, name, reason) for reason in ("size", "ttl", "cleared")
        }
        recorder.child(catalogue.CACHE_MAX_ENTRIES, name).set(max_entries)
        recorder.read_at_scrape(catalogue.CACHE_ENTRIES, name, read=self.__len__)
        recorder.read_at_scrape(families.CACHE_BYTES, name, read=self._bytes)

    def get(self, key: str) -> tuple[bool, Any]:
        """Whether it is there, and its value."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return False, None
            if entry[0] <= self._clock():
                del self._entries[key]
                self._evict("ttl")
                return False, None
            self._entries.move_to_end(key)
            return True, entry[1]

    def has(self, key: str) -> bool:
        """Whether it is there; it is not moved for that."""
        with self._lock:
            entry = self._entries.get(key)
            return entry is not None and entry[0] > self._clock()

    def put(self, key: str, value: Value, seconds: float) -> None:
        with self._lock:
            self._entries[key] = (self._clock() + seconds, value)
            self._entries.move_to_end(key)
            if len(self._entries) > self.max_entries:
                self._entries.popitem(last=False)
                self._evict("size")

    def delete(self, key: str) -> None:
        with self._lock:
            self._entries.pop(key, None)

    def drop(self) -> int:
        """Remove every entry; how many there were."""
        with self._lock:
            entries = len(self._entries)
            self._entries.clear()
        self._evict("cleared", entries)
        return entries

    def expire(self) -> int:
        """Remove what has expired; how many."""
        with self._lock:
            now = self._clock()
            old = [key for key, (until, _) in self._entries.items() if until <= now]
            for key in old:
                del self._entries[key]
        self._evict("ttl", len(old))
        return len(old)

    def __len__(self) -> int:
        return len(self._entries)

    def _evict(self, reason: Literal["size", "ttl", "cleared"], entries: int = 1) -> None:
        self._evicted[reason].inc(entries)

    def _bytes(self) -> float:
        with self._lock:
            return size_of_entries(self._entries)
