"""How many requests a minute a provider takes, and what it says of that with each answer, as OpenAI does."""

from __future__ import annotations

import time
from collections.abc import Mapping

__all__ = ["Quota"]

_WINDOW_SECONDS = 60.0


class Quota:
    """Windows of a minute, one after the other; what was taken in one is forgotten with the next."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._taken = 0

    def take(self, most: int) -> float | None:
        """Take one of *most*; None, or, when there is none left, the seconds until there are."""
        self._turn_over()
        if self._taken >= most:
            return self._left_seconds
        self._taken += 1
        return None

    def headers(self, most: int) -> Mapping[str, str]:
        self._turn_over()
        return {
            "x-ratelimit-limit-requests": str(most),
            "x-ratelimit-remaining-requests": str(max(most - self._taken, 0)),
            "x-ratelimit-reset-requests": f"{self._left_seconds:.3f}s",
        }

    @property
    def _left_seconds(self) -> float:
        return max(self._began + _WINDOW_SECONDS - time.monotonic(), 0.001)

    def _turn_over(self) -> None:
        now = time.monotonic()
        if now - self._began >= _WINDOW_SECONDS:
            self._began, self._taken = now, 0
