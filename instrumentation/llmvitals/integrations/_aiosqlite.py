"""aiosqlite: the duration of statements, fetches, commits and rollbacks, the wait for the connection's thread included.

All that a connection does goes through one method, which hands it to the thread.
"""

import functools
import re
from collections.abc import Callable
from time import perf_counter
from typing import Any

import aiosqlite

from llmvitals import catalogue
from llmvitals._recording import error_type
from llmvitals.integrations._session import Session

_STATEMENTS = frozenset(
    {
        "ALTER", "ANALYZE", "ATTACH", "BEGIN", "COMMIT", "CREATE", "DELETE", "DETACH", "DROP", "END", "EXPLAIN",
        "INSERT", "PRAGMA", "REINDEX", "RELEASE", "REPLACE", "ROLLBACK", "SAVEPOINT", "SELECT", "UPDATE", "VACUUM",
        "VALUES", "WITH",
    }
)  # fmt: skip
_FIRST_WORD = re.compile(r"(?:\s+|--[^\n]*(?:\n|$)|/\*.*?\*/)*+([A-Za-z]+)", re.DOTALL)
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
        operation = _operation(fn, args) if vitals is not None else None
        if vitals is None or operation is None:
            return await original(self, fn, *args, **kwargs)
        started = perf_counter()
        failure: BaseException | None = None
        try:
            return await original(self, fn, *args, **kwargs)
        except BaseException as error:
            failure = error
            raise
        finally:
            vitals.recorder.child(catalogue.DB_OPERATION_DURATION, "sqlite", operation, error_type(failure)).observe(
                perf_counter() - started
            )
            del failure  # It refers to this frame.

    return execute


def _operation(fn: Any, args: tuple[Any, ...]) -> str | None:
    """The operation's name, one of few; None for what is none (cursors made and closed, settings)."""
    method = getattr(fn, "__name__", "")
    if method in _WITH_SQL and args and isinstance(args[0], str):
        found = _FIRST_WORD.match(args[0])
        word = found.group(1).upper() if found is not None else ""
        return word if word in _STATEMENTS else "_OTHER"
    return _WITHOUT_SQL.get(method)
