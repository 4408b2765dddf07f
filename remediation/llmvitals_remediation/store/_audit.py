"""The append-only log. Each row's hash covers the row before it: a changed or missing row breaks the chain."""

import hashlib
import json
import sqlite3
from typing import Any

from llmvitals_remediation.clock import iso

GENESIS = "0" * 64


def append(
    connection: sqlite3.Connection, *, at: float, who: str, event: str, incident_id: str | None = None, **detail: Any
) -> None:
    """Add one row, inside the transaction of what it tells about."""
    row = connection.execute("SELECT hash FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
    previous = GENESIS if row is None else row["hash"]
    told = json.dumps(detail, sort_keys=True, ensure_ascii=True)
    connection.execute(
        "INSERT INTO audit (at, who, event, incident_id, detail, previous, hash) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (at, who, event, incident_id, told, previous, _hash(previous, at, who, event, incident_id, told)),
    )


def verify(connection: sqlite3.Connection) -> int | None:
    """The number of the first row that does not fit the chain; None when all do."""
    previous = GENESIS
    expected = 1
    for row in connection.execute("SELECT * FROM audit ORDER BY seq"):
        told = _hash(previous, row["at"], row["who"], row["event"], row["incident_id"], row["detail"])
        if row["seq"] != expected or row["previous"] != previous or row["hash"] != told:
            return int(row["seq"])
        previous = row["hash"]
        expected += 1
    return None


def as_json(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "seq": row["seq"],
        "at": iso(row["at"]),
        "who": row["who"],
        "event": row["event"],
        "incident_id": row["incident_id"],
        "detail": json.loads(row["detail"]),
        "hash": row["hash"],
    }


def _hash(previous: str, *told_of: float | str | None) -> str:
    told = json.dumps([previous, *told_of], ensure_ascii=True)
    return hashlib.sha256(told.encode()).hexdigest()
