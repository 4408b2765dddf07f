"""urllib3, and with it requests and all else that is built on it: requests, pools, and the wait for a connection.

urllib3 has one pool for each host. Its methods with an underscore are where an attempt is one attempt: ``urlopen``
calls itself for a retry.
"""

import functools
from collections.abc import Callable
from time import perf_counter
from typing import Any

from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import EmptyPoolError

from llmvitals import catalogue
from llmvitals._recording import Recorder
from llmvitals._vitals import Vitals
from llmvitals.integrations._http import ClientPools, Reading, record_request, record_timeout
from llmvitals.integrations._session import Session


def install(session: Session) -> None:
    pools = ClientPools(session, _read, tells_pending=False)
    session.patch(HTTPConnectionPool, "_make_request", lambda original: _wrap_request(session, pools, original))
    session.patch(HTTPConnectionPool, "_get_conn", lambda original: _wrap_wait(session, original))


def _watching(session: Session, pool: Any) -> Vitals | None:
    # The agent's own long polls are no part of what the application does.
    return None if type(pool).__module__.startswith("llmvitals.") else session.vitals


def _wrap_request(session: Session, pools: ClientPools, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def make_request(self: Any, conn: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        vitals = _watching(session, self)
        if vitals is None:
            return original(self, conn, method, *args, **kwargs)
        started = perf_counter()
        try:
            response = original(self, conn, method, *args, **kwargs)
        except BaseException as error:
            _record(vitals.recorder, pools, self, started, method, error=error)
            raise
        _record(vitals.recorder, pools, self, started, method, response=response)
        return response

    return make_request


def _wrap_wait(session: Session, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def get_conn(self: Any, *args: Any, **kwargs: Any) -> Any:
        vitals = _watching(session, self) if self.block else None
        if vitals is None:
            return original(self, *args, **kwargs)
        child = vitals.recorder.child
        pending, wait = (
            child(catalogue.POOL_PENDING_REQUESTS, session.library),
            child(catalogue.POOL_WAIT, session.library),
        )
        started = perf_counter()
        pending.inc()
        try:
            return original(self, *args, **kwargs)
        except EmptyPoolError as error:
            record_timeout(vitals.recorder, session.library, error)
            raise
        finally:
            pending.dec()
            wait.observe(perf_counter() - started)

    return get_conn


def _record(
    recorder: Recorder,
    pools: ClientPools,
    pool: Any,
    started: float,
    method: str,
    *,
    response: Any = None,
    error: BaseException | None = None,
) -> None:
    try:
        status = None if response is None else response.status
        record_request(recorder, started, method, pool.host, _port(pool), status=status, error=error)
        if error is not None:
            record_timeout(recorder, pools.library, error)
        pools.saw(recorder, pool)
    except Exception as fault:  # noqa: BLE001 -- the application has its response, and keeps it
        recorder.fault("urllib3", fault)


def _port(pool: Any) -> int:
    return pool.port or (443 if pool.scheme == "https" else 80)


def _read(pool: Any, reading: Reading) -> None:
    connections = pool.pool
    if connections is None:  # Closed.
        return
    kept = list(connections.queue)
    # The queue is filled with placeholders: what is missing in it is in use.
    for _ in range(connections.maxsize - len(kept)):
        reading.connection(pool.host, _port(pool), idle=False)
    for connection in kept:
        # `is_closed` is of urllib3 2.
        if connection is not None and connection.sock is not None:
            reading.connection(pool.host, _port(pool), idle=True)
    reading.limit += connections.maxsize
    # One that does not block opens more when it is full, and throws them away after.
    reading.unlimited |= not pool.block
