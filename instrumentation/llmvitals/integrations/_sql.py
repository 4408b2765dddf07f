"""What statements are called in labels, and whose statements they are when one library works through another."""

import re
import weakref
from typing import Any

_STATEMENTS = frozenset(
    {
        "ALTER", "ANALYZE", "ATTACH", "BEGIN", "CALL", "COMMIT", "COPY", "CREATE", "DECLARE", "DELETE", "DETACH", "DO",
        "DROP", "END", "EXECUTE", "EXPLAIN", "FETCH", "GRANT", "INSERT", "LOCK", "MERGE", "PRAGMA", "REINDEX",
        "RELEASE", "REPLACE", "REVOKE", "ROLLBACK", "SAVEPOINT", "SELECT", "SET", "SHOW", "TRUNCATE", "UPDATE", "USE",
        "VACUUM", "VALUES", "WITH",
    }
)  # fmt: skip
_FIRST_WORD = re.compile(r"(?:\s+|--[^\n]*(?:\n|$)|/\*.*?\*/)*+([A-Za-z]+)", re.DOTALL)


def operation_of(statement: str) -> str:
    """The statement's first word, when that is one of few; else ``_OTHER``."""
    found = _FIRST_WORD.match(statement)
    word = found.group(1).upper() if found is not None else ""
    return word if word in _STATEMENTS else "_OTHER"


spoken_for: "weakref.WeakSet[Any]" = weakref.WeakSet()
"""Connections of a driver through which another library works, which tells of its statements itself."""
