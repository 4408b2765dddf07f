"""Attempts' rows. The intent is durable before anything is sent; what came of it is written when it is known."""

import json
import sqlite3

from llmvitals_remediation.errors import ConflictError
from llmvitals_remediation.records import UNDECIDED, Attempt, Change, Conclusion, Incident, Plan, Report
from llmvitals_remediation.store import _audit, _controls, _history, _incidents

COLUMNS = tuple(Attempt.__dataclass_fields__)


def read(row: sqlite3.Row) -> Attempt:
    values = {name: row[name] for name in COLUMNS}
    values["parameters"] = json.loads(values["parameters"])
    return Attempt(**values)


def latest(connection: sqlite3.Connection, incident_id: str) -> Attempt | None:
    row = connection.execute(
        "SELECT * FROM attempts WHERE incident_id = ? ORDER BY number DESC LIMIT 1", (incident_id,)
    ).fetchone()
    return None if row is None else read(row)


def begin(connection: sqlite3.Connection, incident: Incident, plan: Plan, now: float) -> Attempt:
    """Commit the intent: claim the slot, take the next fence, and move the incident to `executing`.

    Everything that may have changed since the gates looked is looked at again here, inside the transaction.

    Raises:
        ConflictError: the kill switch was engaged, the slots are taken, or the incident has moved on.
    """
    if _controls.read(connection).kill_switch:
        raise ConflictError("the kill switch was engaged meanwhile")
    executing = [row["claim"] for row in connection.execute("SELECT claim FROM attempts WHERE state = 'executing'")]
    if len(executing) >= plan.max_executing or plan.claim in executing:
        raise ConflictError("the slot was taken meanwhile")
    attempt_id = _incidents.new_id()
    fence = next_fence(connection)
    connection.execute(
        "INSERT INTO attempts (id, incident_id, number, handler, service, state, instance, claim, driver, boot_id,"
        " fence, verb, parameters, planned_at, expires_at)"
        " VALUES (?,?,?,?,?,'executing',?,?,?,?,?,?,?,?,?)",
        (
            attempt_id,
            incident.id,
            incident.attempts_used + 1,
            incident.handler,
            incident.service,
            plan.instance,
            plan.claim,
            plan.driver,
            plan.boot_id,
            fence,
            plan.verb,
            json.dumps(dict(plan.parameters)),
            now,
            plan.expires_at,
        ),
    )
    change = Change(
        "intent",
        "executing",
        next_at=now,
        deadline_at=plan.deadline_at,
        columns={"healthy_since": None},
        detail={"attempt": attempt_id, "number": incident.attempts_used + 1, "verb": plan.verb, "on": plan.claim},
    )
    _incidents.apply(connection, incident.id, UNDECIDED, change, now)
    connection.execute("UPDATE incidents SET attempts_used = attempts_used + 1 WHERE id = ?", (incident.id,))
    _history.claim_probe(connection, incident.handler, incident.service, incident.id)
    row = connection.execute("SELECT * FROM attempts WHERE id = ?", (attempt_id,)).fetchone()
    return read(row)


def next_fence(connection: sqlite3.Connection) -> int:
    """A number above every one given before, over restarts too."""
    row = connection.execute(
        "INSERT INTO meta (key, value) VALUES ('fence', '1')"
        " ON CONFLICT (key) DO UPDATE SET value = CAST(value AS INTEGER) + 1 RETURNING value"
    ).fetchone()
    return int(row["value"])


def refence(connection: sqlite3.Connection, attempt_id: str, expires_at: float) -> Attempt:
    """The same attempt, to be asked about again after a restart: a new fence, for others may have been seen since."""
    row = connection.execute(
        "UPDATE attempts SET fence = ?, expires_at = ? WHERE id = ? RETURNING *",
        (next_fence(connection), expires_at, attempt_id),
    ).fetchone()
    return read(row)


def started(connection: sqlite3.Connection, attempt: Attempt, now: float) -> None:
    connection.execute("UPDATE attempts SET started_at = coalesce(started_at, ?) WHERE id = ?", (now, attempt.id))
    _audit.append(
        connection, at=now, who="engine", event="started", incident_id=attempt.incident_id, attempt=attempt.id
    )


def acted(connection: sqlite3.Connection, attempt: Attempt, report: Report, change: Change, now: float) -> None:
    """The act is over, as far as anybody knows: from `executing` to the proof."""
    _report(connection, attempt, report, now)
    connection.execute("UPDATE attempts SET state = 'verifying' WHERE id = ?", (attempt.id,))
    _incidents.apply(connection, attempt.incident_id, ("executing",), change, now)


def finish(
    connection: sqlite3.Connection, attempt: Attempt, conclusion: Conclusion, change: Change, now: float
) -> None:
    """Write the verdict, and the incident's next step, together. A success is a proof from now."""
    if conclusion.report is not None:
        _report(connection, attempt, conclusion.report, now)
    effective = conclusion.verdict == "effective"
    connection.execute(
        "UPDATE attempts SET state = 'done', verdict = ?, finished_at = ?, proved_at = ?, error = coalesce(error, ?)"
        " WHERE id = ?",
        (conclusion.verdict, now, now if effective else None, conclusion.reason, attempt.id),
    )
    if conclusion.counts:
        row = connection.execute("SELECT alertname FROM incidents WHERE id = ?", (attempt.incident_id,)).fetchone()
        _history.count_effect(connection, attempt.handler, row["alertname"], effective)
    _incidents.apply(connection, attempt.incident_id, ("executing", "verifying"), change, now)


def _report(connection: sqlite3.Connection, attempt: Attempt, report: Report, now: float) -> None:
    told = None if report.result is None else json.dumps(dict(report.result))
    connection.execute(
        "UPDATE attempts SET answer = ?, acted_at = ?, result = ?, error = ? WHERE id = ?",
        (report.answer, None if report.answer == "refused" else now, told, report.error, attempt.id),
    )


def executing(connection: sqlite3.Connection) -> int:
    (count,) = connection.execute("SELECT count(*) FROM attempts WHERE state = 'executing'").fetchone()
    return int(count)
