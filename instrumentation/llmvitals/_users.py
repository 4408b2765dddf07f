import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, Literal, TypeVar, get_args

from llmvitals import catalogue
from llmvitals._recording import Recorder

log = logging.getLogger("llmvitals")

Profile = TypeVar("Profile")
Reason = Literal["idle", "oldest", "explicit"]


class Users(Generic[Profile]):
    """The user profiles that an application holds, so that their number is seen and kept in hand. Thread-safe.

    A profile is *idle* when nobody asked for it for *idle_seconds*; the *oldest* is the one not asked for the longest.
    With *enforce*, a new profile first drives out the idle ones, then the oldest, until no more than *max_active* are
    left. Without, the limit is only shown, and somebody else acts. *on_evict*(user id, profile) is called for each one
    evicted, outside of every lock. A user id is never shown in a metric or a log.
    """

    def __init__(
        self,
        recorder: Recorder,
        *,
        max_active: int = 10,
        idle_seconds: float = 86_400,
        enforce: bool = True,
        on_evict: Callable[[str, Profile], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if max_active < 1 or idle_seconds <= 0:
            raise ValueError(
                f"max_active must be at least 1 and idle_seconds above 0, not {max_active}, {idle_seconds}"
            )
        self.max_active = max_active
        self.idle_seconds = idle_seconds
        self._recorder = recorder
        self._enforce = enforce
        self._on_evict = on_evict
        self._clock = clock
        # The longest unused first.
        self._entries: OrderedDict[str, _Entry[Profile]] = OrderedDict()
        self._creating: dict[str, _Creation] = {}
        self._lock = threading.Lock()
        recorder.child(catalogue.USER_PROFILES_LIMIT).set(max_active)
        recorder.child(catalogue.USER_PROFILES_ACTIVE).set(0)
        # From zero on: what a counter is born with, no rate can see.
        recorder.child(catalogue.USER_PROFILES_CREATED)
        for reason in get_args(Reason):
            recorder.child(catalogue.USER_PROFILES_EVICTED, reason)

    def get_or_create(self, user_id: str, factory: Callable[[], Profile]) -> Profile:
        """The user's profile. *factory* makes a missing one, once, even when several threads ask at the same time; what
        it raises, the caller gets.
        """
        while True:
            with self._lock:
                entry = self._use(user_id)
                if entry is not None:
                    return entry.profile
                creation = self._creating.get(user_id)
                if creation is None:
                    creation = self._creating[user_id] = _Creation()
                    break
            if creation.thread == threading.get_ident():
                raise RuntimeError("the factory of a user's profile asked for the same user's profile")
            creation.done.wait()
        try:
            profile = factory()
            with self._lock:
                self._entries[user_id] = _Entry(profile, self._clock())
                evicted = self._over_limit(spare=user_id) if self._enforce else []
                self._show()
        finally:
            with self._lock:
                del self._creating[user_id]
            creation.done.set()
        self._recorder.child(catalogue.USER_PROFILES_CREATED).inc()
        self._evicted(evicted)
        return profile

    def get(self, user_id: str) -> Profile | None:
        """The profile, if there is one. Asking for it counts as use."""
        with self._lock:
            entry = self._use(user_id)
        return None if entry is None else entry.profile

    def evict_idle(self, older_than_seconds: float | None = None) -> int:
        """Evict the profiles idle for longer than that (than `idle_seconds` by default); how many."""
        with self._lock:
            evicted = self._idle(self.idle_seconds if older_than_seconds is None else older_than_seconds)
            self._show()
        return self._evicted(evicted)

    def evict_oldest(self, keep: int) -> int:
        """Evict the oldest until *keep* are left; how many."""
        with self._lock:
            evicted = self._oldest(max(keep, 0))
            self._show()
        return self._evicted(evicted)

    def evict_user(self, user_id: str) -> bool:
        """Evict one user's profile, as when they leave; whether there was one."""
        with self._lock:
            entry = self._entries.pop(user_id, None)
            self._show()
        return bool(self._evicted([] if entry is None else [(user_id, entry.profile, "explicit")]))

    def evict(self, *, older_than_seconds: float | None = None, keep: int | None = None) -> dict[str, int]:
        """What the verb `evict_users` does: the idle ones, then, where *keep* is given, the oldest down to it."""
        idle = self.evict_idle(older_than_seconds)
        oldest = 0 if keep is None else self.evict_oldest(keep)
        return {"evicted_idle": idle, "evicted_oldest": oldest, "left": len(self)}

    def summary(self) -> dict[str, Any]:
        """How many there are, how many are wanted, and how many of them are idle."""
        with self._lock:
            limit = self._clock() - self.idle_seconds
            idle = sum(entry.used_at < limit for entry in self._entries.values())
            return {"active": len(self._entries), "limit": self.max_active, "idle": idle}

    def __len__(self) -> int:
        with self._lock:
            return len(self._entries)

    def __bool__(self) -> bool:
        """A registry without users is a registry still."""
        return True

    # --- under the lock -----------------------------------------------------------------------------------------------

    def _use(self, user_id: str) -> "_Entry[Profile] | None":
        entry = self._entries.get(user_id)
        if entry is not None:
            entry.used_at = self._clock()
            self._entries.move_to_end(user_id)
        return entry

    def _idle(self, seconds: float, *, spare: str | None = None) -> "list[tuple[str, Profile, Reason]]":
        limit = self._clock() - seconds
        evicted: list[tuple[str, Profile, Reason]] = []
        while self._entries:
            user_id, entry = next(iter(self._entries.items()))
            if entry.used_at >= limit or user_id == spare:
                break
            del self._entries[user_id]
            evicted.append((user_id, entry.profile, "idle"))
        return evicted

    def _oldest(self, keep: int) -> "list[tuple[str, Profile, Reason]]":
        evicted: list[tuple[str, Profile, Reason]] = []
        while len(self._entries) > keep:
            user_id, entry = self._entries.popitem(last=False)
            evicted.append((user_id, entry.profile, "oldest"))
        return evicted

    def _over_limit(self, *, spare: str) -> "list[tuple[str, Profile, Reason]]":
        if len(self._entries) <= self.max_active:
            return []
        return self._idle(self.idle_seconds, spare=spare) + self._oldest(self.max_active)

    def _show(self) -> None:
        self._recorder.child(catalogue.USER_PROFILES_ACTIVE).set(len(self._entries))

    # --- outside of it ------------------------------------------------------------------------------------------------

    def _evicted(self, evicted: "list[tuple[str, Profile, Reason]]") -> int:
        for user_id, profile, reason in evicted:
            self._recorder.child(catalogue.USER_PROFILES_EVICTED, reason).inc()
            if self._on_evict is not None:
                with self._recorder.guard("users"):
                    self._on_evict(user_id, profile)
        if evicted:
            log.info("llmvitals: evicted %d user profiles", len(evicted))
        return len(evicted)


class _Entry(Generic[Profile]):
    __slots__ = ("profile", "used_at")

    def __init__(self, profile: Profile, used_at: float) -> None:
        self.profile = profile
        self.used_at = used_at


class _Creation:
    """A profile that is being made: others who want it wait for `done`."""

    __slots__ = ("done", "thread")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.thread = threading.get_ident()
