"""The face of the library: one object that offers every idea and holds none of them."""

import atexit
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from llmvitals import _current, catalogue
from llmvitals._breaker import Breaker, Breakers
from llmvitals._caches import Cache, Caches
from llmvitals._calls import Call
from llmvitals._operations import Operation, Operations
from llmvitals._pools import Pool, Pools
from llmvitals._recording import Recorder
from llmvitals._retries import Retries
from llmvitals._users import Users
from llmvitals._version import version

if TYPE_CHECKING:
    from llmvitals._batches import Batcher
    from llmvitals._health import HealthCheck
    from llmvitals._loop import LoopWatch
    from llmvitals._memory import Memory
    from llmvitals.exposition import Server

log = logging.getLogger("llmvitals")

Key = TypeVar("Key")
Value = TypeVar("Value")
Item = TypeVar("Item")
Function = TypeVar("Function", bound=Callable[..., Any])


class Vitals:
    """What one application says of itself. Made by `llmvitals.start`; in tests by `llmvitals.testing.fresh`.

    Recording never raises into the application and never blocks it: a fault of ours is counted and logged once. Only a
    mistake in what is registered (a name that is taken, a limit that is none) raises, at the line that makes it.
    """

    # Imports inside the methods keep `import llmvitals` light: psutil, requests and more come with what needs them.
    # ruff: noqa: PLC0415

    def __init__(
        self,
        *,
        service: str,
        registry: CollectorRegistry,
        profile: str | None = None,
        on_command: Callable[[str, str, str], object] | None = None,
        threads: bool = True,
    ) -> None:
        """With *threads* off, nothing runs by itself: health checks are made and not started."""
        from llmvitals._health import HealthChecks
        from llmvitals._loop import LoopWatches
        from llmvitals.agent import Agent

        self.service = service
        self.recorder = Recorder(registry)
        self.recorder.child(catalogue.BUILD_INFO, version()).set(1)
        self._operations = Operations(self.recorder)
        self._breakers = Breakers(self.recorder)
        self._caches = Caches(self.recorder)
        self._pools = Pools(self.recorder)
        self._health_checks = HealthChecks(self.recorder)
        self._loops = LoopWatches(self.recorder)
        self._memory: Memory | None = None
        self._users: Users[Any] | None = None
        self.agent = Agent(self.recorder, service=service, profile=profile, on_command=on_command)
        self.agent.reach.caches = self._caches
        self.agent.reach.breakers = self._breakers
        self.agent.reach.idle_closers = self._pools.idle_closers
        self._server: Server | None = None
        self._collectors: list[Any] = []
        self._threads = threads
        self._lock = threading.Lock()
        self._closed = False

    @property
    def registry(self) -> CollectorRegistry:
        """Where the families are registered; the application may register its own there, too."""
        return self.recorder.registry

    @property
    def metrics_port(self) -> int | None:
        """Where ``/metrics`` listens; None when it does not."""
        return self._server.port if self._server is not None else None

    # --- LLM calls ------------------------------------------------------------------------------------------------

    def call(
        self,
        *,
        provider: str,
        model: str,
        operation: str = "chat",
        server_address: str = "",
        server_port: str | int = "",
    ) -> Call:
        """One LLM call: how long it takes, its tokens, chunks and error. A context manager or decorator, sync or async.

        All that is given here becomes a label, so keep it to few values; tokens are told on the way: see `Call`.
        """
        return Call(
            self.recorder,
            provider=provider,
            model=model,
            operation=operation,
            server_address=server_address,
            server_port=server_port,
        )

    def retries(self, name: str) -> Retries:
        """Count the attempts, retries, waits and givings-up of one place that retries; see `Retries`."""
        return Retries(self.recorder, name)

    def breaker(
        self,
        name: str,
        *,
        failure_threshold: int = 5,
        reset_timeout_seconds: float = 30.0,
        ignore: tuple[type[BaseException], ...] = (),
    ) -> Breaker:
        """The circuit breaker of this name; the first time it is asked for, it is made with these settings.

        It opens after *failure_threshold* failures in a row, and lets a probe through after *reset_timeout_seconds*.
        Errors of the kinds in *ignore* are the caller's own. What it refuses raises `CircuitOpenError`; see `Breaker`.

        ```python
        with vitals.breaker("llm"):
            reply = ask(question)
        ```
        """
        return self._breakers.breaker(
            name, failure_threshold=failure_threshold, reset_timeout_seconds=reset_timeout_seconds, ignore=ignore
        )

    # --- The application's own work -------------------------------------------------------------------------------

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

    def cache(self, name: str, cache: MutableMapping[Key, Value]) -> Cache[Key, Value]:
        """The *cache* (cachetools or any mapping), counted and thread-safe; use what this returns; see `Cache`.

        Remediation may empty it (`drop_caches`). Raises ValueError for a name that is taken.

        ```python
        responses = vitals.cache("responses", cachetools.TTLCache(1000, ttl=300))
        ```
        """
        return self._caches.wrap(name, cache)

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
        self._users = self.agent.reach.users = users
        return users

    def pool(self, name: str, *, max_size: int, close_idle: Callable[[], int | None] | None = None) -> Pool:
        """What is known of a pool that the application keeps: connections in use, idle and waited for; see `Pool`.

        It limits nothing. *close_idle* closes the idle ones and says how many, for `close_idle_connections`. Raises
        ValueError for a name that is taken or a *max_size* below 1.
        """
        return self._pools.pool(name, max_size=max_size, close_idle=close_idle)

    def batcher(
        self,
        name: str,
        flush: "Callable[[list[Item]], Awaitable[object] | object]",
        *,
        max_items: int = 10,
        max_wait_seconds: float = 0.1,
        flush_seconds: float = 30.0,
    ) -> "Batcher[Item]":
        """Gather items on an event loop and *flush* them together, as a list; see `Batcher`.

        At *max_items*, or *max_wait_seconds* after the first one, or at once for an urgent one. A flush of more than
        *flush_seconds* is cancelled. Raises ValueError for limits that are none.

        ```python
        await outbox.put(message)  # outbox = vitals.batcher("outbox", send_all)
        ```
        """
        from llmvitals._batches import Batcher

        return Batcher(
            self.recorder,
            name,
            flush,
            max_items=max_items,
            max_wait_seconds=max_wait_seconds,
            flush_seconds=flush_seconds,
        )

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

    def watch_loop(self, name: str = "main") -> "LoopWatch":
        """Watch the event loop that runs here: its lag in seconds, and, in the log, the stack of what blocks it.

        Raises RuntimeError where no loop runs: call it inside of one. The second time gives the first watch.
        """
        return self._loops.watch(name=name)

    # --- What may be done to the application ----------------------------------------------------------------------

    def action(
        self,
        *,
        effect: Literal["idempotent", "detectable", "neither"],
        name: str | None = None,
        bounds: Mapping[str, tuple[float | None, float | None]] | None = None,
        description: str | None = None,
    ) -> Callable[[Function], Function]:
        """Offer the decorated function to the remediation service. Its parameters' types come from its annotations,
        their limits from *bounds* or from ``Annotated[float, llmvitals.Bounds(low, high)]``.

        *effect* says what a repetition does: nothing more (idempotent), something that can be seen and then avoided
        (detectable), or neither. It runs in the agent's thread, so a coroutine function is refused. Raises TypeError or
        ValueError, saying what to change.

        ```python
        @vitals.action(effect="idempotent", bounds={"batch": (1, 1000)})
        def rebuild_index(batch: int = 100) -> dict[str, int]: ...
        ```
        """
        return self.agent.action(effect=effect, name=name, bounds=bounds, description=description)

    def tunable(
        self,
        name: str,
        *,
        get: Callable[[], Any],
        set: Callable[[Any], object],  # noqa: A002 -- reads best where it is used
        low: float | None = None,
        high: float | None = None,
        choices: tuple[bool | float | str, ...] = (),
    ) -> None:
        """Offer a number from *low* to *high*, or one of *choices*, to be changed by the remediation service.

        A change is a lease: unless it is confirmed in time, *set* gets the old value again, and at `close`, too. *get*
        and *set* are called in the agent's threads. Raises ValueError for a taken name or limits that are none.

        ```python
        vitals.tunable("max_tokens", get=lambda: limits.tokens, set=limits.use_tokens, low=16, high=4096)
        ```
        """
        self.agent.tunable(name, get=get, set=set, low=low, high=high, choices=choices)

    def profile(self, name: str, values: Mapping[str, Any]) -> None:
        """Name a set of values for tunables, all registered before.

        The one that `start` or ``LLMVITALS_PROFILE`` names is in force from here on. Raises ValueError for a taken
        name, an unknown tunable or a value out of bounds.
        """
        self.agent.profile(name, values)

    # --- One look -------------------------------------------------------------------------------------------------

    def summary(self) -> dict[str, Any]:
        """How the application is, in one piece that is ready for JSON; what it does not use is left out.

        ``healthy`` is false while a health check fails or a breaker is not closed.
        """
        checks = self._health_checks.summary()
        breakers = {name: breaker.state for name, breaker in self._breakers.items()}
        parts: dict[str, Any] = {
            "checks": checks,
            "breakers": breakers,
            "users": self._users.summary() if self._users is not None else {},
            "caches": self._caches.summary(),
            "pools": self._pools.summary(),
            "memory": self._memory.summary() if self._memory is not None else {},
        }
        failing = [name for name, check in checks.items() if check["healthy"] is False]
        failing += [name for name, state in breakers.items() if state != "closed"]
        used = {name: part for name, part in parts.items() if part}
        return {"service": self.service, "healthy": not failing, "failing": failing, **used}

    # --- Life -----------------------------------------------------------------------------------------------------

    def watch_process(self) -> None:
        """Show processor, memory (with baseline and growth), descriptors and garbage collection of this process."""
        from llmvitals._memory import Memory

        for make in (ProcessCollector, GCCollector, PlatformCollector):
            # ValueError: the default registry has them already.
            with self.recorder.guard("registry"), suppress(ValueError):
                self._collectors.append(make(registry=self.registry))
        with self.recorder.guard("memory"):
            self._memory = Memory(self.recorder)
            self._memory.start()

    def serve_metrics(self, host: str, port: int) -> None:
        """Listen; when that fails say what to set, count it, and go on without."""
        from llmvitals.exposition import serve

        try:
            self._server = serve(self.registry, host, port, on_error=self.recorder.fault)
        except Exception as error:  # noqa: BLE001 -- ServeError mostly; no threads or descriptors left, at worst
            self.recorder.fault(
                "exposition", error, "nothing is scraped: set LLMVITALS_METRICS_PORT or pass port= to start()"
            )

    def start_agent(self, url: str, token_file: str | Path | None, *, agent_id: str) -> None:
        """Start to ask for commands; when that fails say what to set, count it, and go on without."""
        if token_file is None:
            log.warning(
                "llmvitals: the agent does not start: it has a remediation URL and no token; "
                "set LLMVITALS_AGENT_TOKEN_FILE or pass agent_token_file= to start()"
            )
            return
        with self.recorder.guard("agent"):
            self.agent.start(url, token_file, agent_id=agent_id)

    def close(self) -> None:
        """Stop what was started and put back what is on lease. The second time does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        atexit.unregister(self.close)
        with self.recorder.guard("agent"):
            self.agent.close()
        for component, part in (
            ("health", self._health_checks),
            ("loop", self._loops),
            ("exposition", self._server),
        ):
            if part is not None:
                with self.recorder.guard(component):
                    part.close()
        if self._memory is not None:
            with self.recorder.guard("memory"):
                self._memory.stop()
        _current.pop(self)
        for collector in self._collectors:
            with self.recorder.guard("registry"):
                self.registry.unregister(collector)
        self.recorder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
