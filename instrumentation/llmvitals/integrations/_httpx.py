"""httpx and httpx2, sync and async: requests and connection pools, seen at the transport.

Each redirect and each retry passes the transport, so each counts; a transport of the application's own counts when
it is one of theirs, or uses one. What the pool holds is not public; where it looks different, it is not shown.
"""

import functools
import importlib
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any

from llmvitals._recording import Recorder
from llmvitals.integrations._http import ClientPools, Reading, record_request, record_timeout
from llmvitals.integrations._session import Session

# httpcore takes sys.maxsize for it.
_NO_LIMIT = sys.maxsize


def install(session: Session) -> None:
    library = importlib.import_module(session.library)
    transports = ClientPools(session, _read, tells_pending=True)
    session.patch(library.HTTPTransport, "handle_request", lambda original: _wrap(session, transports, original))
    session.patch(
        library.AsyncHTTPTransport, "handle_async_request", lambda original: _wrap_async(session, transports, original)
    )


def _wrap(session: Session, transports: ClientPools, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def handle_request(self: Any, request: Any) -> Any:
        vitals = session.vitals
        if vitals is None:
            return original(self, request)
        started = perf_counter()
        try:
            response = original(self, request)
        except BaseException as error:
            _record(vitals.recorder, transports, self, started, request, error=error)
            raise
        _record(vitals.recorder, transports, self, started, request, response=response)
        return response

    return handle_request


def _wrap_async(session: Session, transports: ClientPools, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def handle_async_request(self: Any, request: Any) -> Any:
        vitals = session.vitals
        if vitals is None:
            return await original(self, request)
        started = perf_counter()
        try:
            response = await original(self, request)
        except BaseException as error:
            _record(vitals.recorder, transports, self, started, request, error=error)
            raise
        _record(vitals.recorder, transports, self, started, request, response=response)
        return response

    return handle_async_request


def _record(
    recorder: Recorder,
    transports: ClientPools,
    transport: Any,
    started: float,
    request: Any,
    *,
    response: Any = None,
    error: BaseException | None = None,
) -> None:
    try:
        url = request.url
        port = url.port or (80 if url.scheme == "http" else 443)
        status = None if response is None else response.status_code
        record_request(recorder, started, request.method, url.host, port, status=status, error=error)
        if error is not None:
            record_timeout(recorder, transports.library, error)
        transports.saw(recorder, transport)
    except Exception as fault:  # noqa: BLE001 -- the application has its response, and keeps it
        recorder.fault("httpx", fault)


def _read(transport: Any, reading: Reading) -> None:
    pool = getattr(transport, "_pool", None)
    if pool is None:
        return
    for connection in pool.connections:
        if connection.is_closed():
            continue
        origin = getattr(connection, "_origin", None) or getattr(connection, "_remote_origin", None)
        host, port = ("", "") if origin is None else (origin.host.decode("ascii"), origin.port)
        reading.connection(host, port, idle=connection.is_idle())
    limit = getattr(pool, "_max_connections", _NO_LIMIT)
    reading.limit += limit
    reading.unlimited |= limit >= _NO_LIMIT
    requests = getattr(pool, "_requests", None)
    if requests is not None:
        reading.pending += sum(request.is_queued() for request in list(requests))
