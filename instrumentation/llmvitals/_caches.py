import threading
from collections.abc import Callable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from llmvitals import _work_families as families
from llmvitals import catalogue
from llmvitals._recording import Recorder
from llmvitals._sizes import size_of_entries

if TYPE_CHECKING:
    from llmvitals._tiers import TieredCache

Key = TypeVar("Key")
Value = TypeVar("Value")

_MISSING: Any = object()


class Cache(MutableMapping[Key, Value]):
    """A cache of `cachetools`, or any mutable mapping, seen from outside: same entries, counted and thread-safe.

    Use this view in place of the cache; what is done to the cache behind it is not counted. `get` and `[]` count as
    look-ups, `in` and `pop` do not. An entry that leaves because the cache is full counts as evicted by size, one whose
    time is over by ttl, one that `clear` removes as cleared.
    """

    def __init__(self, recorder: Recorder, name: str, cache: MutableMapping[Key, Value]) -> None:
        self.name = name
        self._cache = cache
        self._lock = threading.RLock()
        self._hits = self._misses = 0
        self._expire = cast("Callable[[], Any] | None", getattr(cache, "expire", None))
        self._hit = recorder.child(catalogue.CACHE_REQUESTS, name, "hit")
        self._miss = recorder.child(catalogue.CACHE_REQUESTS, name, "miss")
        self._error = recorder.child(catalogue.CACHE_REQUESTS, name, "error")
        self._evicted = {
            reason: recorder.child(catalogue.CACHE_EVICTIONS, name, reason) for reason in ("size", "ttl", "cleared")
        }
        recorder.read_at_scrape(catalogue.CACHE_ENTRIES, name, read=self._live_entries)
        self._entries = _entries_of(cache)
        if self._entries is not None:
            recorder.read_at_scrape(families.CACHE_BYTES, name, read=self._bytes)
        maxsize = getattr(cache, "maxsize", None)
        # With a getsizeof of the application's own, maxsize counts something else than entries.
        if maxsize is not None and "getsizeof" not in vars(cache):
            recorder.read_at_scrape(catalogue.CACHE_MAX_ENTRIES, name, read=lambda: self.maxsize or 0)

    @property
    def maxsize(self) -> float | None:
        """The limit of the cache behind, in its own measure (entries, mostly); None when it has none."""
        return cast("float | None", getattr(self._cache, "maxsize", None))

    @property
    def currsize(self) -> float:
        """How much of `maxsize` is taken."""
        return cast("float", getattr(self._cache, "currsize", len(self._cache)))

    def __getitem__(self, key: Key) -> Value:
        with self._lock:
            try:
                value = self._cache[key]
            except KeyError:
                self._drop_expired()
                self._misses += 1
                self._miss.inc()
                raise
            except Exception:
                self._error.inc()
                raise
            self._hits += 1
        self._hit.inc()
        return value

    def __setitem__(self, key: Key, value: Value) -> None:
        with self._lock:
            self._drop_expired()
            before = len(self._cache) + (key not in self._cache)
            # The cache may refuse the value (too large for it) after it has made room.
            try:
                self._cache[key] = value
            finally:
                gone = before - len(self._cache) - (key not in self._cache)
                if gone > 0:
                    self._evicted["size"].inc(gone)

    def __delitem__(self, key: Key) -> None:
        with self._lock:
            del self._cache[key]

    def __contains__(self, key: object) -> bool:
        with self._lock:
            return key in self._cache

    def __iter__(self) -> Iterator[Key]:
        """The keys of now: a copy, because others go on using the cache."""
        with self._lock:
            return iter(list(self._cache))

    def __len__(self) -> int:
        with self._lock:
            self._drop_expired()
            return len(self._cache)

    def __bool__(self) -> bool:
        """An empty cache is a cache still: `if cache` asks whether there is one."""
        return True

    def pop(self, key: Key, default: Any = _MISSING) -> Any:
        with self._lock:
            if key not in self._cache:
                if default is _MISSING:
                    raise KeyError(key)
                return default
            return self._cache.pop(key)

    def popitem(self) -> tuple[Key, Value]:
        with self._lock:
            return self._cache.popitem()

    def clear(self) -> None:
        """Remove every entry."""
        self.drop()

    def drop(self) -> int:
        """Remove every entry; how many there were."""
        with self._lock:
            self._drop_expired()
            entries = len(self._cache)
            self._cache.clear()
        self._evicted["cleared"].inc(entries)
        return entries

    def expire(self) -> int:
        """Remove the entries whose time is over, where the cache knows of time; how many."""
        with self._lock:
            return self._drop_expired()

    def summary(self) -> dict[str, Any]:
        """Its entries, how many it may have, its look-ups so far and the share of them that hit; None before any."""
        with self._lock:
            hits, misses = self._hits, self._misses
        return {
            "entries": len(self),
            "max_entries": self.maxsize,
            "hits": hits,
            "misses": misses,
            "hit_ratio": round(hits / (hits + misses), 4) if hits + misses else None,
        }

    def __repr__(self) -> str:
        # Not the entries: what users said does not belong in a log.
        return f"<Cache {self.name!r} of {type(self._cache).__name__}>"

    def _live_entries(self) -> int:
        # A scrape does not wait for a cache whose own code hangs; it shows what can be seen without the lock.
        if not self._lock.acquire(timeout=1.0):
            return len(self._cache)
        try:
            self._drop_expired()
            return len(self._cache)
        finally:
            self._lock.release()

    def _bytes(self) -> float:
        if not self._entries or not self._lock.acquire(timeout=1.0):
            return 0.0
        try:
            return size_of_entries(self._entries)
        finally:
            self._lock.release()

    def _drop_expired(self) -> int:
        expired = self._expire() if self._expire is not None else None
        if not expired:
            return 0
        self._evicted["ttl"].inc(len(expired))
        return len(expired)


def _entries_of(cache: Any) -> dict[Any, Any] | None:
    """The dictionary in which *cache* keeps its entries, to be looked at without counting as use; None for none."""
    entries = cache if isinstance(cache, dict) else getattr(cache, "_Cache__data", None)
    return entries if isinstance(entries, dict) else None


class Caches:
    """The caches that an application has named. Thread-safe."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._caches: dict[str, Cache[Any, Any] | TieredCache[Any]] = {}
        self._lock = threading.Lock()

    def wrap(self, name: str, cache: MutableMapping[Key, Value]) -> Cache[Key, Value]:
        """The view of *cache* to be used from now on. Raises ValueError for a name that is taken."""
        with self._lock:
            if name in self._caches:
                raise ValueError(f"cache {name!r} is registered already")
            view = self._caches[name] = Cache(self._recorder, name, cache)
        return view

    def tiered(self, name: str, redis: Any, **settings: Any) -> "TieredCache[Any]":
        """A cache of this process in front of *redis*. Raises ValueError for a name that is taken."""
        from llmvitals._tiers import TieredCache  # noqa: PLC0415 -- most applications have no Redis

        with self._lock:
            if name in self._caches:
                raise ValueError(f"cache {name!r} is registered already")
            cache = self._caches[name] = TieredCache(self._recorder, name, redis, **settings)
        return cache

    def expire(self) -> int:
        """Remove what has expired from them all; how many entries."""
        with self._lock:
            caches = list(self._caches.values())
        return sum(cache.expire() for cache in caches)

    def drop(self) -> dict[str, int]:
        """Empty them all; how many entries each had. All are tried; then the first error is raised."""
        with self._lock:
            caches = list(self._caches.values())
        dropped: dict[str, int] = {}
        faults: list[Exception] = []
        for cache in caches:
            try:
                dropped[cache.name] = cache.drop()
            except Exception as error:  # noqa: BLE001 -- a mapping of the application's; the others still have their turn
                error.add_note(f"while dropping cache {cache.name!r}; dropped were {dropped}")
                faults.append(error)
        if faults:
            raise faults[0]
        return dropped

    def summary(self) -> dict[str, Any]:
        with self._lock:
            caches = list(self._caches.values())
        return {cache.name: cache.summary() for cache in caches}

    def __len__(self) -> int:
        with self._lock:
            return len(self._caches)
