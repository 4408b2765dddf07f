import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from llmvitals import catalogue
from llmvitals._recording import Recorder
from llmvitals.agent._layers import Layers
from llmvitals.agent._parameters import BadParametersError, Kind, check_scalar
from llmvitals.agent._protocol import Scalar, is_name, is_scalar

# How long one change waits for another change of the same tunable, whose `set` may hang.
LOCK_SECONDS = 10.0


class Tunable:
    """A named number or choice of the application that may be changed within bounds.

    `get` must be quick: it is read for each poll and each scrape. `set` may take its time; it runs in the agent's
    threads, one call at a time.
    """

    def __init__(
        self,
        name: str,
        *,
        get: Callable[[], Any],
        set: Callable[[Any], object],  # noqa: A002 -- the face's word: tunable(…, get=, set=)
        low: float | None = None,
        high: float | None = None,
        choices: tuple[Scalar, ...] = (),
    ) -> None:
        if not is_name(name):
            raise ValueError(f"tunable name {name!r} must be letters, digits, '_', '.', '-', at most 128")
        if bool(choices) == (low is not None or high is not None) or (not choices and None in (low, high)):
            raise ValueError(f"tunable {name!r} needs either both low and high, or choices")
        if low is not None and high is not None and not low <= high:
            raise ValueError(f"tunable {name!r} has low {low} above high {high}")
        if not all(is_scalar(choice) for choice in choices):
            raise ValueError(f"choices of tunable {name!r} must be texts, finite numbers or booleans")
        value = get()
        if not is_scalar(value):
            raise ValueError(f"tunable {name!r} is now a {type(value).__name__}, which cannot travel as JSON")
        if not choices and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValueError(f"tunable {name!r} has low and high, but is now {value!r}, which is no number")
        whole = isinstance(low, int) and isinstance(high, int) and isinstance(value, int)
        self.name = name
        self.get = get
        self.set = set
        self.low = low
        self.high = high
        self.choices = tuple(choices)
        self.kind: Kind = "integer" if whole else "number"
        # While leases hold the tunable; guarded by `changing`.
        self.layers: Layers[Any] | None = None
        self._lock = threading.Lock()

    def check(self, value: Any) -> Any:
        """*value* as `set` gets it; raises `BadParametersError`."""
        return check_scalar(self.name, value, kind=self.kind, low=self.low, high=self.high, choices=self.choices)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """One change at a time; raises TimeoutError where another one hangs."""
        if not self._lock.acquire(timeout=LOCK_SECONDS):
            raise TimeoutError(f"tunable {self.name!r} has been in change for more than {LOCK_SECONDS:g} s")
        try:
            yield
        finally:
            self._lock.release()

    def as_json(self) -> dict[str, Any]:
        """The tunable with its value now; null where `get` raises or gives what is no scalar."""
        try:
            value = self.get()
        except Exception:  # noqa: BLE001 -- shown as "not known"; the scrape counts the same fault
            value = None
        told: dict[str, Any] = {"name": self.name, "value": value if is_scalar(value) else None}
        if self.choices:
            return told | {"choices": list(self.choices)}
        return told | {"low": self.low, "high": self.high}

    def after_fork(self) -> None:
        self._lock = threading.Lock()


class Tunables:
    """The tunables by name. Thread-safe."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._tunables: dict[str, Tunable] = {}
        self._lock = threading.Lock()

    def register(self, tunable: Tunable) -> None:
        """Raises ValueError when the name is taken."""
        with self._lock:
            if tunable.name in self._tunables:
                raise ValueError(f"tunable {tunable.name!r} is registered already")
            self._tunables[tunable.name] = tunable
        if not tunable.choices:
            self._recorder.read_at_scrape(
                catalogue.TUNABLE_VALUE, tunable.name, read=cast("Callable[[], float]", tunable.get)
            )

    def get(self, name: str) -> Tunable | None:
        with self._lock:
            return self._tunables.get(name)

    def all(self) -> list[Tunable]:
        with self._lock:
            return list(self._tunables.values())

    def check(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """*values* as the setters get them; raises one `BadParametersError` that names every fault."""
        if not values:
            raise BadParametersError("values is empty: name at least one tunable")
        faults, checked = [], {}
        for name, value in values.items():
            tunable = self.get(name)
            if tunable is None:
                faults.append(f"there is no tunable {name!r}")
                continue
            try:
                checked[name] = tunable.check(value)
            except BadParametersError as fault:
                faults.append(str(fault))
        if faults:
            raise BadParametersError("; ".join(faults))
        return checked

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        for tunable in self._tunables.values():
            tunable.after_fork()
