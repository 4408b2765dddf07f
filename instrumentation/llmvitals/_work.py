"""What an application says of its own work and upkeep: each method hands over to the module that holds the idea."""

import weakref
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from llmvitals._history import History
from llmvitals._kept import Kept
from llmvitals._modules import Module, Modules
from llmvitals._operations import Operation, Operations
from llmvitals._recording import Recorder

if TYPE_CHECKING:
    from llmvitals._batches import Batcher
    from llmvitals._cleanups import Clean, CleanUp, CleanUps
    from llmvitals._growth_sites import GrowthSites
    from llmvitals._health import HealthCheck
    from llmvitals._limits import Limit, Limits
    from llmvitals._loop import LoopWatch
    from llmvitals._semantic_memory import SemanticMemories, SemanticMemory
    from llmvitals._shutdown import Shutdown
    from llmvitals._startup import Startup
    from llmvitals._voice import Voice, Voices
    from llmvitals.agent import Reach

Item = TypeVar("Item")


class Work(Kept):
    """The half of `llmvitals.Vitals` that is about the application's own work. An application uses any of it, or none.

    What is made here records; what hangs or fails in it is the application's own, and is shown.
    """

    # Imports inside the methods keep `import llmvitals` light.
    # ruff: noqa: PLC0415

    def __init__(self, recorder: Recorder, *, reach: "Reach", threads: bool) -> None:
        """*reach* learns what remediation may act on. With *threads* off, nothing runs by itself."""
        from llmvitals._health import HealthChecks
        from llmvitals._loop import LoopWatches

        super().__init__(recorder, reach=reach, history=History(recorder, threads=threads))
        self._threads = threads
        self._operations = Operations(recorder, tell=self._history.record)
        self._modules = Modules(recorder)
        self._health_checks = HealthChecks(recorder, tell=self._history.record)
        self._loops = LoopWatches(recorder)
        self._batchers: weakref.WeakSet[Batcher[Any]] = weakref.WeakSet()
        self._startup: Startup | None = None
        self._voices: Voices | None = None
        self._memories: SemanticMemories | None = None
        self._limits: Limits | None = None
        self._cleanups: CleanUps | None = None
        self._shutdown: Shutdown | None = None
        self._growth: GrowthSites | None = None

    # --- What it does ---------------------------------------------------------------------------------------------

    def operation(
        self, name: str, *, target_seconds: float | None = None, context: Mapping[str, object] | None = None
    ) -> Operation:
        """One of the application's own operations, in seconds. A context manager or decorator, sync or async.

        With *target_seconds*, each run earns a level: excellent up to a quarter of it, good up to half, acceptable up
        to all, slow up to twice, else critical, which is logged with *context*. ValueError for a target not above 0.

        ```python
        @vitals.operation("talker", target_seconds=2.0)
        def talk(message): ...
        ```
        """
        return self._operations.operation(name, target_seconds=target_seconds, context=context)

    def module(self, name: str, *, timeout_seconds: float | None = None) -> Module:
        """A module that works in the background, each run of it timed; see `Module`. The first settings count.

        An async run of more than *timeout_seconds* is cancelled. ValueError for a time-out not above 0.

        ```python
        @vitals.module("inner_monologue", timeout_seconds=30)
        async def think(): ...
        ```
        """
        return self._modules.module(name, timeout_seconds=timeout_seconds)

    def voice(self, name: str, *, target: float = 0.99) -> "Voice":
        """How reliable a voice is: successes, failures by kind, quality from 0 to 1; see `Voice`.

        *target* is the share that should succeed; the first one counts. ValueError for one that is none.

        ```python
        with vitals.voice("recognition").turn() as turn:
            turn.quality(recognise(audio).confidence)
        ```
        """
        from llmvitals._voice import Voices

        if self._voices is None:
            self._voices = Voices(self.recorder)
        return self._voices.voice(name, target=target)

    def semantic_memory(
        self,
        name: str,
        *,
        size: Callable[[], float] | None = None,
        max_documents: int | None = None,
        least_similarity: float = 0.7,
        target_seconds: float = 2.0,
    ) -> "SemanticMemory":
        """Documents searched by meaning: durations, results, similarity, size, batches; see `SemanticMemory`.

        Raises ValueError for a name that is taken or a target that is none.

        ```python
        with journal.search() as search:  # journal = vitals.semantic_memory("journal", size=index.count)
            search.found(score for _, score in index.query(question, 10))
        ```
        """
        from llmvitals._semantic_memory import SemanticMemories

        if self._memories is None:
            self._memories = SemanticMemories(self.recorder)
        return self._memories.memory(
            name,
            size=size,
            max_documents=max_documents,
            least_similarity=least_similarity,
            target_seconds=target_seconds,
        )

    def batcher(
        self,
        name: str,
        flush: "Callable[[list[Item]], Awaitable[object] | object]",
        *,
        max_items: int = 10,
        most_items: int | None = None,
        max_wait_seconds: float = 0.1,
        flush_seconds: float = 30.0,
    ) -> "Batcher[Item]":
        """Gather items on an event loop and *flush* them together, as a list; see `Batcher`.

        At *max_items* (under load, up to *most_items*), or *max_wait_seconds* after the first one, or at once for an
        urgent one. A flush of more than *flush_seconds* is cancelled. Raises ValueError for limits that are none.

        ```python
        await outbox.put(message)  # outbox = vitals.batcher("outbox", send_all)
        ```
        """
        from llmvitals._batches import Batcher

        batcher = Batcher(
            self.recorder,
            name,
            flush,
            max_items=max_items,
            most_items=most_items,
            max_wait_seconds=max_wait_seconds,
            flush_seconds=flush_seconds,
        )
        self._batchers.add(batcher)
        return batcher

    def health_check(
        self,
        name: str,
        check: Callable[[], object],
        *,
        interval_seconds: float = 5.0,
        timeout_seconds: float | None = None,
    ) -> "HealthCheck":
        """Run *check*, sync or async, every *interval_seconds*, in a thread of its own; see `HealthCheck`.

        It fails by raising, by returning False, or by taking more than *timeout_seconds* (by default the interval, and
        5 s at least). Raises ValueError for a name that is taken or an interval not above 0.
        """
        return self._health_checks.add(
            name, check, interval_seconds=interval_seconds, timeout_seconds=timeout_seconds, start=self._threads
        )

    def limit(self, name: str) -> "Limit":
        """What is known of one limit: a provider's rate limit, or one of the application's own; see `Limit`.

        ```python
        provider = vitals.limit("primary")
        provider.read(response.headers)  # what is left, of how much, until when
        ```
        """
        from llmvitals._limits import Limits

        if self._limits is None:
            self._limits = Limits(self.recorder)
        return self._limits.limit(name)

    def watch_loop(self, name: str = "main") -> "LoopWatch":
        """Watch the event loop that runs here: its lag in seconds, and, in the log, the stack of what blocks it.

        Raises RuntimeError where no loop runs: call it inside of one. The second time gives the first watch.
        """
        return self._loops.watch(name=name)

    def watch_growth(self, *, every_seconds: float = 1800.0, seconds: float = 15.0, top: int = 10) -> "GrowthSites":
        """Every *every_seconds*, look for *seconds* which lines of code make memory grow, and show the *top* ones.

        Meanwhile allocations are slower, up to six times, so nobody does this unless asked to; see `GrowthSites`. The
        first settings count. Raises ValueError for those that are none, or more than 20 lines.
        """
        from llmvitals._growth_sites import GrowthSites

        if self._growth is None:
            self._growth = GrowthSites(self.recorder, every_seconds=every_seconds, seconds=seconds, top=top)
            if self._threads:
                self._growth.start()
        return self._growth

    def cleanup(self, name: str, clean: "Clean | None" = None, *, interval_seconds: float | None = None) -> "CleanUp":
        """Run *clean*, sync or async, every *interval_seconds* in a thread of its own; see `CleanUp`.

        Without *clean*, one that is built in, at its interval: ``expired_cache_entries`` (60 s), ``idle_users``
        (300 s), ``idle_connections`` of pools (300 s), ``stuck_batches`` (30 s, those stuck for longer than that).
        Raises ValueError for a name that is taken or unknown, or an interval not above 0.

        ```python
        vitals.cleanup("old_rows", database.delete_old_rows, interval_seconds=3600)
        ```
        """
        from llmvitals._cleanups import CleanUps

        if self._cleanups is None:
            self._cleanups = CleanUps(self.recorder, self._built_in_cleanups(), tell=self._history.record)
        return self._cleanups.add(name, clean, interval_seconds=interval_seconds, start=self._threads)

    def history(self, path: str | Path | None = None) -> History:
        """What happened lately and mattered: breakers, checks, levels, critical runs, and what you add; see `History`.

        With *path*, it is appended there, too, and can be read after a crash, a ``kill -9`` included.

        ```python
        history = vitals.history("/var/lib/app/history.jsonl")
        history.record("model_swapped", "thinker", level="warning", reason="out of memory")
        history.listen(page_somebody, least_level="critical")
        ```
        """
        if path is not None:
            self._history.write_to(path)
        return self._history

    def _work_summary(self) -> dict[str, Any]:
        return {
            "startup": self._startup.summary() if self._startup is not None else {},
            "operations": self._operations.summary(),
            "users": self._users.summary() if self._users is not None else {},
            "caches": self._caches.summary(),
            "pools": self._pools.summary(),
            "modules": self._modules.summary(),
            "voices": self._voices.summary() if self._voices is not None else {},
            "semantic_memories": self._memories.summary() if self._memories is not None else {},
            "limits": self._limits.summary() if self._limits is not None else {},
            "cleanups": self._cleanups.summary() if self._cleanups is not None else {},
        }

    def _built_in_cleanups(self) -> "dict[str, Clean]":
        return {
            "expired_cache_entries": self._caches.expire,
            "idle_users": lambda: self._users.evict_idle() if self._users is not None else 0,
            "idle_connections": self._pools.close_idle,
            "stuck_batches": lambda: sum(batcher.release_stuck() for batcher in list(self._batchers)),
        }

    # --- Its start and its end -------------------------------------------------------------------------------------

    def startup(self, *phases: str) -> "Startup":
        """How the application comes up, told by phases; one in an application; see `Startup`.

        ```python
        startup = vitals.startup("settings", "models", "index")
        with startup.phase("models"):
            load_models()
        startup.ready()
        ```
        """
        from llmvitals._startup import Startup

        if self._startup is None:
            self._startup = Startup(self.recorder, phases)
        return self._startup

    def shutdown(self, *, timeout_seconds: float = 30.0, task_seconds: float = 5.0) -> "Shutdown":
        """The orderly end, one in an application: what is registered there is closed in order; see `Shutdown`.

        It takes *timeout_seconds* at most, of which background tasks get *task_seconds*. The first settings count.
        Raises ValueError for times that are none.

        ```python
        shutdown = vitals.shutdown()
        shutdown.register("database", database.close, priority=10)
        shutdown.on_signals()  # or, at the end, shutdown.run() or await shutdown.arun()
        ```
        """
        from llmvitals._shutdown import Shutdown

        if self._shutdown is None:
            self._shutdown = Shutdown(
                self.recorder,
                timeout_seconds=timeout_seconds,
                task_seconds=task_seconds,
                tell=self._history.record,
            )
        return self._shutdown
