"""What people set by hand: the kill switch, handlers' modes, approvals."""

import sqlite3
from typing import Any

from llmvitals_remediation.errors import ConflictError, NotFoundError
from llmvitals_remediation.records import UNDECIDED, Change, Controls
from llmvitals_remediation.store import _audit, _incidents


def read(connection: sqlite3.Connection) -> Controls:
    rows = {row["key"]: row["value"] for row in connection.execute("SELECT key, value FROM controls")}
    modes = {key.removeprefix("mode:"): value for key, value in rows.items() if key.startswith("mode:")}
    return Controls(kill_switch=rows.get("kill_switch") == "engaged", modes=modes)


def kill_switch(connection: sqlite3.Connection) -> dict[str, Any]:
    row = connection.execute("SELECT value, who, why, at FROM controls WHERE key = 'kill_switch'").fetchone()
    if row is None:
        return {"engaged": False, "who": None, "why": None, "at": None}
    return {"engaged": row["value"] == "engaged", "who": row["who"], "why": row["why"], "at": row["at"]}


def set_value(connection: sqlite3.Connection, key: str, value: str | None, *, who: str, why: str, now: float) -> None:
    """Set a control, or with None take it back. The audit row comes in the same commit."""
    if value is None:
        connection.execute("DELETE FROM controls WHERE key = ?", (key,))
    else:
        connection.execute(
            "INSERT OR REPLACE INTO controls (key, value, who, why, at) VALUES (?, ?, ?, ?, ?)",
            (key, value, who, why, now),
        )
    _audit.append(connection, at=now, who=who, event="control", control=key, value=value, why=why)
    _incidents.wake_waiting(connection, now, key.removeprefix("mode:") if key.startswith("mode:") else None)


def ask(connection: sqlite3.Connection, incident_id: str, expires_at: float, now: float) -> None:
    connection.execute(
        "INSERT INTO approvals (incident_id, requested_at, expires_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (incident_id, now, expires_at),
    )


def decide(
    connection: sqlite3.Connection,
    incident_id: str,
    decision: str,
    *,
    who: str,
    why: str,
    deadline_at: float,
    now: float,
) -> None:
    """Approve, with time until *deadline_at* to act on it; or veto.

    Raises:
        NotFoundError: no such incident.
        ConflictError: it does not wait for approval, or was decided already. A veto may come while nothing is sent yet.
    """
    incident = _incidents.find(connection, incident_id)
    if incident is None:
        raise NotFoundError(f"there is no incident {incident_id}")
    if decision == "approved":
        if incident.state != "awaiting_approval":
            raise ConflictError(f"incident {incident_id} is {incident.state}: it does not wait for approval")
        change = Change("approved", "open", reason=why, next_at=now, deadline_at=deadline_at, who=who)
        _incidents.apply(connection, incident_id, ("awaiting_approval",), change, now)
    else:
        if incident.state not in UNDECIDED:
            raise ConflictError(f"incident {incident_id} is {incident.state}: too late for a veto")
        change = Change("vetoed", "closed", reason=why, outcome="vetoed", spent=True, who=who)
        _incidents.apply(connection, incident_id, UNDECIDED, change, now)
    connection.execute(
        "INSERT INTO approvals (incident_id, requested_at, expires_at, decision, who, why, decided_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (incident_id)"
        " DO UPDATE SET decision = excluded.decision, who = excluded.who, why = excluded.why,"
        " decided_at = excluded.decided_at",
        (incident_id, now, now, decision, who, why, now),
    )


def expire(connection: sqlite3.Connection, incident_id: str, now: float) -> None:
    connection.execute(
        "UPDATE approvals SET decision = 'expired', decided_at = ? WHERE incident_id = ? AND decision IS NULL",
        (now, incident_id),
    )
