"""Time, injected: everything that waits or stamps takes a `Clock`."""

import threading
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Wall clock, unix seconds: for what is stored and shown."""

    def monotonic(self) -> float:
        """Seconds that never jump: for waits within one process."""


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that moves when told to. For tests."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self._lock = threading.Lock()
        self._now = now

    def now(self) -> float:
        with self._lock:
            return self._now

    def monotonic(self) -> float:
        return self.now()

    def advance(self, seconds: float) -> None:
        """Move both clocks by *seconds*."""
        with self._lock:
            self._now += seconds


def iso(at: float | None) -> str | None:
    """Unix seconds as ISO 8601 in UTC with milliseconds; None stays None."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_iso(text: str) -> float:
    """RFC 3339, with a fraction of any length, as unix seconds cut to milliseconds.

    Alertmanager writes nanoseconds into a webhook and milliseconds into its API for the same moment; cut to
    milliseconds they compare equal.

    Raises:
        ValueError: not a time with an offset.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no offset from UTC")
    moment = moment.astimezone(UTC)
    whole = moment.replace(microsecond=0)
    return (int(whole.timestamp()) * 1000 + moment.microsecond // 1000) / 1000
