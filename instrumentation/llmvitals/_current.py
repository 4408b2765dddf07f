"""The running `Vitals`, the last one first: what integrations record to when they are not told otherwise."""

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from llmvitals._vitals import Vitals

_lock = threading.Lock()
_running: list["Vitals"] = []


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
