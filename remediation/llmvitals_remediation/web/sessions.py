"""Console sessions: in memory, bounded, expiring; and the brake on guessing the token."""

import hmac
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

SESSION_SECONDS = 8 * 3600.0
IDLE_SECONDS = 3600.0
_MAX_SESSIONS = 256
# Wrong tokens that one address may try in a minute.
_MAX_FAILURES = 10
_FAILURE_WINDOW_SECONDS = 60.0
_MAX_ADDRESSES = 1024


@dataclass(slots=True)
class Session:
    """One signed-in browser. `who` is what the audit log says of what it does."""

    key: str
    who: str
    csrf: str
    started: float  # monotonic
    used: float  # monotonic


class Sessions:
    """Signed-in browsers by cookie value. A restart of the service signs everybody out."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._sessions: dict[str, Session] = {}

    def start(self, who: str) -> Session:
        """A new session under a fresh key: a key from before the sign-in is never taken over."""
        now = self._monotonic()
        self._sessions = {key: session for key, session in self._sessions.items() if self._is_alive(session, now)}
        if len(self._sessions) >= _MAX_SESSIONS:
            del self._sessions[min(self._sessions, key=lambda key: self._sessions[key].used)]
        session = Session(secrets.token_urlsafe(32), who, secrets.token_urlsafe(32), started=now, used=now)
        self._sessions[session.key] = session
        return session

    def find(self, key: str | None) -> Session | None:
        """The living session of that cookie value, marked as used now."""
        session = self._sessions.get(key or "")
        now = self._monotonic()
        if session is None or not self._is_alive(session, now):
            return None
        session.used = now
        return session

    def end(self, session: Session) -> None:
        self._sessions.pop(session.key, None)

    @staticmethod
    def _is_alive(session: Session, now: float) -> bool:
        return now - session.started < SESSION_SECONDS and now - session.used < IDLE_SECONDS


class Brake:
    """Refuses more than ten wrong tokens a minute from one address."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._failures: dict[str, deque[float]] = {}

    def wait_seconds(self, address: str) -> float:
        """Seconds until *address* may try again; 0 when it may now."""
        failures = self._recent(address)
        if len(failures) < _MAX_FAILURES:
            return 0.0
        return failures[0] + _FAILURE_WINDOW_SECONDS - self._monotonic()

    def failed(self, address: str) -> None:
        if address not in self._failures and len(self._failures) >= _MAX_ADDRESSES:
            del self._failures[next(iter(self._failures))]
        self._failures.setdefault(address, deque(maxlen=_MAX_FAILURES)).append(self._monotonic())

    def _recent(self, address: str) -> deque[float]:
        failures = self._failures.get(address, deque())
        oldest = self._monotonic() - _FAILURE_WINDOW_SECONDS
        while failures and failures[0] <= oldest:
            failures.popleft()
        return failures


def same(given: str, expected: str) -> bool:
    """Whether two secrets are equal, in constant time; an empty one equals nothing."""
    return bool(expected) and hmac.compare_digest(given.encode(), expected.encode())
