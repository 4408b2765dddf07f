"""Putting it together: the store, the engine and the HTTP side in one process, and how that process ends."""

import asyncio
import contextlib
import logging
import signal
import socket
import time
from collections.abc import Callable, Iterator

import uvicorn
from prometheus_client import CollectorRegistry, ProcessCollector

from llmvitals_remediation import _logs
from llmvitals_remediation._metrics import Metrics
from llmvitals_remediation.actuators import SupervisorDriver
from llmvitals_remediation.agents import AgentHub
from llmvitals_remediation.alertmanager import AlertmanagerClient
from llmvitals_remediation.clock import SystemClock
from llmvitals_remediation.engine import Engine
from llmvitals_remediation.errors import RemediationError
from llmvitals_remediation.options import Options
from llmvitals_remediation.policy import PolicySource
from llmvitals_remediation.promql import PrometheusClient
from llmvitals_remediation.store import Store
from llmvitals_remediation.web.app import build
from llmvitals_remediation.web.patience import ImpatientProtocol
from llmvitals_remediation.web.runbooks import Runbooks
from llmvitals_remediation.web.services import Services, Tokens
from llmvitals_remediation.web.tokens import TokenFile

_log = logging.getLogger(__name__)

# From SIGTERM to the end: the engine's share, and that of answers under way. Together below the 5 s that are promised.
_ENGINE_SECONDS = 3.0
_ANSWERS_SECONDS = 1
# How long /readyz and the pages believe what Prometheus and Alertmanager said of themselves.
_SOURCE_SECONDS = 5.0


class ServeError(RuntimeError):
    """The service cannot start; the text says what is in the way and what to do."""


def serve(options: Options) -> None:
    """Run until SIGTERM or SIGINT. Raises `ServeError` when it cannot start."""
    _logs.configure(options.log_level)
    clock = SystemClock()
    try:
        store = Store.open(options.database, clock)
    except RemediationError as error:
        raise ServeError(f"cannot use the database: {error}") from error
    with contextlib.closing(store), _listen(options) as listener:
        asyncio.run(_run(options, store, clock, listener))


async def _run(options: Options, store: Store, clock: SystemClock, listener: socket.socket) -> None:
    metrics = Metrics(_registry())
    store.count_on(metrics)
    hub = AgentHub()
    engine = Engine(
        store,
        PolicySource(options.policy),
        PrometheusClient(options.prometheus_url),
        AlertmanagerClient(options.alertmanager_url),
        hub,
        {} if options.supervisor_url is None else {"supervisor": SupervisorDriver(options.supervisor_url, clock=clock)},
        metrics,
        clock,
    )
    services = Services(
        store=store,
        engine=engine,
        hub=hub,
        metrics=metrics,
        tokens=Tokens(
            ingest=TokenFile(options.ingest_token_file),
            admin=TokenFile(options.admin_token_file),
            agent=TokenFile(options.agent_token_file),
        ),
        hosts=frozenset(options.allowed_hosts),
        # Clients of their own: a page must not wait for the engine's questions.
        sources={
            "prometheus": _remembered(PrometheusClient(options.prometheus_url, timeout=1.0).amiss),
            "alertmanager": _remembered(AlertmanagerClient(options.alertmanager_url, timeout=1.0).amiss),
        },
        runbooks=Runbooks.read(options.runbooks, dashboards_url=options.dashboards_url),
        dashboards_url=options.dashboards_url,
    )
    server = _Server(
        uvicorn.Config(
            build(services),
            http=ImpatientProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            # Longer than Alertmanager's usual pauses, so that it does not write into a connection that we just closed.
            timeout_keep_alive=65,
            timeout_graceful_shutdown=_ANSWERS_SECONDS,
        )
    )
    engine.start()
    ending = asyncio.ensure_future(_end_when_told(services, server))
    _log.info("listening on http://%s:%d", *listener.getsockname()[:2])
    try:
        await server.serve(sockets=[listener])
    finally:
        ending.cancel()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are ours: the engine stops first, while agents can still report what they are doing."""
        yield


async def _end_when_told(services: Services, server: uvicorn.Server) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    await told.wait()
    _log.info("stopping: no more alerts are taken, what is under way is finished or left for the next start")
    services.lifecycle.draining = True
    services.hub.close()
    await asyncio.to_thread(services.engine.stop, _ENGINE_SECONDS)
    server.should_exit = True


@contextlib.contextmanager
def _listen(options: Options) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    # The protocol is said, because asyncio sets TCP_NODELAY only where it is: else each answer waits 40 ms for an ACK.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((options.host, options.port))
        except OSError as error:
            raise ServeError(
                f"cannot listen on {options.host}:{options.port}: {error.strerror}; "
                "end what listens there, or choose another --port"
            ) from error
        listener.listen(2048)
        listener.setblocking(False)
        yield listener


def _registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry


def _remembered(ask: Callable[[], str | None]) -> Callable[[], str | None]:
    """*ask*, at most every few seconds: a page must not wait for a server that is away."""
    known: list[tuple[float, str | None]] = []

    def answer() -> str | None:
        now = time.monotonic()
        if not known or now - known[0][0] > _SOURCE_SECONDS:
            known[:] = [(now, ask())]
        return known[0][1]

    return answer
