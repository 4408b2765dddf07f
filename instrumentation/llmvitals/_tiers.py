"""A cache in two tiers: one in this process, and behind it Redis, which others share and which may be away."""

import asyncio
import inspect
import json
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, Generic, Literal, TypeVar, cast

from llmvitals import _work_families as families
from llmvitals import catalogue
from llmvitals._local_cache import LocalCache
from llmvitals._off_thread import OffThread
from llmvitals._recording import Recorder, error_type
from llmvitals._telling import Tell, tell_nobody

log = logging.getLogger("llmvitals")

Value = TypeVar("Value")
Reason = Literal["error", "timeout", "away", "busy"]

# What was written while Redis was away is older there than here; so many keys are remembered, to be deleted there.
_OWED = 10_000


class TieredCache(Generic[Value]):
    """Answers from this process' memory, else from Redis, and goes on alone while Redis is away. Made by
    `Vitals.tiered_cache`.

    Nothing that Redis does reaches the application: no error, and no wait of more than *timeout_seconds*. Once it has
    failed it is not asked for *retry_seconds*, then by one caller; the rest does not wait. What is written meanwhile is
    kept here, and deleted there when it is back, because it is out of date there.

    `get`, `set` and `delete` need a sync client; `aget`, `aset` and `adelete` take either. Keys are text. Values are
    what *encode* makes bytes or text of, by default JSON; what another process writes is seen when ours has expired.
    """

    def __init__(
        self,
        recorder: Recorder,
        name: str,
        redis: Any,
        *,
        max_entries: int = 1000,
        ttl_seconds: float = 300.0,
        local_ttl_seconds: float | None = None,
        timeout_seconds: float = 0.1,
        retry_seconds: float = 5.0,
        encode: Callable[[Value], bytes | str] = json.dumps,
        decode: Callable[[bytes], Value] = json.loads,
        tell: Tell = tell_nobody,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if max_entries < 1 or not min(ttl_seconds, local_ttl_seconds or ttl_seconds, timeout_seconds) > 0:
            raise ValueError(f"of cache {name!r}, max_entries must be at least 1, and its durations above 0")
        self.name = name
        self.ttl_seconds = ttl_seconds
        self.local_ttl_seconds = ttl_seconds if local_ttl_seconds is None else local_ttl_seconds
        self._redis = redis
        self._async = inspect.iscoroutinefunction(getattr(redis, "execute_command", None))
        self._timeout = timeout_seconds
        self._retry = retry_seconds
        self._encode, self._decode = encode, decode
        self._recorder = recorder
        self._tell = tell
        self._clock = clock
        self._threads = OffThread(f"cache-{name}")
        self._local: LocalCache[Value] = LocalCache(recorder, name, max_entries=max_entries, clock=clock)
        self._lock = threading.Lock()
        # Until when Redis is not asked; None while it is there.
        self._away_until: float | None = None
        self._owed: dict[str, None] = {}
        self._hits = self._misses = self._fallbacks = 0
        for tier in ("local", "redis"):
            for result in ("hit", "miss"):
                recorder.child(families.CACHE_TIER_REQUESTS, name, tier, result)
        for result in ("hit", "miss"):
            recorder.child(catalogue.CACHE_REQUESTS, name, result)
        for reason in ("error", "timeout", "away", "busy"):
            recorder.child(families.CACHE_FALLBACKS, name, reason)
        recorder.read_at_scrape(families.CACHE_TIER_UP, name, "redis", read=lambda: self._away_until is None)

    # --- on threads ---------------------------------------------------------------------------------------------------

    def get(self, key: str, default: Any = None) -> Any:
        """The value of *key*, or *default*."""
        self._refuse_async("get")
        found, value = self._look_here(key)
        if not found and self._may_ask():
            found, value = self._arrived(key, self._ask(self._fetching(key)))
        self._count(found=found)
        return value if found else default

    def set(self, key: str, value: Value, *, ttl_seconds: float | None = None) -> None:
        """Keep *value* in both tiers, for *ttl_seconds* or as long as all. Raises what *encode* raises."""
        self._refuse_async("set")
        self._write(key, self._writing(key, value, ttl_seconds))

    def delete(self, key: str) -> None:
        """Remove *key* from both tiers."""
        self._refuse_async("delete")
        self._write(key, self._deleting(key))

    # --- on event loops -----------------------------------------------------------------------------------------------

    async def aget(self, key: str, default: Any = None) -> Any:
        """Like `get`."""
        found, value = self._look_here(key)
        if not found and self._may_ask():
            found, value = self._arrived(key, await self._aask(self._fetching(key)))
        self._count(found=found)
        return value if found else default

    async def aset(self, key: str, value: Value, *, ttl_seconds: float | None = None) -> None:
        """Like `set`."""
        await self._awrite(key, self._writing(key, value, ttl_seconds))

    async def adelete(self, key: str) -> None:
        """Like `delete`."""
        await self._awrite(key, self._deleting(key))

    # --- one look -----------------------------------------------------------------------------------------------------

    @property
    def redis_is_up(self) -> bool:
        """Whether Redis answered the last time that it was asked."""
        return self._away_until is None

    def __contains__(self, key: str) -> bool:
        """Whether this process' tier has *key* now; it counts as no look-up."""
        return self._local.has(key)

    def drop(self) -> int:
        """Empty this process' tier; how many entries it had. Redis keeps its own."""
        return self._local.drop()

    def expire(self) -> int:
        """Remove from this process' tier what has expired; how many entries. Redis does so by itself."""
        return self._local.expire()

    def summary(self) -> dict[str, Any]:
        """Entries here, look-ups so far, the share that any tier answered, and how often it did without Redis."""
        with self._lock:
            hits, misses, fallbacks = self._hits, self._misses, self._fallbacks
        return {
            "entries": len(self._local),
            "max_entries": self._local.max_entries,
            "hits": hits,
            "misses": misses,
            "hit_ratio": round(hits / (hits + misses), 4) if hits + misses else None,
            "redis_is_up": self.redis_is_up,
            "fallbacks": fallbacks,
        }

    def __repr__(self) -> str:
        return f"<TieredCache {self.name!r}>"

    # --- what goes to Redis, and what comes back ----------------------------------------------------------------------

    def _place(self, key: str) -> str:
        return f"{self.name}:{key}"

    def _fetching(self, key: str) -> Callable[[], Any]:
        place = self._place(key)
        return lambda: self._send(lambda pipeline: pipeline.get(place).pttl(place))

    def _writing(self, key: str, value: Value, ttl_seconds: float | None) -> Callable[[], Any]:
        encoded, place = self._encode(value), self._place(key)
        ttl = self.ttl_seconds if ttl_seconds is None else ttl_seconds
        self._local.put(key, value, min(ttl, self.local_ttl_seconds))
        milliseconds = max(round(ttl * 1000), 1)
        return lambda: self._send(lambda pipeline: pipeline.set(place, encoded, px=milliseconds))

    def _deleting(self, key: str) -> Callable[[], Any]:
        self._local.delete(key)
        place = self._place(key)
        return lambda: self._send(lambda pipeline: pipeline.delete(place))

    def _send(self, add: Callable[[Any], object]) -> Any:
        """One round trip, which begins with what is owed; of an async client, an awaitable."""
        with self._lock:
            owed = list(self._owed)
        pipeline = self._redis.pipeline(transaction=False)
        if owed:
            pipeline.delete(*map(self._place, owed))
        add(pipeline)
        answers = pipeline.execute()
        return self._received(answers, owed) if inspect.isawaitable(answers) else self._paid(answers, owed)

    async def _received(self, answers: Awaitable[Any], owed: list[str]) -> Any:
        return self._paid(await answers, owed)

    def _paid(self, answers: Any, owed: list[str]) -> Any:
        with self._lock:
            for key in owed:
                self._owed.pop(key, None)
        return answers[1:] if owed else answers

    def _look_here(self, key: str) -> tuple[bool, Any]:
        found, value = self._local.get(key)
        self._recorder.child(families.CACHE_TIER_REQUESTS, self.name, "local", "hit" if found else "miss").inc()
        return found, value

    def _arrived(self, key: str, answer: Any) -> tuple[bool, Any]:
        if answer is None:
            return False, None
        encoded, milliseconds = answer
        if encoded is None:
            self._count_redis("miss")
            return False, None
        try:
            value = self._decode(encoded)
        except Exception as error:  # noqa: BLE001 -- somebody else wrote there; it is as good as nothing
            self._count_redis("error")
            log.debug("llmvitals: cache %s has what cannot be decoded: %s", self.name, type(error).__name__)
            return False, None
        self._count_redis("hit")
        left = milliseconds / 1000 if milliseconds > 0 else self.local_ttl_seconds
        self._local.put(key, value, min(left, self.local_ttl_seconds))
        return True, value

    def _count_redis(self, result: Literal["hit", "miss", "error"]) -> None:
        self._recorder.child(families.CACHE_TIER_REQUESTS, self.name, "redis", result).inc()

    # --- asking, and not asking ---------------------------------------------------------------------------------------

    def _write(self, key: str, send: Callable[[], Any]) -> None:
        if not self._may_ask() or self._ask(send) is None:
            self._owe(key)

    async def _awrite(self, key: str, send: Callable[[], Any]) -> None:
        sent = False
        try:
            sent = self._may_ask() and await self._aask(send) is not None
        finally:  # It may have been cancelled.
            if not sent:
                self._owe(key)

    def _ask(self, send: Callable[[], Any]) -> Any:
        """What Redis answers; None when it does not."""
        answer = self._threads.submit(send)
        if answer is None:
            return self._fell_back("busy", None)
        try:
            result = answer.result(self._timeout)
        except Exception as error:  # noqa: BLE001 -- the promise of this class
            return self._fell_back("error" if answer.done() else "timeout", error)
        self._is_there()
        return result

    async def _aask(self, send: Callable[[], Any]) -> Any:
        limit = asyncio.timeout(self._timeout)
        try:
            async with limit:
                if self._async:
                    result = await cast("Awaitable[Any]", send())
                else:
                    answer = self._threads.submit(send)
                    if answer is None:
                        return self._fell_back("busy", None)
                    result = await asyncio.wrap_future(answer)
        except Exception as error:  # noqa: BLE001 -- the promise of this class
            return self._fell_back("timeout" if limit.expired() else "error", error)
        except asyncio.CancelledError:
            with self._lock:
                if self._away_until is not None:
                    # It was the one who looks whether Redis is back: let another one look.
                    self._away_until = self._clock()
            raise
        self._is_there()
        return result

    def _may_ask(self) -> bool:
        with self._lock:
            if self._away_until is None:
                return True
            now = self._clock()
            if now >= self._away_until:
                # This caller looks whether it is back; meanwhile nobody else waits for it.
                self._away_until = now + max(self._retry, self._timeout)
                return True
            self._fallbacks += 1
        self._recorder.child(families.CACHE_FALLBACKS, self.name, "away").inc()
        return False

    def _fell_back(self, reason: Reason, error: Exception | None) -> None:
        with self._lock:
            self._fallbacks += 1
            # One that refuses a command is there.
            gone = error is not None and not any(kind.__name__ == "ResponseError" for kind in type(error).__mro__)
            news = gone and self._away_until is None
            if gone:
                self._away_until = self._clock() + self._retry
            elif reason == "busy" and self._away_until is not None:
                # It did not get to look whether Redis is back: let the next one look.
                self._away_until = self._clock()
        self._recorder.child(families.CACHE_FALLBACKS, self.name, reason).inc()
        if news:
            kind = error_type(error)
            self._tell("cache_tier", self.name, level="warning", tier="redis", up=False, error=kind)
            log.warning("llmvitals: cache %s goes on without redis (%s: %s)", self.name, kind, error)

    def _is_there(self) -> None:
        with self._lock:
            if self._away_until is None:
                return
            self._away_until = None
        self._tell("cache_tier", self.name, level="info", tier="redis", up=True)
        log.info("llmvitals: cache %s has redis again", self.name)

    def _owe(self, key: str) -> None:
        with self._lock:
            self._owed[key] = None
            if len(self._owed) > _OWED:
                # Its own time will end it.
                del self._owed[next(iter(self._owed))]

    def _count(self, *, found: bool) -> None:
        with self._lock:
            self._hits += found
            self._misses += not found
        self._recorder.child(catalogue.CACHE_REQUESTS, self.name, "hit" if found else "miss").inc()

    def _refuse_async(self, method: str) -> None:
        if self._async:
            raise TypeError(f"cache {self.name!r} has an async client of redis: use `await cache.a{method}(...)`")
