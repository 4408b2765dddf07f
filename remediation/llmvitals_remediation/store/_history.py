"""What happened before, as gates ask about it: breakers, cooldowns, rates, effectiveness."""

import sqlite3

from llmvitals_remediation.records import Breaker, BreakerRule, Past
from llmvitals_remediation.store import _audit

DAY = 86_400.0


def past(
    connection: sqlite3.Connection,
    *,
    incident_id: str,
    handler: str,
    service: str,
    target: str,
    alertname: str,
    relapse_seconds: float,
    storm_seconds: float,
    now: float,
) -> Past:
    def column(sql: str, *values: object) -> tuple[float, ...]:
        return tuple(row[0] for row in connection.execute(sql, values))

    (last_closed,) = connection.execute(
        "SELECT max(closed_at) FROM incidents WHERE handler = ? AND target = ? AND attempts_used > 0 AND id <> ?",
        (handler, target, incident_id),
    ).fetchone()
    (troubled,) = connection.execute(
        "SELECT count(DISTINCT target) FROM incidents WHERE handler = ? AND service = ? AND state <> 'closed'",
        (handler, service),
    ).fetchone()
    effect = connection.execute(
        "SELECT tried, effective FROM effectiveness WHERE handler = ? AND alertname = ?", (handler, alertname)
    ).fetchone()
    approval = connection.execute("SELECT decision FROM approvals WHERE incident_id = ?", (incident_id,)).fetchone()
    claims = frozenset(row[0] for row in connection.execute("SELECT claim FROM attempts WHERE state = 'executing'"))
    return Past(
        last_closed_at=last_closed,
        acted_closed=column(
            "SELECT opened_at FROM incidents WHERE handler = ? AND target = ? AND attempts_used > 0 AND id <> ?"
            " AND closed_at > ? ORDER BY opened_at",
            handler,
            target,
            incident_id,
            now - relapse_seconds,
        ),
        attempts=column(
            "SELECT planned_at FROM attempts WHERE handler = ? AND planned_at > ? ORDER BY planned_at",
            handler,
            now - DAY,
        ),
        opened=column("SELECT opened_at FROM incidents WHERE opened_at > ? ORDER BY opened_at", now - storm_seconds),
        troubled=troubled,
        breaker=breaker(connection, handler, service),
        tried=0 if effect is None else effect["tried"],
        effective=0 if effect is None else effect["effective"],
        executing=len(claims),
        executing_claims=claims,
        approval=None if approval is None else approval["decision"],
    )


def breaker(connection: sqlite3.Connection, handler: str, service: str) -> Breaker:
    row = connection.execute(
        "SELECT failures, open_until, probe FROM breakers WHERE handler = ? AND service = ?", (handler, service)
    ).fetchone()
    return Breaker(0, None, None) if row is None else Breaker(row["failures"], row["open_until"], row["probe"])


def open_breakers(connection: sqlite3.Connection) -> dict[tuple[str, str], bool]:
    rows = connection.execute("SELECT handler, service, open_until FROM breakers")
    return {(row["handler"], row["service"]): row["open_until"] is not None for row in rows}


def judge(
    connection: sqlite3.Connection,
    handler: str,
    service: str,
    *,
    incident_id: str,
    failed: bool,
    rule: BreakerRule | None,
    now: float,
) -> None:
    """Count a closed incident. A failed probe opens the breaker again at once; a success closes it."""
    before = breaker(connection, handler, service)
    failures = before.failures + 1 if failed else 0
    probing = before.probe == incident_id
    opens = False
    open_until = before.open_until if failed else None
    if failed and rule is not None and (failures >= rule.failures or probing):
        opens, open_until = True, now + rule.open_seconds
    connection.execute(
        "INSERT INTO breakers (handler, service, failures, open_until, probe) VALUES (?, ?, ?, ?, NULL)"
        " ON CONFLICT (handler, service) DO UPDATE SET failures = excluded.failures, open_until = excluded.open_until,"
        " probe = CASE WHEN ? OR excluded.open_until IS NULL THEN NULL ELSE probe END",
        (handler, service, failures, open_until, probing),
    )
    if opens or (before.open_until is not None and open_until is None):
        _audit.append(
            connection,
            at=now,
            who="engine",
            event="breaker_opened" if opens else "breaker_closed",
            incident_id=incident_id,
            handler=handler,
            service=service,
            failures=failures,
        )


def claim_probe(connection: sqlite3.Connection, handler: str, service: str, incident_id: str) -> None:
    """The one incident that may act while the breaker is half open."""
    connection.execute(
        "UPDATE breakers SET probe = ? WHERE handler = ? AND service = ? AND open_until IS NOT NULL AND probe IS NULL",
        (incident_id, handler, service),
    )


def release_probe(connection: sqlite3.Connection, incident_id: str) -> None:
    """A probe that ended without a verdict: the next incident may try."""
    connection.execute("UPDATE breakers SET probe = NULL WHERE probe = ?", (incident_id,))


def count_effect(connection: sqlite3.Connection, handler: str, alertname: str, effective: bool) -> None:
    connection.execute(
        "INSERT INTO effectiveness (handler, alertname, tried, effective) VALUES (?, ?, 1, ?)"
        " ON CONFLICT (handler, alertname) DO UPDATE SET tried = tried + 1, effective = effective + excluded.effective",
        (handler, alertname, int(effective)),
    )


def effectiveness(connection: sqlite3.Connection) -> dict[str, tuple[int, int]]:
    """Tried and effective, by handler, over all its alerts."""
    rows = connection.execute(
        "SELECT handler, sum(tried) AS t, sum(effective) AS e FROM effectiveness GROUP BY handler"
    )
    return {row["handler"]: (row["t"], row["e"]) for row in rows}
