"""aiosqlite: the duration of statements, fetches, commits and rollbacks, the wait for the connection's thread included,
and that wait by itself.

All that a connection does goes through one method, which hands it to the thread.
"""

import functools
from collections.abc import Callable
from time import perf_counter
from typing import Any

import aiosqlite

from llmvitals import _work_families as families
from llmvitals import catalogue
from llmvitals._recording import error_type
from llmvitals._vitals import Vitals
from llmvitals.integrations._session import Session
from llmvitals.integrations._sql import operation_of, spoken_for

_WITH_SQL = frozenset({"execute", "executemany", "_execute_insert", "_execute_fetchall"})
_WITHOUT_SQL = {
    "commit": "COMMIT",
    "executescript": "SCRIPT",
    "fetchall": "FETCH",
    "fetchmany": "FETCH",
    "fetchone": "FETCH",
    "rollback": "ROLLBACK",
}


def install(session: Session) -> None:
    session.patch(aiosqlite.Connection, "_execute", functools.partial(_wrap, session))


def _wrap(session: Session, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def execute(self: Any, fn: Any, *args: Any, **kwargs: Any) -> Any:
        vitals = session.vitals
        if vitals is None:
            return await original(self, fn, *args, **kwargs)
        operation = _operation(fn, args)
        started = perf_counter()
        if operation is None or self in spoken_for:
            return await original(self, _waited(vitals, fn, started), *args, **kwargs)
        failure: BaseException | None = None
        try:
            return await original(self, _waited(vitals, fn, started), *args, **kwargs)
        except BaseException as error:
            failure = error
            raise
        finally:
            vitals.recorder.child(catalogue.DB_OPERATION_DURATION, "sqlite", operation, error_type(failure)).observe(
                perf_counter() - started
            )
            del failure  # It refers to this frame.

    return execute


def _waited(vitals: Vitals, fn: Callable[..., Any], started: float) -> Callable[..., Any]:
    """*fn*, to be called in the connection's thread; that it has come to its turn is told first."""

    @functools.wraps(fn)
    def in_thread(*args: Any, **kwargs: Any) -> Any:
        vitals.recorder.child(families.DB_QUEUE_WAIT, "sqlite").observe(perf_counter() - started)
        return fn(*args, **kwargs)

    return in_thread


def _operation(fn: Any, args: tuple[Any, ...]) -> str | None:
    """The operation's name, one of few; None for what is none (cursors made and closed, settings)."""
    method = getattr(fn, "__name__", "")
    if method in _WITH_SQL and args and isinstance(args[0], str):
        return operation_of(args[0])
    return _WITHOUT_SQL.get(method)
