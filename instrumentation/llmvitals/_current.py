"""The running `Vitals`, the last one first: what integrations record to when they are not told otherwise."""

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from llmvitals._vitals import Vitals

_lock = threading.Lock()
_running: list["Vitals"] = []
_stand_in: "Vitals | None" = None


def current() -> "Vitals | None":
    return _running[-1] if _running else None


def on(registry: "CollectorRegistry") -> "Vitals | None":
    return next((vitals for vitals in _running if vitals.registry is registry), None)


def push(vitals: "Vitals") -> None:
    with _lock:
        _running.append(vitals)


def pop(vitals: "Vitals") -> None:
    with _lock:
        if vitals in _running:
            _running.remove(vitals)


def stand_in() -> "Vitals | None":
    """What `start` returns instead of starting anything: that of a test."""
    return _stand_in


def use_stand_in(vitals: "Vitals | None") -> None:
    global _stand_in  # noqa: PLW0603 -- it stands in for what is the process's, too
    _stand_in = vitals
