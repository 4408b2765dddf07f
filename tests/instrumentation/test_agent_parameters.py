from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmvitals.agent import Bounds
from llmvitals.agent._parameters import BadParametersError, check_parameters, parameters_of


def evict(
    older_than_seconds: Annotated[float, Bounds(60, 86_400)] = 3600,
    keep: int | None = None,
    *,
    order: Literal["idle", "oldest"] = "idle",
    dry: bool = False,
    note: str = "",
):
    """Evict."""


EVICT = parameters_of(evict, {"keep": (0, 100)})


def test_parameters_are_derived_from_annotations():
    """Type, default, bounds and choices come from the signature, and travel in the poll."""
    told = [parameter.as_json() for parameter in EVICT]

    assert [
        {"name": "older_than_seconds", "type": "number", "default": 3600, "low": 60, "high": 86_400},
        {"name": "keep", "type": "integer", "default": None, "low": 0, "high": 100},
        {"name": "order", "type": "string", "default": "idle", "choices": ["idle", "oldest"]},
        {"name": "dry", "type": "boolean", "default": False},
        {"name": "note", "type": "string", "default": ""},
    ] == told


def test_good_values_become_arguments():
    """An integer will do for a number, and null for what is optional."""
    given_values = {"older_than_seconds": 60, "keep": None, "order": "oldest", "dry": True, "note": "why"}

    assert given_values == check_parameters(EVICT, given_values)


def test_what_is_left_out_is_left_to_the_function():
    """Defaults belong to the function."""
    assert {} == check_parameters(EVICT, {})


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"older_than_seconds": 59.9}, "at least 60"),
        ({"older_than_seconds": 86_401}, "at most 86400"),
        ({"older_than_seconds": True}, "a number, not bool"),
        ({"older_than_seconds": "60"}, "a number, not str"),
        ({"older_than_seconds": None}, "a number, not NoneType"),
        ({"older_than_seconds": float("nan")}, "finite"),
        ({"older_than_seconds": float("inf")}, "finite"),
        ({"keep": 1.0}, "an integer, not float"),
        ({"keep": False}, "an integer, not bool"),
        ({"keep": 101}, "at most 100"),
        ({"keep": 10**400}, "finite"),
        ({"order": "Idle"}, "'idle', 'oldest'"),
        ({"dry": 1}, "a boolean, not int"),
        ({"note": 3}, "a string, not int"),
        ({"note": "x" * 4097}, "4097 characters"),
        ({"colour": "red"}, "'colour' is no parameter"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_bad_values_are_refused_by_name(values, told):
    """Nothing is coerced, and the text says which parameter is wrong, and how."""
    with pytest.raises(BadParametersError, match=next(iter(values))) as refusal:
        check_parameters(EVICT, values)

    assert told in str(refusal.value)


def test_every_fault_is_told_at_once():
    """Three mistakes take one round trip, not three."""
    with pytest.raises(BadParametersError) as refusal:
        check_parameters(EVICT, {"keep": -1, "dry": "no", "colour": "red"})

    assert 3 == len(str(refusal.value).split("; "))


def test_what_has_no_default_must_be_given():
    """A missing parameter is refused by name."""

    def act(name: str):
        """Act."""

    with pytest.raises(BadParametersError, match="name is missing"):
        check_parameters(parameters_of(act), {})


def _bare(value):
    """No annotation."""


def _star(*values: int):
    """Any number of values."""


def _keywords(**values: int):
    """Any keywords."""


def _list_of(values: list[int]):
    """A collection."""


def _positional(value: int, /):
    """Not to be given by name."""


def _bad_default(value: Annotated[int, Bounds(1, 5)] = 9):
    """A default that no command could give."""


def _bounded_text(value: Annotated[str, Bounds(1, 5)] = ""):
    """Bounds on what is no number."""


def _mixed(value: Literal["a", 1] = "a"):
    """Choices of two types."""


@pytest.mark.parametrize(
    "function", [_bare, _star, _keywords, _list_of, _positional, _bad_default, _bounded_text, _mixed]
)
def test_what_no_command_could_carry_is_told_at_registration(function):
    """The mistake is the application's, so it is told where it is made, with the names of both."""
    with pytest.raises(TypeError, match=rf"parameter 'values?' of action '{function.__name__}'"):
        parameters_of(function)


def test_bounds_for_nothing_are_a_mistake():
    """A misspelt bound must not silently bound nothing."""
    with pytest.raises(TypeError, match="older"):
        parameters_of(evict, {"older": (1, 2)})


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists))
def test_only_a_number_within_bounds_passes_for_one(value):
    """Whatever JSON holds, the function sees a float within its bounds, or nothing at all."""
    try:
        checked = check_parameters(EVICT, {"older_than_seconds": value})
    except BadParametersError:
        return

    assert isinstance(checked["older_than_seconds"], float)
    assert 60 <= checked["older_than_seconds"] <= 86_400
