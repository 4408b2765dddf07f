"""One fault of the demo. What there is of them stands in `faults`, and by part of the world in modules beside it."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.stack.demo_world import Undo, World


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done to a running demo from *start* on, for *seconds*, both counted from when it is warm."""

    says: str
    alerts: tuple[str, ...]
    start: float
    seconds: float
    turn_on: Callable[[World], Undo]
