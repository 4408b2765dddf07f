"""An action's parameters: what they may be is read from its annotations, what comes is checked against that."""

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from llmvitals.agent._protocol import MAX_TEXT, Scalar, is_finite, is_name, is_scalar

Kind = Literal["boolean", "integer", "number", "string", "object"]

_KINDS: Mapping[Any, Kind] = {bool: "boolean", int: "integer", float: "number", str: "string"}
_NO_DEFAULT: Any = object()


class BadParametersError(ValueError):
    """The command's parameters are not what the verb takes: the text names every fault."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The least and the greatest value of a number: `seconds: Annotated[float, Bounds(1, 60)]`."""

    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of an action. Without a `default` it must be given; `optional` says that null may be given."""

    name: str
    kind: Kind
    default: Any = _NO_DEFAULT
    low: float | None = None
    high: float | None = None
    choices: tuple[Scalar, ...] = ()
    optional: bool = False

    @property
    def required(self) -> bool:
        return self.default is _NO_DEFAULT

    def as_json(self) -> dict[str, Any]:
        told: dict[str, Any] = {"name": self.name, "type": self.kind}
        if not self.required:
            told["default"] = self.default
        told |= {key: value for key, value in (("low", self.low), ("high", self.high)) if value is not None}
        if self.choices:
            told["choices"] = list(self.choices)
        return told

    def check(self, value: Any) -> Any:
        """*value* as the action gets it; raises `BadParametersError`."""
        if value is None and self.optional:
            return None
        return check_scalar(self.name, value, kind=self.kind, low=self.low, high=self.high, choices=self.choices)


def check_scalar(
    name: str, value: Any, *, kind: Kind, low: float | None, high: float | None, choices: tuple[Scalar, ...]
) -> Any:
    """*value* if it is of that *kind* and within the bounds; raises `BadParametersError`. Nothing is coerced but an
    integer where any number will do: "8", true and 8.5 are three ways to be wrong about 8.
    """
    if choices:
        # By type too: true is not 1, and 1.0 is not 1.
        if not any(value == choice and type(value) is type(choice) for choice in choices):
            raise BadParametersError(f"{name} must be one of {', '.join(repr(choice) for choice in choices)}")
        return value
    if kind == "object":
        if not isinstance(value, dict):
            raise BadParametersError(f"{name} must be an object, not {type(value).__name__}")
        return value
    if kind in ("integer", "number"):
        return _check_number(name, value, kind=kind, low=low, high=high)
    if not isinstance(value, bool if kind == "boolean" else str):
        raise BadParametersError(f"{name} must be a {kind}, not {type(value).__name__}")
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise BadParametersError(f"{name} has {len(value)} characters; at most {MAX_TEXT} are taken")
    return value


def _check_number(name: str, value: Any, *, kind: Kind, low: float | None, high: float | None) -> int | float:
    article = "an integer" if kind == "integer" else "a number"
    if isinstance(value, bool) or not isinstance(value, int if kind == "integer" else int | float):
        raise BadParametersError(f"{name} must be {article}, not {type(value).__name__}")
    if not is_finite(value):
        raise BadParametersError(f"{name} must be finite")
    if (low is not None and value < low) or (high is not None and value > high):
        limits = " ".join(
            part for part in (low is not None and f"at least {low}", high is not None and f"at most {high}") if part
        )
        raise BadParametersError(f"{name} is {value}, but must be {limits}")
    return float(value) if kind == "number" else value


def check_parameters(parameters: tuple[Parameter, ...], values: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments of the call, defaults left to the function; raises one error that names every fault."""
    known = {parameter.name: parameter for parameter in parameters}
    faults = [f"{name!r} is no parameter of this verb" for name in values if name not in known]
    faults += [f"{name} is missing" for name, spec in known.items() if spec.required and name not in values]
    checked: dict[str, Any] = {}
    for name in known.keys() & values.keys():
        try:
            checked[name] = known[name].check(values[name])
        except BadParametersError as fault:
            faults.append(str(fault))
    if faults:
        raise BadParametersError("; ".join(faults))
    return checked


# --- from annotations -------------------------------------------------------------------------------------------------


def parameters_of(
    function: Callable[..., Any], bounds: Mapping[str, tuple[float | None, float | None]] | None = None
) -> tuple[Parameter, ...]:
    """The parameters of *function*; raises TypeError, naming the parameter, for what no command could carry.

    Types: bool, int, float, str, a `Literal` of them, each also `| None`; bounds by `Annotated[…, Bounds(low, high)]`
    or by *bounds*, a mapping from the parameter's name to (low, high).
    """
    hints = typing.get_type_hints(function, include_extras=True)
    bounds = dict(bounds or {})
    found = []
    for parameter in inspect.signature(function).parameters.values():
        where = f"parameter {parameter.name!r} of action {getattr(function, '__name__', function)!r}"
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError(f"{where} cannot be given by name; write it as a plain or keyword-only parameter")
        if parameter.name not in hints or not is_name(parameter.name):
            raise TypeError(f"{where} needs an annotation: bool, int, float, str or a Literal")
        default = _NO_DEFAULT if parameter.default is parameter.empty else parameter.default
        found.append(_derive(parameter.name, hints[parameter.name], default, bounds.pop(parameter.name, None), where))
    if bounds:
        raise TypeError(f"bounds are given for {', '.join(sorted(bounds))}, which the action does not take")
    return tuple(found)


def _derive(
    name: str, hint: Any, default: Any, bounds: tuple[float | None, float | None] | None, where: str
) -> Parameter:
    annotated: list[Bounds] = []
    hint, optional = _unwrap(hint, annotated)
    limits = Bounds(*bounds) if bounds is not None else next(iter(annotated), Bounds())
    choices: tuple[Scalar, ...] = ()
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        kinds = {_KINDS.get(type(choice)) for choice in choices}
        kind = kinds.pop() if len(kinds) == 1 else None
    else:
        kind = _KINDS.get(hint)
    if kind is None:
        raise TypeError(f"{where} is annotated {hint!r}; a command carries bool, int, float, str or a Literal of one")
    if kind not in ("integer", "number") and limits != Bounds():
        raise TypeError(f"{where} has bounds, but is a {kind}")
    spec = Parameter(name, kind, default, limits.low, limits.high, choices, optional or default is None)
    if not spec.required:
        try:
            spec.check(default)
        except BadParametersError as fault:
            raise TypeError(f"{where} has a default that it would refuse: {fault}") from None
        if not is_scalar(default):
            raise TypeError(f"{where} has a default that cannot travel as JSON")
    return spec


def _unwrap(hint: Any, annotated: list[Bounds]) -> tuple[Any, bool]:
    """The type inside `Annotated[…]` and `… | None`, and whether None is allowed. Bounds found go to *annotated*."""
    origin = typing.get_origin(hint)
    if origin is Annotated:
        inner, *extras = typing.get_args(hint)
        annotated.extend(extra for extra in extras if isinstance(extra, Bounds))
        return _unwrap(inner, annotated)
    if origin in (typing.Union, types.UnionType):
        rest = [arm for arm in typing.get_args(hint) if arm is not type(None)]
        if len(rest) == 1:
            inner, _ = _unwrap(rest[0], annotated)
            return inner, len(rest) < len(typing.get_args(hint))
    return hint, False
