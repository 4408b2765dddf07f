"""The pages that ask before a change: what will happen, in words, and why the person wants it."""

from collections.abc import Mapping
from typing import Any

from llmvitals_remediation.web import views

_MODES = {
    "off": ("Pause", "It does nothing and opens no incident until somebody resumes it. What is under way goes on."),
    "observe": ("Only observe", "It says what it would do, and does nothing."),
    "approve": ("Ask first", "Each action waits for a person, and expires when nobody decides."),
    "auto": ("Act on its own", "It acts without asking, within its limits."),
    "policy": ("Resume", "The policy file decides its mode again."),
}


def decision(told: Mapping[str, Any], wanted: str, *, does: str) -> dict[str, Any]:
    """*does* is what the handler would do, in words: nobody should approve what they cannot see."""
    incident = views.incident(told)
    what = f"{incident['handler']} on {incident['service']}"
    page = {"action": f"/incidents/{incident['id']}/{wanted}", "back": f"/incidents/{incident['id']}", "fields": []}
    if wanted == "approve":
        return page | {
            "title": f"Approve {what}?",
            "lines": [
                f"It does this on {incident['service']} {incident['instance']}: {does}.",
                "The action is carried out as soon as its last checks pass.",
            ],
            "button": "Approve",
            "dangerous": False,
        }
    return page | {
        "title": f"Veto {what}?",
        "lines": ["The incident is closed, and this episode of the alert opens no other."],
        "button": "Veto",
        "dangerous": True,
    }


def mode(name: str, wanted: str) -> dict[str, Any]:
    title, line = _MODES[wanted]
    return {
        "title": f"{title}: {name}",
        "lines": [line],
        "action": f"/handlers/{name}/mode",
        "fields": [("mode", wanted)],
        "button": title,
        "dangerous": False,
        "back": "/handlers",
    }


def stop(*, engaged: bool) -> dict[str, Any]:
    if engaged:
        return {
            "title": "Let the handlers act again?",
            "lines": [
                "Each goes back to its own mode. Incidents that waited are checked anew before anything is done."
            ],
            "action": "/stop",
            "fields": [("wanted", "resume")],
            "button": "Resume",
            "dangerous": False,
            "back": "/",
        }
    return {
        "title": "Stop everything?",
        "lines": [
            "No handler acts any more, whatever its mode, until somebody resumes. Alerts are still taken and recorded.",
            "An action that is being carried out at this moment finishes, and is recorded.",
        ],
        "action": "/stop",
        "fields": [("wanted", "stop")],
        "button": "Stop everything",
        "dangerous": True,
        "back": "/",
    }
