import threading
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from llmvitals import catalogue
from llmvitals._recording import Recorder
from llmvitals.agent._layers import Layers
from llmvitals.agent._protocol import is_name
from llmvitals.agent._tunables import Tunables


class Profiles:
    """Named sets of tunables, and which of them is in force. Thread-safe."""

    def __init__(self, recorder: Recorder, tunables: Tunables) -> None:
        self._recorder = recorder
        self._tunables = tunables
        self._profiles: dict[str, Mapping[str, Any]] = {}
        self._active: Layers[str | None] = Layers(None)
        self._lock = threading.Lock()

    def register(self, name: str, values: Mapping[str, Any]) -> None:
        """Raises ValueError for a taken name, an unknown tunable, or a value out of bounds: all faults in one text."""
        if not is_name(name):
            raise ValueError(f"profile name {name!r} must be letters, digits, '_', '.', '-', at most 128")
        try:
            checked = self._tunables.check(values)
        except ValueError as fault:
            raise ValueError(f"profile {name!r}: {fault}; register its tunables first") from None
        with self._lock:
            if name in self._profiles:
                raise ValueError(f"profile {name!r} is registered already")
            self._profiles[name] = MappingProxyType(checked)
        self._show()

    def get(self, name: str) -> Mapping[str, Any] | None:
        with self._lock:
            return self._profiles.get(name)

    def names(self) -> tuple[str, ...]:
        with self._lock:
            return tuple(self._profiles)

    def as_json(self) -> dict[str, dict[str, Any]]:
        with self._lock:
            return {name: dict(values) for name, values in self._profiles.items()}

    @property
    def active(self) -> str | None:
        with self._lock:
            return self._active.value

    # --- which one is in force: the same layers as a tunable's --------------------------------------------------------

    def put(self, lease_id: str, name: str) -> None:
        with self._lock:
            self._active.put(lease_id, name)
        self._show()

    def remove(self, lease_id: str) -> None:
        with self._lock:
            self._active.remove(lease_id)
        self._show()

    def confirm(self, lease_id: str) -> None:
        with self._lock:
            self._active.confirm(lease_id)
        self._show()

    def after_fork(self) -> None:
        self._lock = threading.Lock()

    def _show(self) -> None:
        active = self.active
        for name in self.names():
            self._recorder.child(catalogue.PROFILE_ACTIVE, name).set(float(name == active))
