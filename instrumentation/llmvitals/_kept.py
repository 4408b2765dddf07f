"""What an application says of the things that it keeps: caches, user profiles, pools."""

from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from llmvitals._caches import Cache, Caches
from llmvitals._history import History
from llmvitals._pools import Pool, Pools
from llmvitals._recording import Recorder
from llmvitals._users import Users

if TYPE_CHECKING:
    from llmvitals._object_pools import ObjectPool
    from llmvitals._tiers import TieredCache
    from llmvitals.agent import Reach

Key = TypeVar("Key")
Value = TypeVar("Value")


class Kept:
    """The part of `llmvitals.Vitals` that is about what is kept, and given up when it is too much."""

    # Imports inside the methods keep `import llmvitals` light.
    # ruff: noqa: PLC0415

    def __init__(self, recorder: Recorder, *, reach: "Reach", history: History) -> None:
        """*reach* learns what remediation may act on."""
        self.recorder = recorder
        self._reach = reach
        self._history = history
        self._caches = reach.caches = Caches(recorder)
        self._pools = Pools(recorder)
        reach.idle_closers = self._pools.idle_closers
        self._users: Users[Any] | None = None

    def cache(self, name: str, cache: MutableMapping[Key, Value]) -> Cache[Key, Value]:
        """The *cache* (cachetools or any mapping), counted and thread-safe; use what this returns; see `Cache`.

        Remediation may empty it (`drop_caches`). Raises ValueError for a name that is taken.

        ```python
        responses = vitals.cache("responses", cachetools.TTLCache(1000, ttl=300))
        ```
        """
        return self._caches.wrap(name, cache)

    def tiered_cache(
        self,
        name: str,
        redis: Any,
        *,
        max_entries: int = 1000,
        ttl_seconds: float = 300.0,
        local_ttl_seconds: float | None = None,
        timeout_seconds: float = 0.1,
        **more: Any,
    ) -> "TieredCache[Any]":
        """A cache of this process in front of *redis*, a sync or async client, which it does without while Redis is
        away; see `TieredCache`, also for what *more* there is.

        Give it a client of its own, with a ``socket_timeout``. Raises ValueError for a name that is taken or a limit
        that is none.

        ```python
        responses = vitals.tiered_cache("responses", redis.Redis(socket_timeout=1), ttl_seconds=300)
        ```
        """
        return self._caches.tiered(
            name,
            redis,
            max_entries=max_entries,
            ttl_seconds=ttl_seconds,
            local_ttl_seconds=local_ttl_seconds,
            timeout_seconds=timeout_seconds,
            tell=self._history.record,
            **more,
        )

    def sqlite_file(self, name: str, path: str | Path) -> None:
        """Show the size of a SQLite database and of its write-ahead log, which grows when nothing checkpoints it.

        What is done with it is told by the integrations with aiosqlite and SQLAlchemy.
        """
        from llmvitals._sqlite_files import show_sqlite_files

        show_sqlite_files(self.recorder, name, path)

    def users(
        self,
        *,
        max_active: int = 10,
        idle_seconds: float = 86_400,
        enforce: bool = True,
        on_evict: Callable[[str, Any], object] | None = None,
    ) -> Users[Any]:
        """The registry of user profiles, one in an application; see `Users`.

        No more than *max_active* are wanted; one nobody asked for in *idle_seconds* is idle. With *enforce* a new one
        drives out those over the limit; without, remediation may (`evict_users`). Raises ValueError for a *max_active*
        below 1 or an *idle_seconds* not above 0.
        """
        users: Users[Any] = Users(
            self.recorder, max_active=max_active, idle_seconds=idle_seconds, enforce=enforce, on_evict=on_evict
        )
        self._users = self._reach.users = users
        return users

    def pool(self, name: str, *, max_size: int, close_idle: Callable[[], int | None] | None = None) -> Pool:
        """What is known of a pool that the application keeps: connections in use, idle and waited for; see `Pool`.

        It limits nothing. *close_idle* closes the idle ones and says how many, for `close_idle_connections`. Raises
        ValueError for a name that is taken or a *max_size* below 1.
        """
        return self._pools.pool(name, max_size=max_size, close_idle=close_idle)

    def object_pool(
        self,
        name: str,
        make: Callable[[], Value],
        *,
        max_size: int = 100,
        close: Callable[[Value], object] | None = None,
        idle_seconds: float = 300.0,
    ) -> "ObjectPool[Value]":
        """A pool that keeps what *make* makes, at most *max_size*, and lends it; see `ObjectPool`.

        Those idle for *idle_seconds* are closed by `cleanup("idle_connections")` or `close_idle`. Raises ValueError for
        a name that is taken, or a limit that is none.

        ```python
        readers = vitals.object_pool("readers", open_database, max_size=4, close=Database.close)
        with readers.take() as database: ...
        ```
        """
        from llmvitals._object_pools import ObjectPool

        made: list[ObjectPool[Value]] = []
        pool = self._pools.pool(name, max_size=max_size, close_idle=lambda: sum(each.close_idle() for each in made))
        made.append(ObjectPool(self.recorder, pool, make, close=close, idle_seconds=idle_seconds))
        return made[0]
