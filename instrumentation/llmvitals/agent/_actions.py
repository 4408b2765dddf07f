import inspect
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from llmvitals.agent._parameters import Parameter, parameters_of
from llmvitals.agent._protocol import Command, cut, is_name

Effect = Literal["idempotent", "detectable", "neither"]
Function = TypeVar("Function", bound=Callable[..., Any])

_EFFECTS = ("idempotent", "detectable", "neither")


@dataclass(frozen=True, slots=True)
class Action:
    """A verb, what it takes, and what runs it.

    `effect` says what a blind repeat would do: `idempotent`, nothing more than one would; `detectable`, more, but one
    can look whether it was done; `neither`, more, and nobody can tell.
    """

    name: str
    effect: Effect
    parameters: tuple[Parameter, ...]
    description: str
    run: Callable[[Command, Mapping[str, Any]], Any]
    # What the parameters' types cannot say; raises BadParametersError. It runs before the command counts as accepted.
    check: Callable[[Mapping[str, Any]], object] | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "effect": self.effect,
            "parameters": [parameter.as_json() for parameter in self.parameters],
            "description": self.description,
        }


class Actions:
    """What the application offers, in code; nothing else can be done to it. Thread-safe.

    *builtins* gives the built-in verbs that have something to act on at this moment.
    """

    def __init__(self, builtins: Callable[[], Mapping[str, Action]], reserved: frozenset[str]) -> None:
        self._builtins = builtins
        self._reserved = reserved
        self._offered: dict[str, Action] = {}
        self._lock = threading.Lock()

    def register(
        self,
        function: Function,
        *,
        effect: Effect,
        name: str | None = None,
        bounds: Mapping[str, tuple[float | None, float | None]] | None = None,
        description: str | None = None,
    ) -> Function:
        """Offer *function* under *name* (its own by default); raises TypeError or ValueError, saying what to change."""
        verb = name or function.__name__
        if not is_name(verb):
            raise ValueError(f"action name {verb!r} must be letters, digits, '_', '.', '-', at most 128")
        if effect not in _EFFECTS:
            raise ValueError(f"effect of action {verb!r} must be one of {', '.join(_EFFECTS)}, not {effect!r}")
        if inspect.iscoroutinefunction(function):
            raise TypeError(
                f"action {verb!r} is a coroutine function, but actions run in the agent's thread: write a plain "
                "function that does asyncio.run_coroutine_threadsafe(…, loop).result(timeout)"
            )
        parameters = parameters_of(function, bounds)
        text = description if description is not None else inspect.getdoc(function) or ""
        # The first sentence is enough to know a verb by.
        action = Action(verb, effect, parameters, cut(text.split("\n\n")[0], 500), lambda _, given: function(**given))
        with self._lock:
            if verb in self._reserved:
                raise ValueError(f"action name {verb!r} is a built-in verb; choose another")
            if verb in self._offered:
                raise ValueError(f"action {verb!r} is registered already")
            self._offered[verb] = action
        return function

    def get(self, verb: str) -> Action | None:
        with self._lock:
            offered = self._offered.get(verb)
        return offered or self._builtins().get(verb)

    def all(self) -> list[Action]:
        with self._lock:
            offered = list(self._offered.values())
        return [*self._builtins().values(), *offered]

    def after_fork(self) -> None:
        self._lock = threading.Lock()
