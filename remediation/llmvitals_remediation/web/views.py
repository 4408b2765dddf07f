"""What the pages show, made from the JSON that the API tells. No HTML here: the templates escape every text."""

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from llmvitals_remediation.records import UNDECIDED
from llmvitals_remediation.web import words

Row = Mapping[str, Any]


def incident(told: Row) -> dict[str, Any]:
    """One line of a list, and the head of the incident's page."""
    text, tone = words.state(told)
    is_closed = told.get("state") == "closed"
    waits = told.get("state") == "awaiting_approval"
    return {
        "id": told.get("id"),
        "handler": told.get("handler"),
        "service": told.get("service"),
        "instance": told.get("instance"),
        "alertname": told.get("alertname"),
        "state": text,
        "tone": tone,
        "note": _note(told),
        "reason": "" if told.get("outcome") == "remediated" else _reason(told),
        "at": told.get("closed_at") if is_closed else told.get("opened_at"),
        "active": not is_closed,
        "decidable": waits,
        "vetoable": told.get("state") in UNDECIDED,
        "decide_by": (told.get("approval") or {}).get("expires_at") or (told.get("deadline_at") if waits else None),
    }


def figures(told: Row) -> list[tuple[str, str]]:
    """The times that matter: how long until something was done, until it was proved, until it was over."""
    attempts = told.get("attempts") or []
    first: Row = next((attempt for attempt in attempts if attempt.get("acted_at")), {})
    proved: Row = next((attempt for attempt in attempts if attempt.get("proved_at")), {})
    started = told.get("alert_started_at")
    candidates = [
        ("Alert to action", words.span(started, first.get("acted_at"))),
        ("Action to proof", words.span(proved.get("acted_at"), proved.get("proved_at"))),
        ("Alert to end", words.span(started, told.get("closed_at"))),
        ("Attempts", str(told["attempts_used"]) if told.get("attempts_used") else None),
        ("Repeats absorbed", str(told["duplicates"]) if told.get("duplicates") else None),
    ]
    return [(name, value) for name, value in candidates if value is not None]


def steps(told: Row) -> list[dict[str, Any]]:
    """The time line: alert, webhook, action, proof, release, end; each with the time since the one before."""
    found = [
        _step(told.get("alert_started_at"), f"{told.get('alertname')} began to fire"),
        _step(told.get("received_at"), "The alert reached this service"),
        _step(told.get("opened_at"), "The incident was opened"),
    ]
    for attempt in told.get("attempts") or []:
        found += _attempt_steps(attempt)
    approval = told.get("approval") or {}
    if approval:
        found.append(_step(approval.get("requested_at"), "A person was asked"))
        found.append(
            _step(
                approval.get("decided_at"),
                f"{str(approval.get('decision')).capitalize()} by {approval.get('who') or 'nobody in time'}",
                detail=approval.get("why"),
                tone="key",
            )
        )
    found.append(_step(told.get("released_at"), "The change was put back", tone="key"))
    text, tone = words.state({**told, "state": "closed"})
    found.append(
        _step(
            told.get("closed_at"),
            f"Closed: {text}",
            detail=None if told.get("outcome") == "remediated" else words.plain(told.get("reason")),
            tone="bad" if tone == "red" else "key",
        )
    )
    known = sorted((step for step in found if step["at"]), key=lambda step: str(step["at"]))
    for before, step in itertools.pairwise(known):
        step["gap"] = words.span(before["at"], step["at"])
    return known


def attempts(told: Row) -> list[dict[str, Any]]:
    shown = []
    for attempt in told.get("attempts") or []:
        text, tone = words.verdict(attempt)
        facts = [
            ("On", attempt.get("claim")),
            ("Through", attempt.get("driver")),
            ("Parameters", words.detail(attempt.get("parameters"))),
            ("Result", words.detail(attempt.get("result"))),
            ("Because" if attempt.get("verdict") else "Error", words.plain(attempt.get("error"))),
            ("Boot id", attempt.get("boot_id")),
            ("Id", attempt.get("id")),
        ]
        shown.append(
            {
                "number": attempt.get("number"),
                "verb": attempt.get("verb"),
                "verdict": text,
                "tone": tone,
                "facts": [(name, value) for name, value in facts if value],
            }
        )
    return shown


def alerts(told: Row, runbook_of: Callable[[object], str | None]) -> list[dict[str, Any]]:
    """*runbook_of* an alert's name: where its runbook is, if there is one."""
    shown = []
    for alert in told.get("alerts") or []:
        labels = alert.get("labels") or {}
        annotations = alert.get("annotations") or {}
        over = alert.get("resolved_at")
        seen = f"seen {alert['seen']} times" if (alert.get("seen") or 0) > 1 else "seen once"
        name = alert.get("alertname") or labels.get("alertname")
        shown.append(
            {
                "name": name,
                "runbook": runbook_of(name),
                "summary": annotations.get("summary") or annotations.get("description"),
                "labels": sorted(labels.items()),
                "note": f"{seen}, said to be over at {words.clock(over)}" if over else seen,
            }
        )
    return shown


def audit(rows: Iterable[Row]) -> list[dict[str, Any]]:
    return [
        {
            "at": row.get("at"),
            "who": row.get("who"),
            "event": words.phrase(row.get("event")),
            "incident": row.get("incident_id"),
            "detail": words.detail(row.get("detail")),
        }
        for row in rows
    ]


def _step(at: object, text: str, *, detail: object = None, tone: str = "") -> dict[str, Any]:
    return {"at": at, "text": text, "detail": detail, "tone": tone, "gap": None}


def _attempt_steps(attempt: Row) -> list[dict[str, Any]]:
    verb, number = attempt.get("verb"), attempt.get("number")
    text, tone = words.verdict(attempt)
    ended = attempt.get("proved_at") or (attempt.get("finished_at") if attempt.get("verdict") else None)
    return [
        _step(attempt.get("planned_at"), f"Attempt {number} was decided: {verb}", detail=attempt.get("claim")),
        _step(attempt.get("started_at"), "The command was handed over"),
        _step(attempt.get("acted_at"), f"{verb} was done", detail=words.detail(attempt.get("result")), tone="key"),
        _step(
            ended,
            f"Attempt {number}: {text}",
            detail=words.plain(attempt.get("error")),
            tone="bad" if tone == "red" else "key",
        ),
    ]


def _note(told: Row) -> str:
    """What the list says beside the target: the proof's times, the reason, or the alert."""
    if told.get("outcome") == "remediated":
        times = dict(figures(told))
        done = {"acted in": times.get("Alert to action"), "proved in": times.get("Action to proof")}
        return " · ".join([str(told.get("alertname")), *(f"{did} {span}" for did, span in done.items() if span)])
    return _reason(told) or str(told.get("alertname") or "")


def _reason(told: Row) -> str:
    reason = words.plain(told.get("reason"))
    if told.get("state") == "gated" and told.get("gate"):
        gate = words.phrase(told["gate"])
        return f"{gate}: {reason}" if reason else gate
    return reason
