"""Answers that may be given again: kept in this process, and, where there is one, in a Redis that companions share."""

from __future__ import annotations

import json
from collections.abc import MutableMapping
from dataclasses import asdict
from typing import Any

import cachetools

from companion._llm import Answer
from companion._tuning import Tuning
from llmvitals import TieredCache, Vitals

__all__ = ["Responses"]

_MOST = 1000
# What another companion wrote anew is seen after this.
_LOCAL_SECONDS = 30.0
# What a reader would notice is longer than this.
_REDIS_SECONDS = 0.1


class Responses:
    """Each is kept for as long as the tunable said when it was put. Lives on one loop."""

    def __init__(self, vitals: Vitals, tuning: Tuning, redis_url: str | None) -> None:
        self._tuning = tuning
        self._redis: Any = None
        self._shared: TieredCache[Answer] | None = None
        self._own: MutableMapping[str, Answer] = {}
        if redis_url is None:
            cache: cachetools.TLRUCache[str, Answer] = cachetools.TLRUCache(
                _MOST, ttu=lambda _key, _value, now: now + tuning.response_cache_ttl_seconds
            )
            self._own = vitals.cache("responses", cache)
            return
        import redis.asyncio  # noqa: PLC0415 -- installed by who wants it

        self._redis = redis.asyncio.from_url(redis_url, socket_timeout=1, socket_connect_timeout=1)
        self._shared = vitals.tiered_cache(
            "responses",
            self._redis,
            max_entries=_MOST,
            local_ttl_seconds=_LOCAL_SECONDS,
            timeout_seconds=_REDIS_SECONDS,
            encode=lambda answer: json.dumps(asdict(answer)),
            decode=lambda text: Answer(**json.loads(text)),
        )

    async def get(self, key: str) -> Answer | None:
        if self._shared is None:
            return self._own.get(key)
        answer: Answer | None = await self._shared.aget(key)
        return answer

    async def put(self, key: str, answer: Answer) -> None:
        if self._shared is None:
            self._own[key] = answer
        else:
            await self._shared.aset(key, answer, ttl_seconds=self._tuning.response_cache_ttl_seconds)

    def __contains__(self, key: str) -> bool:
        """Whether this process has it; counts neither a hit nor a miss."""
        return key in (self._own if self._shared is None else self._shared)

    async def close(self) -> None:
        if self._redis is not None:
            await self._redis.aclose()
