from contextvars import ContextVar
from typing import Any, Generic, TypeVar

Run = TypeVar("Run")


class Nesting(Generic[Run]):
    """The open runs of one object whose ``with`` many threads and tasks enter at once: which of them is left."""

    __slots__ = ("_runs",)

    def __init__(self) -> None:
        self._runs: list[Run] = []

    def enter(self, run: Run) -> None:
        """*run* is the innermost of this thread or task from now on."""
        self._runs.append(run)
        _open.set((*_open.get(), (self, run)))

    def innermost(self) -> Run | None:
        """The run that this thread or task is in; None outside of any."""
        return next((run for owner, run in reversed(_open.get()) if owner is self), None)

    def leave(self) -> Run | None:
        """The innermost run, which is over; None when there is none."""
        stack = _open.get()
        for entry in reversed(stack):
            if entry[0] is self and entry[1] in self._runs:
                _open.set(tuple(other for other in stack if other is not entry))
                self._runs.remove(entry[1])
                run: Run = entry[1]
                return run
        # Entered in another context than it is left in, as frameworks do that run set-up and tear-down in two tasks.
        return self._runs.pop() if self._runs else None

    def all(self) -> list[Run]:
        """Every open run, in any thread."""
        return list(self._runs)


# A tuple, not a list: a task inherits its parent's stack, and must not take from it.
_open: ContextVar[tuple[tuple[Nesting[Any], Any], ...]] = ContextVar("llmvitals_open_runs", default=())
