"""Times, spans and states in the words of the console."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

ACTIVE_STATES = ("open", "gated", "awaiting_approval", "scheduled", "executing", "verifying", "holding")

_STATES = {
    "open": ("opening", "working"),
    "gated": ("held back", ""),
    "awaiting_approval": ("waits for you", "amber"),
    "scheduled": ("scheduled", ""),
    "executing": ("acting", "working"),
    "verifying": ("proving", "working"),
    "holding": ("holding", "good"),
}
_OUTCOMES = {
    "remediated": ("remediated", "good"),
    "self_resolved": ("over by itself", ""),
    "exhausted": ("gave up", "red"),
    "vetoed": ("vetoed", ""),
    "expired": ("expired", "red"),
    "shadow": ("only observed", ""),
    "escalated": ("needs a person", "red"),
}
_VERDICTS = {
    "effective": ("proved", "good"),
    "ineffective": ("did not help", "red"),
    "inconclusive": ("cannot tell", "red"),
    "failed": ("failed", "red"),
    "unknown": ("outcome unknown", "red"),
}
# Colour asks for an act; what went wrong days ago asks for none any more.
_FRESH_SECONDS = 24 * 3600.0
_MAX_DETAIL = 2000


def moment(text: object) -> datetime | None:
    """An ISO time as `datetime`; None for what is none."""
    if not isinstance(text, str):
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def clock(text: object, *, now: datetime | None = None) -> str:
    """The time of day in UTC, with the date when it is not today's."""
    at = moment(text)
    if at is None:
        return ""
    at = at.astimezone(UTC)
    today = (now or datetime.now(UTC)).date()
    return at.strftime("%H:%M:%S") if at.date() == today else at.strftime("%-d %b %H:%M")


def ago(text: object, *, now: datetime | None = None) -> str:
    """How long ago, in the one unit that matters."""
    at = moment(text)
    if at is None:
        return ""
    seconds = ((now or datetime.now(UTC)) - at).total_seconds()
    return "just now" if seconds < 1 else f"{_largest(seconds)} ago"


def span(start: object, end: object) -> str | None:
    """The time between two ISO times, or None when one is missing or they are the wrong way round."""
    first, last = moment(start), moment(end)
    if first is None or last is None or last < first:
        return None
    return duration((last - first).total_seconds())


def duration(seconds: float) -> str:
    """Seconds as a person says them: `20 ms`, `4.2 s`, `12 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} d {hours % 24} h"


def state(incident: Mapping[str, Any], *, now: datetime | None = None) -> tuple[str, str]:
    """The incident's state or outcome, and its tone: amber waits for a decision, red needs a person."""
    if incident.get("state") != "closed":
        name = str(incident.get("state"))
        return _STATES.get(name, (name, ""))
    outcome = str(incident.get("outcome"))
    text, tone = _OUTCOMES.get(outcome, (outcome, ""))
    closed = moment(incident.get("closed_at"))
    is_old = closed is not None and ((now or datetime.now(UTC)) - closed).total_seconds() > _FRESH_SECONDS
    return text, "" if is_old and tone == "red" else tone


def verdict(attempt: Mapping[str, Any]) -> tuple[str, str]:
    """The attempt's verdict, or what it is at, and its tone."""
    name = attempt.get("verdict")
    if name is None:
        return ("proving", "working") if attempt.get("acted_at") else ("acting", "working")
    return _VERDICTS.get(str(name), (str(name), ""))


def detail(value: object) -> str:
    """What the audit log or an action told, on one line, cut where it would bury the page."""
    if value is None or value in ({}, []):
        return ""
    if isinstance(value, Mapping):
        text = ", ".join(f"{key}: {_flat(item)}" for key, item in value.items() if item is not None)
    else:
        text = _flat(value)
    return text if len(text) <= _MAX_DETAIL else f"{text[:_MAX_DETAIL]}… ({len(text)} characters)"


def plain(text: object) -> str:
    """A reason of the engine with its comparisons as words: `0 is at_most 0` is `0 is at most 0`."""
    return "" if text is None else str(text).replace("at_most", "at most").replace("at_least", "at least")


def phrase(event: object) -> str:
    """An event's name as words."""
    return str(event).replace("_", " ")


def _flat(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _largest(seconds: float) -> str:
    for size, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {name}"
    return f"{int(seconds)} s"
