"""Incidents' rows: opening one (or not), attaching to it, and every step it takes."""

import json
import sqlite3
import uuid
from typing import Any, get_args

from llmvitals_remediation.errors import ConflictError
from llmvitals_remediation.records import Change, Incident, KnownAlert, Opening, State
from llmvitals_remediation.store import _audit, _history

COLUMNS = tuple(Incident.__dataclass_fields__)
_OWN = {"healthy_since", "lease_id", "lease_renew_at", "quiet_since", "released_at"}


def new_id() -> str:
    return uuid.uuid4().hex


def read(row: sqlite3.Row) -> Incident:
    return Incident(*(row[name] for name in COLUMNS))


def find(connection: sqlite3.Connection, incident_id: str) -> Incident | None:
    row = connection.execute("SELECT * FROM incidents WHERE id = ?", (incident_id,)).fetchone()
    return None if row is None else read(row)


def active(connection: sqlite3.Connection, *, due_at: float | None = None) -> list[Incident]:
    """Incidents that are not closed; with *due_at*, only those whose time has come, longest waiting first."""
    rows = connection.execute(
        "SELECT * FROM incidents WHERE state <> 'closed' AND (next_at <= ? OR deadline_at <= ?) ORDER BY next_at",
        (1e300, 1e300) if due_at is None else (due_at, due_at),
    )
    return [read(row) for row in rows]


def next_due(connection: sqlite3.Connection) -> float | None:
    (at,) = connection.execute("SELECT min(next_at) FROM incidents WHERE state <> 'closed'").fetchone()
    due: float | None = at
    return due


def alerts(connection: sqlite3.Connection, incident_id: str) -> list[KnownAlert]:
    rows = connection.execute(
        "SELECT * FROM incident_alerts WHERE incident_id = ? ORDER BY first_seen, fingerprint", (incident_id,)
    )
    return [
        KnownAlert(
            row["fingerprint"], row["starts_at"], json.loads(row["labels"]), row["last_seen"], row["resolved_at"]
        )
        for row in rows
    ]


def open_or_attach(connection: sqlite3.Connection, opening: Opening, now: float) -> tuple[str, str | None]:
    """Returns ("opened" | "attached" | "ignored", incident id).

    An alert goes on firing after a good fix (look-back windows) and after we gave up: neither may open incident after
    incident, so an episode that people have is left to them, and one that was remediated waits for the cooldown.
    """
    row = connection.execute(
        "SELECT id FROM incidents WHERE handler = ? AND target = ? AND state <> 'closed'",
        (opening.handler, opening.target),
    ).fetchone()
    if row is not None:
        _attach(connection, row["id"], opening, now)
        return "attached", row["id"]
    last = last_of(connection, opening)
    if last is not None and (
        last["spent"] or (last["outcome"] == "remediated" and now < last["closed_at"] + opening.cooldown_seconds)
    ):
        return "ignored", None
    incident_id = new_id()
    connection.execute(
        "INSERT INTO incidents (id, handler, target, service, instance, alertname, state, alert_started_at,"
        " received_at, opened_at, state_since, next_at, deadline_at, policy_hash)"
        " VALUES (?,?,?,?,?,?,'open',?,?,?,?,?,?,?)",
        (
            incident_id,
            opening.handler,
            opening.target,
            opening.service,
            opening.instance,
            opening.labels["alertname"],
            opening.starts_at,
            opening.received_at,
            now,
            now,
            now,
            now + opening.deadline_seconds,
            opening.policy_hash,
        ),
    )
    _attach(connection, incident_id, opening, now)
    _audit.append(
        connection,
        at=now,
        who=opening.source,
        event="opened",
        incident_id=incident_id,
        handler=opening.handler,
        target=opening.target,
        alert=opening.labels["alertname"],
    )
    return "opened", incident_id


def last_of(connection: sqlite3.Connection, opening: Opening) -> sqlite3.Row | None:
    """The latest closed incident of the same episode of the same alert."""
    row: sqlite3.Row | None = connection.execute(
        "SELECT i.outcome, i.spent, i.closed_at FROM incident_alerts a JOIN incidents i ON i.id = a.incident_id"
        " WHERE a.fingerprint = ? AND a.starts_at = ? AND i.handler = ? AND i.target = ? AND i.state = 'closed'"
        " ORDER BY i.closed_at DESC LIMIT 1",
        (opening.fingerprint, opening.starts_at, opening.handler, opening.target),
    ).fetchone()
    return row


def _attach(connection: sqlite3.Connection, incident_id: str, opening: Opening, now: float) -> None:
    connection.execute(
        "INSERT INTO incident_alerts (incident_id, fingerprint, starts_at, alertname, labels, annotations, first_seen,"
        " last_seen) VALUES (?,?,?,?,?,?,?,?) ON CONFLICT (incident_id, fingerprint) DO UPDATE SET"
        " starts_at = max(starts_at, excluded.starts_at), last_seen = max(last_seen, excluded.last_seen),"
        " resolved_at = NULL",
        (
            incident_id,
            opening.fingerprint,
            opening.starts_at,
            opening.labels["alertname"],
            json.dumps(dict(opening.labels)),
            json.dumps(dict(opening.annotations)),
            opening.received_at,
            now,
        ),
    )
    # Another alert may be what the gates were waiting for.
    connection.execute(
        "UPDATE incidents SET next_at = min(next_at, ?) WHERE id = ? AND state IN ('open', 'gated')", (now, incident_id)
    )


def note_resolved(connection: sqlite3.Connection, fingerprint: str, starts_at: float, now: float) -> list[str]:
    """Write down that an alert is said to be over; returns the active incidents that carry it."""
    rows = connection.execute(
        "UPDATE incident_alerts SET resolved_at = ? WHERE fingerprint = ? AND starts_at <= ? AND resolved_at IS NULL"
        " AND incident_id IN (SELECT id FROM incidents WHERE state <> 'closed') RETURNING incident_id",
        (now, fingerprint, starts_at),
    ).fetchall()
    touched = [row["incident_id"] for row in rows]
    for incident_id in touched:
        connection.execute(
            "UPDATE incidents SET next_at = min(next_at, ?) WHERE id = ? AND state <> 'scheduled'", (now, incident_id)
        )
        _audit.append(connection, at=now, who="webhook", event="resolved", incident_id=incident_id, alert=fingerprint)
    return touched


def apply(
    connection: sqlite3.Connection, incident_id: str, expected: tuple[State, ...], change: Change, now: float
) -> None:
    """Take a step.

    Raises:
        ConflictError: the incident is in none of the *expected* states any more.
    """
    row = connection.execute("SELECT * FROM incidents WHERE id = ?", (incident_id,)).fetchone()
    if row is None or row["state"] not in expected:
        found = "gone" if row is None else row["state"]
        raise ConflictError(f"incident {incident_id} is {found}, not {' or '.join(expected)}")
    values = _values(row, change, now)
    assignments = ", ".join(f"{name} = ?" for name in values)
    connection.execute(f"UPDATE incidents SET {assignments} WHERE id = ?", (*values.values(), incident_id))  # noqa: S608 -- names from this file
    if change.state == "closed" and change.failed is not None:
        _history.judge(
            connection,
            row["handler"],
            row["service"],
            incident_id=incident_id,
            failed=change.failed,
            rule=change.breaker,
            now=now,
        )
    elif change.state == "closed":
        _history.release_probe(connection, incident_id)
    detail = {"state": change.state, **change.detail}
    for name in ("gate", "reason", "outcome"):
        if (value := getattr(change, name)) is not None:
            detail[name] = value
    _audit.append(connection, at=now, who=change.who, event=change.event, incident_id=incident_id, **detail)


def _values(row: sqlite3.Row, change: Change, now: float) -> dict[str, Any]:
    values: dict[str, Any] = {
        "state": change.state,
        "gate": change.gate,
        "reason": change.reason,
        "next_at": change.next_at,
    }
    if change.state != row["state"] or change.gate != row["gate"]:
        values["state_since"] = now
    if change.deadline_at is not None:
        values["deadline_at"] = change.deadline_at
    if change.state == "closed":
        values |= {"outcome": change.outcome, "closed_at": now, "spent": int(change.spent)}
    if unknown := set(change.columns) - _OWN:
        raise AssertionError(unknown)
    return values | dict(change.columns)


def postpone(connection: sqlite3.Connection, incident_id: str, next_at: float) -> None:
    """Look again later, with nothing changed: not worth a line in the log."""
    connection.execute("UPDATE incidents SET next_at = ? WHERE id = ? AND state <> 'closed'", (next_at, incident_id))


def watch(connection: sqlite3.Connection, incident_id: str, next_at: float, healthy_since: float | None) -> None:
    connection.execute(
        "UPDATE incidents SET next_at = ?, healthy_since = ? WHERE id = ? AND state = 'verifying'",
        (next_at, healthy_since, incident_id),
    )


def hold(connection: sqlite3.Connection, incident_id: str, next_at: float, quiet_since: float | None) -> None:
    connection.execute(
        "UPDATE incidents SET next_at = ?, quiet_since = ? WHERE id = ? AND state = 'holding'",
        (next_at, quiet_since, incident_id),
    )


def renewed(connection: sqlite3.Connection, incident_id: str, renew_at: float) -> None:
    connection.execute(
        "UPDATE incidents SET lease_renew_at = ? WHERE id = ? AND lease_id IS NOT NULL", (renew_at, incident_id)
    )


def wake_waiting(connection: sqlite3.Connection, now: float, handler: str | None = None) -> None:
    """Have waiting incidents looked at now: a person changed what gates go by. Backoffs stay."""
    connection.execute(
        "UPDATE incidents SET next_at = min(next_at, ?) WHERE state IN ('open', 'gated', 'awaiting_approval')"
        " AND (? IS NULL OR handler = ?)",
        (now, handler, handler),
    )


def states(connection: sqlite3.Connection) -> dict[str, int]:
    found = dict.fromkeys(get_args(State), 0)
    del found["closed"]
    for row in connection.execute("SELECT state, count(*) AS n FROM incidents WHERE state <> 'closed' GROUP BY state"):
        found[row["state"]] = row["n"]
    return found
