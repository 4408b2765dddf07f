"""What the first page and the handlers' page show, and the banners over every page."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from llmvitals_remediation.web import views, words

Row = Mapping[str, Any]

# Filters of the first page: the name in the query, the name on the page, the state that the store is asked for.
FILTERS = (
    ("", "All", None),
    ("active", "Active", "active"),
    ("waiting", "Waiting for you", "awaiting_approval"),
    ("closed", "Closed", "closed"),
)


def sections(told: Iterable[Row]) -> list[dict[str, Any]]:
    """Incidents under the headings of the first page; headings with nothing under them are left out."""
    groups: dict[str, list[dict[str, Any]]] = {"Waiting for you": [], "Under way": [], "Closed": []}
    for row in told:
        name = {"awaiting_approval": "Waiting for you", "closed": "Closed"}.get(str(row.get("state")), "Under way")
        groups[name].append(views.incident(row))
    return [{"name": name, "incidents": shown} for name, shown in groups.items() if shown]


def headline(told: Sequence[Row]) -> str:
    """Of the incidents on the page, how many are open; what was left to a person is not quiet."""
    active = sum(row.get("state") != "closed" for row in told)
    if active == 0:
        left = any(row.get("outcome") in {"escalated", "exhausted"} for row in told)
        return "Nothing under way" if left else "All quiet"
    return "1 incident under way" if active == 1 else f"{active} incidents under way"


def chips(chosen: str, handler: str | None) -> list[dict[str, Any]]:
    """The filter of the first page, as links: no script, and the page's own refresh leaves it alone."""
    shown = []
    for name, text, _ in FILTERS:
        query = urlencode({key: value for key, value in (("show", name), ("handler", handler)) if value})
        shown.append({"name": text, "href": f"/?{query}" if query else "/", "current": name == chosen})
    return shown


def is_stopped(status: Row) -> bool:
    """Whether the kill switch is engaged."""
    return bool((status.get("kill_switch") or {}).get("engaged"))


def banners(status: Row, *, waiting: int, reasons: Mapping[str, str]) -> list[dict[str, Any]]:
    """What a person should know on any page, the gravest first. None on a good day."""
    found = []
    if is_stopped(status):
        switch = status["kill_switch"]
        found.append(
            _banner(
                "red",
                "Everything is stopped.",
                f"By {switch.get('who')} at {words.clock(switch.get('at'))}: {switch.get('why')}",
                "/stop",
                "Resume…",
            )
        )
    if refused := (status.get("policy") or {}).get("refused"):
        found.append(_banner("amber", "The changed policy file is refused, the old one stays.", str(refused)))
    for name, reason in reasons.items():
        found.append(_banner("amber", f"{name.capitalize()} does not answer, so nothing is done.", reason))
    if waiting > 0:
        text = "1 incident waits for your decision." if waiting == 1 else f"{waiting} incidents wait for your decision."
        found.append(_banner("amber", text, "", "/?show=waiting", "Show"))
    return found


def _banner(tone: str, title: str, text: str, href: str | None = None, link: str | None = None) -> dict[str, Any]:
    return {"tone": tone, "title": title, "text": text, "href": href, "link": link}


_MODE_TEXTS = {
    "off": ("paused", "amber"),
    "observe": ("only observes", ""),
    "approve": ("asks first", ""),
    "auto": ("acts on its own", "working"),
}


def handler(told: Row) -> dict[str, Any]:
    mode = str(told.get("mode"))
    text, tone = _MODE_TEXTS.get(mode, (mode, ""))
    if told.get("breaker_open_on"):
        text, tone = f"{text}; its breaker is open", "red"
    return {"name": told.get("name"), "mode_text": text, "tone": tone, "changes": _changes(told), "facts": _facts(told)}


def does(told: Row) -> str:
    """What the handler would do: verb, parameters, and through whom."""
    parameters = words.detail(told.get("parameters"))
    verb = f"{told.get('action')} ({parameters})" if parameters else str(told.get("action"))
    return f"{verb}, through the {told.get('driver')}"


def _changes(told: Row) -> list[dict[str, str]]:
    """The modes that a person can set from here: pause or resume first, then how freely it may act."""
    mode, by_policy = told.get("mode"), told.get("policy_mode")
    found = []
    if mode != by_policy:
        found.append({"mode": "policy", "name": "Resume…" if mode == "off" else "Back to the policy…"})
    if mode != "off":
        found.append({"mode": "off", "name": "Pause…"})
    if mode in ("auto", "observe") and by_policy != "approve":
        found.append({"mode": "approve", "name": "Ask first…"})
    return found


def _facts(told: Row) -> list[tuple[str, str]]:
    tried, effective = told.get("tried") or 0, told.get("effective") or 0
    facts = [
        ("Answers", ", ".join(map(str, told.get("alerts") or []))),
        ("Does", does(told)),
        ("Proved when", words.plain(told.get("verified_by"))),
        ("Helped", f"{effective} of {tried} times" if tried else "not tried yet"),
        ("Afterwards", "holds the change while the trouble lasts, then puts it back" if told.get("held") else ""),
        ("Breaker", f"open on {', '.join(map(str, told['breaker_open_on']))}" if told.get("breaker_open_on") else ""),
        ("By experience", "asks first: it helped too rarely" if told.get("asks_first_by_experience") else ""),
    ]
    return [(name, value) for name, value in facts if value]
