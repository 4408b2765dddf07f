"""The face of the library: one object that offers every idea and holds none of them."""

import atexit
import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.registry import Collector

from llmvitals import _current, catalogue
from llmvitals._breaker import Breaker, Breakers
from llmvitals._concerns import colour_of, concerns
from llmvitals._descriptors import Process
from llmvitals._genai import GenAI
from llmvitals._recording import Recorder
from llmvitals._retries import Retries
from llmvitals._stepping_back import SteppingBack
from llmvitals._version import VERSION
from llmvitals._work import Work

if TYPE_CHECKING:
    from llmvitals._memory import Memory
    from llmvitals._python import Python
    from llmvitals.exposition import ASGIApp, Page, Pages, Server, WSGIApp
    from llmvitals.workers._workers import Workers

log = logging.getLogger("llmvitals")

Function = TypeVar("Function", bound=Callable[..., Any])


class Vitals(GenAI, Work):
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
        pushgateway_url: str | None = None,
        threads: bool = True,
    ) -> None:
        """With *threads* off, nothing runs by itself: health checks are made and not started."""
        from llmvitals.agent import Agent

        recorder = Recorder(registry)
        recorder.look_at_scrape(SteppingBack(recorder).look)
        recorder.child(catalogue.BUILD_INFO, VERSION).set(1)
        self.service = service
        self._agent = Agent(recorder, service=service, profile=profile, on_command=on_command)
        super().__init__(recorder, reach=self._agent.reach, threads=threads)
        self._breakers = self._agent.reach.breakers = Breakers(recorder, tell=self._history.record)
        self._memory: Memory | None = None
        self._python: Python | None = None
        self._server: Server | None = None
        self._workers: Workers | None = None
        self._pushgateway_url = pushgateway_url
        self._pid = os.getpid()
        self._unregister: list[Callable[[], None]] = []
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

    # --- What guards LLM calls ------------------------------------------------------------------------------------

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
        return self._agent.action(effect=effect, name=name, bounds=bounds, description=description)

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
        self._agent.tunable(name, get=get, set=set, low=low, high=high, choices=choices)

    def profile(self, name: str, values: Mapping[str, Any]) -> None:
        """Name a set of values for tunables, all registered before.

        The one that `start` or ``LLMVITALS_PROFILE`` names is in force from here on. Raises ValueError for a taken
        name, an unknown tunable or a value out of bounds.
        """
        self._agent.profile(name, values)

    # --- One look -------------------------------------------------------------------------------------------------

    def summary(self) -> dict[str, Any]:
        """How the application is, in one piece that is ready for JSON; what it does not use is left out.

        ``healthy`` is false while a health check fails or a breaker is not closed. ``status`` is red while a check
        fails, yellow while anything else is amiss, else green; ``concerns`` says what and why.
        """
        checks = self._health_checks.summary()
        breakers = {name: breaker.state for name, breaker in self._breakers.items()}
        parts: dict[str, Any] = {
            "checks": checks,
            "breakers": breakers,
            **self._work_summary(),
            "memory": self._memory.summary() if self._memory is not None else {},
        }
        failing = [name for name, check in checks.items() if check["healthy"] is False]
        failing += [name for name, state in breakers.items() if state != "closed"]
        used = {name: part for name, part in parts.items() if part}
        found = concerns(used)
        return {
            "service": self.service,
            "status": colour_of(found),
            "healthy": not failing,
            "failing": failing,
            "concerns": found,
            **used,
            "history": self._history.recent(20),
        }

    def health_page(self, accept: str = "") -> "Page":
        """The summary as ``/healthz`` beside ``/metrics`` has it, for a server of your own.

        HTML where *accept*, the request's header, names it, else JSON. Its status is 503 while a health check fails.
        Collected on the spot: answer it from a thread, or on a loop that can spare a millisecond.
        """
        from llmvitals._health_page import page

        return page(self.summary(), accept)

    # --- Life -----------------------------------------------------------------------------------------------------

    def watch_process(self) -> None:
        """Show processor, memory (with baseline, growth and heap), descriptors, connections, threads and garbage
        collection of this process, and torch's CUDA memory once the application has imported torch.
        """
        from llmvitals._memory import Memory
        from llmvitals._python import Python

        # ValueError: the registry has them already.
        with self.recorder.guard("registry"), suppress(ValueError):
            self._unregister.append(Process(self.registry).unregister)
        for make in (GCCollector, PlatformCollector):
            with self.recorder.guard("registry"), suppress(ValueError):
                self._unregister.append(partial(self.registry.unregister, make(registry=self.registry)))
        with self.recorder.guard("memory"):
            self._memory = Memory(self.recorder)
            self._memory.start()
        with self.recorder.guard("python"):
            self._python = Python(self.recorder)
            self._python.start()

    def join_workers(self, host: str, port: int, *, name: str = "") -> None:
        """Be one of the workers of this service at this address; when that fails, say so, and go on alone."""
        from llmvitals.workers import join

        with self.recorder.guard("workers"):
            self._workers = join(self.recorder, service=self.service, host=host, port=port, name=name)

    @property
    def shown(self) -> Collector:
        """What ``/metrics`` shows: of all workers of the service, where it has more than this process."""
        return self.registry if self._workers is None else self._workers.view

    @property
    def is_inherited(self) -> bool:
        """Whether this process was forked from the one that started it."""
        return os.getpid() != self._pid

    def serve_metrics(self, host: str, port: int) -> None:
        """Listen, with the other workers if there are some; when that fails say what to set, and go on without."""
        from llmvitals.exposition import serve

        def listen(listener: socket.socket | None) -> socket.socket:
            self._server = serve(
                self.shown, host, port, on_error=self.recorder.fault, pages=self._pages(), listener=listener
            )
            return self._server.listener

        try:
            if self._workers is None:
                listen(None)
            else:
                self._workers.listen(listen)
        except Exception as error:  # noqa: BLE001 -- ServeError mostly; no threads or descriptors left, at worst
            self.recorder.fault(
                "exposition", error, "nothing is scraped: set LLMVITALS_METRICS_PORT or pass port= to start()"
            )

    def asgi_app(self) -> "ASGIApp":
        """``/metrics``, ``/healthz`` and ``/-/healthy`` as an ASGI application, to mount in a server of your own.

        Mount it after all else: ``app.mount("/", vitals.asgi_app())``. Who may reach that server may read them.
        """
        from llmvitals.exposition import asgi_app

        return asgi_app(self.shown, on_error=self.recorder.fault, pages=self._pages())

    def wsgi_app(self) -> "WSGIApp":
        """The same as `asgi_app`, for a WSGI server."""
        from llmvitals.exposition import wsgi_app

        return wsgi_app(self.shown, on_error=self.recorder.fault, pages=self._pages())

    def push(
        self,
        url: str | None = None,
        *,
        job: str | None = None,
        grouping: Mapping[str, str] | None = None,
        replace: bool = True,
        timeout_seconds: float = 10.0,
        credentials_file: str | Path | None = None,
    ) -> bool:
        """Make what is recorded the Pushgateway's group for *job* and *grouping*; return whether it was taken.

        For jobs that end before they are scraped. Never raises and takes no longer than *timeout_seconds*: a failure is
        counted and logged. With *replace* off, families that the group has and this process does not show stay there.

        *url* is by default the one that `start` was given, *job* the service's name, and *credentials_file*, with
        ``user:password`` or a token in it, ``LLMVITALS_PUSHGATEWAY_CREDENTIALS_FILE``.
        """
        from llmvitals.exposition import push

        try:
            push(
                self.shown,
                url or self._pushgateway_url or "",
                job=job or self.service,
                grouping=grouping,
                replace=replace,
                timeout_seconds=timeout_seconds,
                credentials_file=credentials_file or os.environ.get("LLMVITALS_PUSHGATEWAY_CREDENTIALS_FILE") or None,
                on_error=self.recorder.fault,
            )
        except Exception as error:  # noqa: BLE001 -- PushError and ValueError, mostly
            self.recorder.fault("push", error, "nothing was pushed: see url=, or LLMVITALS_PUSHGATEWAY_URL")
            return False
        return True

    def _pages(self) -> "Pages":
        return {"/-/healthy": "llmvitals is alive\n", "/healthz": self._healthz}

    def _healthz(self, headers: Mapping[str, str]) -> "Page":
        from llmvitals.exposition import Page

        try:
            return self.health_page(headers.get("accept", ""))
        except Exception as error:  # noqa: BLE001 -- a cache of the application's whose own code raises, for one
            self.recorder.fault("health_page", error)
            return Page(f"no summary: {type(error).__name__}\n", status="500 Internal Server Error")

    def start_agent(self, url: str, token_file: str | Path | None, *, agent_id: str) -> None:
        """Start to ask for commands; when that fails say what to set, count it, and go on without."""
        if token_file is None:
            log.warning(
                "llmvitals: the agent does not start: it has a remediation URL and no token; "
                "set LLMVITALS_AGENT_TOKEN_FILE or pass agent_token_file= to start()"
            )
            return

        def start() -> None:
            with self.recorder.guard("agent"):
                self._agent.start(url, token_file, agent_id=agent_id)

        with self.recorder.guard("agent"):
            start() if self._workers is None else self._workers.lead(start)

    def close(self) -> None:
        """Stop what was started and put back what is on lease. The second time does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        atexit.unregister(self.close)
        with self.recorder.guard("agent"):
            self._agent.close()
        for component, part in (
            ("health", self._health_checks),
            ("cleanups", self._cleanups),
            ("loop", self._loops),
            ("growth_sites", self._growth),
            ("exposition", self._server),
        ):
            if part is not None:
                with self.recorder.guard(component):
                    part.close()
        # A forked child has its parent's numbers, and would put them in the place of the real ones.
        if self._pushgateway_url and not self.is_inherited:
            self.push(timeout_seconds=5)
        if self._memory is not None:
            with self.recorder.guard("memory"):
                self._memory.stop()
        if self._python is not None:
            self._python.stop()
        with self.recorder.guard("history"):
            self._history.close()
        _current.pop(self)
        if self._workers is not None:
            with self.recorder.guard("workers"):
                self._workers.close()
        for unregister in self._unregister:
            with self.recorder.guard("registry"):
                unregister()
        self.recorder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
