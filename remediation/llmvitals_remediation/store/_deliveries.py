"""The inbox's rows: what came, once, before anybody decides anything."""

import json
import sqlite3
import zlib
from dataclasses import dataclass
from typing import Literal

from llmvitals_remediation.inbox import Alert, Delivery
from llmvitals_remediation.store import _audit

_KEPT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one webhook delivery, after it is durable."""

    delivery_id: str
    result: Literal["accepted", "duplicate", "quarantined"]
    alerts: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class Event:
    """One stored change of an alert that the incident manager has not looked at yet."""

    id: int
    alert: Alert
    first_seen: float


def compress(body: bytes) -> bytes:
    """Evidence for a person: the first MiB, packed. Done by the caller's thread, not the writer's."""
    return zlib.compress(body[:_KEPT_BYTES], 1)


def accept(
    connection: sqlite3.Connection, *, delivery_id: str, body: bytes, size: int, told: Delivery, at: float
) -> Receipt:
    """Store a delivery; alerts that are known already are counted, not stored again."""
    reason = "; ".join(told.odd[:5]) or None
    # Written first, for the events refer to it; what became of it is known after them.
    connection.execute(
        "INSERT INTO deliveries (id, received_at, result, reason, alerts, size, body)"
        " VALUES (?, ?, 'accepted', ?, ?, ?, ?)",
        (delivery_id, at, reason, len(told.alerts), size, body),
    )
    fresh = sum(_event(connection, delivery_id, alert, at) for alert in told.alerts)
    if not told.alerts:
        connection.execute("UPDATE deliveries SET result = 'quarantined' WHERE id = ?", (delivery_id,))
        result: Literal["accepted", "duplicate", "quarantined"] = "quarantined"
    elif not fresh and not told.odd:
        connection.execute("UPDATE deliveries SET result = 'duplicate', body = NULL WHERE id = ?", (delivery_id,))
        result = "duplicate"
    else:
        result = "accepted"
    if told.odd:
        _audit.append(
            connection, at=at, who="inbox", event="set_aside", delivery=delivery_id, odd=len(told.odd), reason=reason
        )
    return Receipt(delivery_id, result, len(told.alerts), reason)


def _event(connection: sqlite3.Connection, delivery_id: str, alert: Alert, at: float) -> bool:
    """True when it is news."""
    row = connection.execute(
        "INSERT INTO alert_events (delivery_id, fingerprint, starts_at, status, ends_at, alertname, labels,"
        " annotations, first_seen, last_seen) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (fingerprint, starts_at, status, ends_at)"
        " DO UPDATE SET seen = seen + 1, last_seen = max(last_seen, excluded.last_seen) RETURNING seen, id",
        (
            delivery_id,
            alert.fingerprint,
            alert.starts_at,
            alert.status,
            alert.ends_at,
            alert.name,
            json.dumps(alert.labels),
            json.dumps(alert.annotations),
            at,
            at,
        ),
    ).fetchone()
    if row["seen"] == 1:
        return True
    if alert.status == "firing":
        connection.execute(
            "UPDATE incident_alerts SET seen = seen + 1, last_seen = max(last_seen, ?) WHERE fingerprint = ? AND"
            " starts_at = ? AND incident_id IN (SELECT id FROM incidents WHERE state <> 'closed')",
            (at, alert.fingerprint, alert.starts_at),
        )
        connection.execute(
            "UPDATE incidents SET duplicates = duplicates + 1 WHERE state <> 'closed' AND id IN"
            " (SELECT incident_id FROM incident_alerts WHERE fingerprint = ? AND starts_at = ?)",
            (alert.fingerprint, alert.starts_at),
        )
    return False


def unprocessed(connection: sqlite3.Connection, limit: int) -> list[Event]:
    rows = connection.execute("SELECT * FROM alert_events WHERE processed_at IS NULL ORDER BY id LIMIT ?", (limit,))
    return [Event(row["id"], _alert(row), row["first_seen"]) for row in rows]


def _alert(row: sqlite3.Row) -> Alert:
    return Alert(
        fingerprint=row["fingerprint"],
        status=row["status"],
        starts_at=row["starts_at"],
        ends_at=row["ends_at"],
        labels=json.loads(row["labels"]),
        annotations=json.loads(row["annotations"]),
    )


def mark_processed(connection: sqlite3.Connection, event_ids: list[int], at: float) -> None:
    connection.executemany("UPDATE alert_events SET processed_at = ? WHERE id = ?", [(at, id_) for id_ in event_ids])


def known(connection: sqlite3.Connection, fingerprint: str, starts_at: float) -> bool:
    """Whether a webhook brought this episode."""
    row = connection.execute(
        "SELECT 1 FROM alert_events WHERE fingerprint = ? AND starts_at = ? LIMIT 1", (fingerprint, starts_at)
    ).fetchone()
    return row is not None


def forget(connection: sqlite3.Connection, *, bodies_before: float, events_before: float) -> None:
    """Drop bodies, and later whole deliveries with their events, that are past their time. Incidents stay."""
    connection.execute("UPDATE deliveries SET body = NULL WHERE received_at < ? AND body IS NOT NULL", (bodies_before,))
    connection.execute("DELETE FROM alert_events WHERE processed_at IS NOT NULL AND last_seen < ?", (events_before,))
    connection.execute(
        "DELETE FROM deliveries WHERE received_at < ? AND NOT EXISTS"
        " (SELECT 1 FROM alert_events WHERE delivery_id = deliveries.id)",
        (events_before,),
    )
