"""Who may ask when: a steady rate with some room for a rush, a short queue behind it, and a refusal beyond."""

from __future__ import annotations

import asyncio
import math
import time

from companion._dials import Dials
from llmvitals import Vitals

__all__ = ["TooManyError", "Turns"]

_LONGEST_WAIT_SECONDS = 2.0


class TooManyError(Exception):
    """More was asked than may be. Trying again after `retry_after_seconds` may help."""

    def __init__(self, retry_after_seconds: float) -> None:
        super().__init__("too many requests at once, try again in a moment")
        self.retry_after_seconds = retry_after_seconds


class Turns:
    """
    A bucket of *burst* turns that fills again at *per_second*. Lives on one loop.

    A turn that is not there yet is taken ahead of time, and waited for: the bucket is then below nothing.
    """

    def __init__(self, vitals: Vitals, dials: Dials, *, per_second: float, burst: int) -> None:
        self._limit = vitals.limit("companion")
        self._dials = dials
        self._set_per_second = per_second
        self._burst = burst
        self._left = float(burst)
        self._at = time.monotonic()
        self._say()

    async def take(self) -> None:
        """Return when it is this one's turn, after two seconds at most. Raises TooManyError when that is not enough."""
        self._fill()
        wait = max(1 - self._left, 0.0) / self._per_second
        if wait > _LONGEST_WAIT_SECONDS:
            self._limit.rejected()
            raise TooManyError(math.ceil(wait - _LONGEST_WAIT_SECONDS))
        self._left -= 1
        self._say()
        if wait:
            with self._limit.queued():
                await asyncio.sleep(wait)

    @property
    def _per_second(self) -> float:
        return self._dials.turns_per_second or self._set_per_second

    def _fill(self) -> None:
        now = time.monotonic()
        self._left = min(self._left + (now - self._at) * self._per_second, float(self._burst))
        self._at = now

    def _say(self) -> None:
        missing = (self._burst - self._left) / self._per_second
        self._limit.headroom(max(self._left, 0.0), self._burst, reset_seconds=missing)
