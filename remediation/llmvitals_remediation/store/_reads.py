"""What people and programs are shown: rows as JSON, times as ISO 8601."""

import json
import sqlite3
from typing import Any

from llmvitals_remediation.clock import iso
from llmvitals_remediation.inbox import alertmanagers_fingerprint
from llmvitals_remediation.store import _audit

_INCIDENT_TIMES = (
    "alert_started_at",
    "received_at",
    "opened_at",
    "state_since",
    "next_at",
    "deadline_at",
    "quiet_since",
    "released_at",
    "closed_at",
)
_INCIDENT_TEXTS = (
    "id",
    "handler",
    "target",
    "service",
    "instance",
    "alertname",
    "state",
    "gate",
    "reason",
    "outcome",
    "attempts_used",
    "duplicates",
    "lease_id",
    "policy_hash",
)
# An alert that somebody was told of is looked for among this many of the newest.
_RECENT_ALERTS = 2000
_ATTEMPT_TIMES = ("planned_at", "started_at", "acted_at", "proved_at", "finished_at")
_ATTEMPT_TEXTS = ("id", "number", "state", "claim", "driver", "boot_id", "fence", "verb", "verdict", "error")


def incidents(
    connection: sqlite3.Connection, *, state: str | None, handler: str | None, limit: int
) -> list[dict[str, Any]]:
    """Newest first. *state* may be a state, or `active` for all that are not closed."""
    rows = connection.execute(
        "SELECT * FROM incidents WHERE (?1 IS NULL OR state = ?1 OR (?1 = 'active' AND state <> 'closed'))"
        " AND (?2 IS NULL OR handler = ?2) ORDER BY opened_at DESC, id LIMIT ?3",
        (state, handler, limit),
    ).fetchall()
    return [_incident(connection, row) for row in rows]


def incident(connection: sqlite3.Connection, incident_id: str) -> dict[str, Any] | None:
    row = connection.execute("SELECT * FROM incidents WHERE id = ?", (incident_id,)).fetchone()
    if row is None:
        return None
    told = _incident(connection, row)
    told["alerts"] = [
        {
            "fingerprint": alert["fingerprint"],
            "alertname": alert["alertname"],
            "labels": json.loads(alert["labels"]),
            "annotations": json.loads(alert["annotations"]),
            "starts_at": iso(alert["starts_at"]),
            "first_seen": iso(alert["first_seen"]),
            "last_seen": iso(alert["last_seen"]),
            "resolved_at": iso(alert["resolved_at"]),
            "seen": alert["seen"],
        }
        for alert in connection.execute(
            "SELECT * FROM incident_alerts WHERE incident_id = ? ORDER BY first_seen, fingerprint", (incident_id,)
        )
    ]
    told["timeline"] = [
        _audit.as_json(entry)
        for entry in connection.execute("SELECT * FROM audit WHERE incident_id = ? ORDER BY seq", (incident_id,))
    ]
    approval = connection.execute("SELECT * FROM approvals WHERE incident_id = ?", (incident_id,)).fetchone()
    told["approval"] = approval and {
        "requested_at": iso(approval["requested_at"]),
        "expires_at": iso(approval["expires_at"]),
        "decision": approval["decision"],
        "who": approval["who"],
        "why": approval["why"],
        "decided_at": iso(approval["decided_at"]),
    }
    return told


def incident_of_alert(connection: sqlite3.Connection, told: str) -> str | None:
    """The newest incident with the alert that Alertmanager calls *told*."""
    rows = connection.execute(
        "SELECT a.incident_id, a.labels FROM incidents i JOIN incident_alerts a ON a.incident_id = i.id"
        " ORDER BY i.opened_at DESC LIMIT ?",
        (_RECENT_ALERTS,),
    )
    return next(
        (row["incident_id"] for row in rows if alertmanagers_fingerprint(json.loads(row["labels"])) == told), None
    )


def audit(connection: sqlite3.Connection, limit: int) -> list[dict[str, Any]]:
    """Newest first."""
    rows = connection.execute("SELECT * FROM audit ORDER BY seq DESC LIMIT ?", (limit,))
    return [_audit.as_json(row) for row in rows]


def inbox(connection: sqlite3.Connection) -> tuple[int, float | None]:
    """Unprocessed events, and when the oldest came."""
    row = connection.execute(
        "SELECT count(*) AS n, min(first_seen) AS oldest FROM alert_events WHERE processed_at IS NULL"
    ).fetchone()
    return row["n"], row["oldest"]


def last_seen(connection: sqlite3.Connection, alertname: str) -> float | None:
    row = connection.execute(
        "SELECT max(last_seen) AS at FROM alert_events WHERE alertname = ? AND status = 'firing'", (alertname,)
    ).fetchone()
    at: float | None = row["at"]
    return at


def _incident(connection: sqlite3.Connection, row: sqlite3.Row) -> dict[str, Any]:
    told: dict[str, Any] = {name: row[name] for name in _INCIDENT_TEXTS}
    told |= {name: iso(row[name]) for name in _INCIDENT_TIMES}
    told["attempts"] = [
        _attempt(attempt)
        for attempt in connection.execute("SELECT * FROM attempts WHERE incident_id = ? ORDER BY number", (row["id"],))
    ]
    return told


def _attempt(row: sqlite3.Row) -> dict[str, Any]:
    told: dict[str, Any] = {name: row[name] for name in _ATTEMPT_TEXTS}
    told |= {name: iso(row[name]) for name in _ATTEMPT_TIMES}
    told["parameters"] = json.loads(row["parameters"])
    told["result"] = None if row["result"] is None else json.loads(row["result"])
    return told
