"""SQLAlchemy, sync and async: the duration of statements, commits and rollbacks; of its connection pools the
connections, the wait for one, and how long it is kept.

An operation goes by its first word and its database, so nothing of a statement is shown. A pool goes by the name that
the application gave it, ``create_engine(..., pool_logging_name="main")``; those without one are together
``sqlalchemy``. Only pools that can be full (QueuePool and its kin) have numbers.
"""

import functools
import threading
import weakref
from collections import defaultdict
from collections.abc import Callable
from time import perf_counter
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.pool import Pool

from llmvitals import catalogue
from llmvitals._recording import Recorder, error_type
from llmvitals.integrations._session import Session
from llmvitals.integrations._sql import operation_of, spoken_for

_CHECKED_OUT = "llmvitals.checked_out"
_STARTED = "llmvitals.started"
# Where SQLAlchemy's name of a database is not OpenTelemetry's.
_SYSTEMS = {"mssql": "microsoft.sql_server", "oracle": "oracle.db"}


def install(session: Session) -> None:
    pools = _Pools(session)
    session.patch(Pool, "connect", functools.partial(_wrap, session, pools))

    def checkout(connection: Any, record: Any, proxy: Any) -> None:
        driver = getattr(connection, "driver_connection", None)
        if driver is not None and driver is not connection:
            spoken_for.add(driver)
        record.info[_CHECKED_OUT] = (_name(proxy._pool), perf_counter())  # noqa: SLF001 -- nothing public leads there

    def checkin(connection: Any, record: Any) -> None:  # noqa: ARG001
        taken = record.info.pop(_CHECKED_OUT, None)
        vitals = session.vitals
        if vitals is not None and taken is not None:
            vitals.recorder.child(catalogue.DB_CONNECTION_USE, taken[0]).observe(perf_counter() - taken[1])

    _listen(session, Pool, checkout=checkout, checkin=checkin)
    session.undo_with(spoken_for.clear)
    _watch_statements(session)
    for name in ("do_commit", "do_rollback"):
        session.patch(DefaultDialect, name, functools.partial(_wrap_ending, session))


def _watch_statements(session: Session) -> None:
    def before(connection: Any, *_: Any) -> None:
        connection.info[_STARTED] = perf_counter()

    def after(connection: Any, cursor: Any, statement: Any, *_: Any) -> None:  # noqa: ARG001 -- as the event calls it
        ended(connection.info, connection.dialect, statement, None)

    def failed(context: Any) -> None:
        if context.connection is not None and context.statement is not None:
            ended(context.connection.info, context.dialect, context.statement, context.original_exception)

    def ended(info: Any, dialect: Any, statement: str, error: BaseException | None) -> None:
        started = info.pop(_STARTED, None)
        if started is not None:
            _record(session, dialect, operation_of(statement), started, error)

    for owner in (Engine, Dialect):
        if not owner._has_events:  # noqa: SLF001 -- see there
            session.undo_with(functools.partial(_forget_events, owner))
    _listen(session, Engine, before_cursor_execute=before, after_cursor_execute=after, handle_error=failed)


def _record(session: Session, dialect: Any, operation: str, started: float, error: BaseException | None) -> None:
    vitals = session.vitals
    if vitals is not None:
        system = _SYSTEMS.get(dialect.name, dialect.name)
        vitals.recorder.child(catalogue.DB_OPERATION_DURATION, system, operation, error_type(error)).observe(
            perf_counter() - started
        )


def _wrap_ending(session: Session, original: Callable[..., Any]) -> Callable[..., Any]:
    """Of a transaction, which has events for its end's beginning only."""
    operation = original.__name__.removeprefix("do_").upper()

    @functools.wraps(original)
    def end(self: Any, *args: Any, **kwargs: Any) -> Any:
        started = perf_counter()
        try:
            answer = original(self, *args, **kwargs)
        except BaseException as error:
            record(self, operation, started, error)
            raise
        record(self, operation, started, None)
        return answer

    record = _guarded(session, functools.partial(_record, session))
    return end


def _listen(session: Session, target: Any, **listeners: Callable[..., None]) -> None:
    for name, listener in listeners.items():
        guarded = _guarded(session, listener)
        event.listen(target, name, guarded)
        session.undo_with(functools.partial(event.remove, target, name, guarded))


def _forget_events(owner: Any) -> None:
    """SQLAlchemy notes on its class that somebody listens, but not when nobody does any more."""
    events = owner.dispatch
    if not any(getattr(events, name)._clslevel.get(owner) for name in events._event_names):  # noqa: SLF001 -- as it says
        owner._has_events = False  # noqa: SLF001


def _guarded(session: Session, listener: Callable[..., None]) -> Callable[..., None]:
    def listen(*args: Any) -> None:
        try:
            listener(*args)
        except Exception as fault:  # noqa: BLE001 -- an error here would fail the checkout
            vitals = session.vitals
            if vitals is not None:
                vitals.recorder.fault("sqlalchemy", fault)

    return listen


def _wrap(session: Session, pools: "_Pools", original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def connect(self: Any) -> Any:
        vitals = session.vitals
        if vitals is None or not hasattr(self, "checkedout"):
            return original(self)
        name, child = _name(self), vitals.recorder.child
        pending, wait = child(catalogue.POOL_PENDING_REQUESTS, name), child(catalogue.POOL_WAIT, name)
        started = perf_counter()
        pending.inc()
        try:
            return original(self)
        finally:
            pending.dec()
            wait.observe(perf_counter() - started)
            with vitals.recorder.guard("sqlalchemy"):
                pools.saw(vitals.recorder, self)

    return connect


def _name(pool: Any) -> str:
    return getattr(pool, "logging_name", None) or "sqlalchemy"


class _Pools:
    """The pools that somebody has taken a connection from, read when they are scraped."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._pools: weakref.WeakSet[Any] = weakref.WeakSet()
        self._shown: weakref.WeakKeyDictionary[Recorder, set[str]] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()
        session.undo_with(self._forget)

    def saw(self, recorder: Recorder, pool: Any) -> None:
        with self._lock:
            new = pool not in self._pools
            self._pools.add(pool)
        if new or recorder not in self._shown:
            self._session.look_at_scrape(recorder, self._look)
            self._look(recorder)

    def _look(self, recorder: Recorder) -> None:
        with self._lock:
            pools = list(self._pools)
        # Those whose pools are gone show zeros: their engines are likely to come back.
        numbers: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        numbers.update({name: [0, 0, 0] for name in self._shown.get(recorder, ())})
        unlimited = set()
        for pool in pools:
            name = _name(pool)
            numbers[name][0] += pool.checkedout()
            numbers[name][1] += pool.checkedin()
            overflow = pool._max_overflow  # noqa: SLF001 -- the limit is not public
            if overflow < 0:
                unlimited.add(name)
            numbers[name][2] += pool.size() + overflow
        for name, (used, idle, limit) in numbers.items():
            recorder.child(catalogue.POOL_CONNECTIONS, name, "used").set(used)
            recorder.child(catalogue.POOL_CONNECTIONS, name, "idle").set(idle)
            if limit and name not in unlimited:
                recorder.child(catalogue.POOL_MAX_CONNECTIONS, name).set(limit)
        self._shown[recorder] = set(numbers)

    def _forget(self) -> None:
        for recorder, names in list(self._shown.items()):
            for name in names:
                for state in ("used", "idle"):
                    recorder.forget(catalogue.POOL_CONNECTIONS, name, state)
                recorder.forget(catalogue.POOL_MAX_CONNECTIONS, name)
                recorder.forget(catalogue.POOL_PENDING_REQUESTS, name)
