"""aiohttp's client: requests, and what its connectors hold.

Seen through a ``TraceConfig``, so that no frame, exception or response of aiohttp's passes our hands. A session gets
it with its first request: those made before `instrument` are seen, too, and the application's own list of trace
configurations stays as it is.
"""

import functools
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import aiohttp

from llmvitals import catalogue
from llmvitals._recording import Recorder
from llmvitals.integrations._http import ClientPools, Reading, method_label, record_request
from llmvitals.integrations._session import Session

# What a session that asks for nothing gets from aiohttp is 100; 0 stands for no limit.
_NO_LIMIT = 0


def install(session: Session) -> None:
    tracing = _Tracing(session)
    session.patch(aiohttp.ClientSession, "_request", functools.partial(_wrap_request, session, tracing))
    session.patch(aiohttp.BaseConnector, "connect", functools.partial(_wrap_connect, session))
    session.undo_with(tracing.leave)


def _wrap_request(session: Session, tracing: "_Tracing", original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def request(self: Any, *args: Any, **kwargs: Any) -> Any:
        vitals = session.vitals
        if vitals is not None:
            with vitals.recorder.guard("aiohttp"):
                tracing.join(self, vitals.recorder)
        return original(self, *args, **kwargs)

    return request


# Where a connection leads. The connector knows it of idle ones only.
_hosts: "weakref.WeakKeyDictionary[Any, tuple[str, str | int]]" = weakref.WeakKeyDictionary()


def _wrap_connect(session: Session, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def connect(self: Any, req: Any, *args: Any, **kwargs: Any) -> Any:
        connection = await original(self, req, *args, **kwargs)
        vitals = session.vitals
        if vitals is not None:
            with vitals.recorder.guard("aiohttp"):
                _hosts[connection.protocol] = (req.url.host or "", req.url.port or "")
        return connection

    return connect


@dataclass(slots=True)
class _Exchange:
    """One request on its way: aiohttp makes one for each, and gives it to every handler."""

    trace_request_ctx: Any = None
    recorder: Recorder | None = None
    """Where its start was recorded; None when nobody was watching."""

    started: float = 0.0
    active: Any = None
    queued: float | None = None
    phase: str = "pool"
    """What it waits for: a place in the pool, to connect, or to read."""


class _Tracing:
    """What all sessions share from one `instrument` to its `uninstrument`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._pools = ClientPools(session, _read, tells_pending=True)
        self._joined: weakref.WeakKeyDictionary[Any, tuple[list[Any], list[Any]]] = weakref.WeakKeyDictionary()
        self._config = config = aiohttp.TraceConfig(trace_config_ctx_factory=_Exchange)  # type: ignore[arg-type]  # any class will do
        for signal, handler in (
            (config.on_request_start, self._started),
            (config.on_request_redirect, self._redirected),
            (config.on_request_end, self._ended),
            (config.on_request_exception, self._failed),
            (config.on_connection_queued_start, self._queued),
            (config.on_connection_queued_end, self._unqueued),
            (config.on_connection_create_start, self._connecting),
            (config.on_connection_create_end, self._connected),
            (config.on_connection_reuseconn, self._reused),
        ):
            signal.append(self._guarded(handler))
        config.freeze()

    def join(self, client: Any, recorder: Recorder) -> None:
        """Have *client*'s requests traced from now on, and an eye kept on its connector."""
        theirs = client._trace_configs  # noqa: SLF001 -- the public one only shows it
        if self._config not in theirs:
            ours = client._trace_configs = [*theirs, self._config]  # noqa: SLF001
            self._joined[client] = (theirs, ours)
        if client.connector is not None:  # None once it is closed.
            self._pools.saw(recorder, client.connector)

    def leave(self) -> None:
        for client, (theirs, ours) in list(self._joined.items()):
            if client._trace_configs is ours:  # noqa: SLF001
                client._trace_configs = theirs  # noqa: SLF001

    def _guarded(self, handler: Callable[[_Exchange, Recorder, Any], None]) -> Any:
        async def handle(client: Any, exchange: Any, params: Any) -> None:  # noqa: ARG001 -- as aiohttp calls it
            recorder = exchange.recorder
            if recorder is None and handler == self._started:
                vitals = self._session.vitals
                recorder = exchange.recorder = None if vitals is None else vitals.recorder
            if recorder is not None:
                with recorder.guard("aiohttp"):
                    handler(exchange, recorder, params)

        return handle

    def _started(self, exchange: _Exchange, recorder: Recorder, params: Any) -> None:
        exchange.started = perf_counter()
        host, port = params.url.host or "", str(params.url.port or "")
        exchange.active = recorder.child(catalogue.HTTP_CLIENT_ACTIVE, method_label(params.method), host, port)
        exchange.active.inc()

    def _redirected(self, exchange: _Exchange, recorder: Recorder, params: Any) -> None:
        self._record(exchange, recorder, params)
        exchange.started, exchange.phase = perf_counter(), "pool"

    def _ended(self, exchange: _Exchange, recorder: Recorder, params: Any) -> None:
        exchange.active.dec()
        self._record(exchange, recorder, params)

    def _failed(self, exchange: _Exchange, recorder: Recorder, params: Any) -> None:
        exchange.active.dec()
        self._unqueued(exchange, recorder, params)
        if isinstance(params.exception, TimeoutError):
            recorder.child(catalogue.POOL_TIMEOUTS, self._session.library, exchange.phase).inc()
        record_request(
            recorder,
            exchange.started,
            params.method,
            params.url.host or "",
            params.url.port or "",
            error=params.exception,
        )

    def _record(self, exchange: _Exchange, recorder: Recorder, params: Any) -> None:
        response = params.response
        url = response.url
        record_request(
            recorder, exchange.started, response.method, url.host or "", url.port or "", status=response.status
        )

    # --- Handlers: all are called alike ---------------------------------------------------------------------------
    # ruff: noqa: ARG002

    def _queued(self, exchange: _Exchange, recorder: Recorder, params: Any) -> None:
        # Asked again for a place that somebody else was quicker to take, it still waits for the same one.
        if exchange.queued is None:
            exchange.queued = perf_counter()

    def _unqueued(self, exchange: _Exchange, recorder: Recorder, params: Any) -> None:
        if exchange.queued is not None:
            wait = recorder.child(catalogue.POOL_WAIT, self._session.library)
            wait.observe(perf_counter() - exchange.queued)
            exchange.queued = None

    def _connecting(self, exchange: _Exchange, recorder: Recorder, params: Any) -> None:
        exchange.phase = "connect"

    def _connected(self, exchange: _Exchange, recorder: Recorder, params: Any) -> None:
        exchange.phase = "read"
        recorder.child(catalogue.POOL_ACQUIRED, self._session.library, "new").inc()

    def _reused(self, exchange: _Exchange, recorder: Recorder, params: Any) -> None:
        exchange.phase = "read"
        recorder.child(catalogue.POOL_ACQUIRED, self._session.library, "reused").inc()


def _read(connector: Any, reading: Reading) -> None:
    if connector.closed:
        return
    for protocol in list(connector._acquired):  # noqa: SLF001 -- nothing public tells
        if protocol in _hosts:  # Else it is a place that is held while a connection is made.
            reading.connection(*_hosts[protocol], idle=False)
    for key, kept in list(connector._conns.items()):  # noqa: SLF001
        for protocol, _ in list(kept):
            if protocol.is_connected():
                reading.connection(key.host, key.port or "", idle=True)
    reading.limit += connector.limit
    reading.unlimited |= connector.limit == _NO_LIMIT
    reading.pending += sum(len(waiters) for waiters in list(connector._waiters.values()))  # noqa: SLF001
