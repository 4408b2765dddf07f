"""What a reply in OpenAI's shape says of model and tokens: an object or a mapping, of either of OpenAI's two APIs."""

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

Details = tuple[int | None, int | None, int | None]
"""What some of the tokens were: read from the provider's cache, put into it, reasoning. None for what is not told."""

_NOTHING = (None, None, None)

UsageReader = Callable[[int | None, int | None, Details | None], None]
"""Given a call's input and output tokens, and what some of them were."""

UsageReaderMaker = Callable[[tuple[str, ...], bool], UsageReader]
"""Given the labels of calls, and whether both input and output tokens are told of them."""

_TOKENS = (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))

_CUT = {
    "length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "MAX_TOKENS": "length",
    "content_filter": "content_filter",
    "refusal": "content_filter",
    "SAFETY": "content_filter",
}
"""How an answer was cut short, by the providers' finish reasons: OpenAI's, Anthropic's, Google's."""

# To find that a model of pydantic's has no such field takes longer than all the rest, so what names the fields of a
# type of usage has is remembered; of few types, as none should live for ever because of us.
_getters: dict[type, tuple[Callable[[Any], tuple[Any, Any]], Callable[[Any], tuple[Any, Any]]]] = {}
_GETTERS_KEPT = 32


def field(reply: object, name: str) -> Any:
    """The field *name*; None where there is none."""
    # The check for a Mapping costs more than all the rest; most replies are objects.
    value = None if isinstance(reply, dict) else getattr(reply, name, None)
    return reply.get(name) if value is None and isinstance(reply, Mapping) else value


def count(usage: object, *names: str) -> int | None:
    """The first of these fields that is a number; None where none is."""
    for name in names:
        value = field(usage, name)
        if isinstance(value, int):
            return value
    return None


def tokens(usage: object) -> tuple[int | None, int | None]:
    """Input and output tokens; None for what is not told."""
    try:
        told = _getters[type(usage)][0](usage)
        if type(told[0]) is int and type(told[1]) is int:
            return told
    except (KeyError, AttributeError):
        _learn(usage)
    return count(usage, *_TOKENS[0]), count(usage, *_TOKENS[1])


def details(usage: object) -> Details | None:
    """What some of the tokens were; None where nothing is told."""
    try:
        of_input, of_output = _getters[type(usage)][1](usage)
        if of_input is None and of_output is None:
            return None
        cached = None if of_input is None else of_input.cached_tokens
        reasoning = None if of_output is None else of_output.reasoning_tokens
    except (KeyError, AttributeError):
        of_input = field(usage, "prompt_tokens_details") or field(usage, "input_tokens_details")
        of_output = field(usage, "completion_tokens_details") or field(usage, "output_tokens_details")
        cached, reasoning = field(of_input, "cached_tokens"), field(of_output, "reasoning_tokens")
    told = cached if isinstance(cached, int) else None, None, reasoning if isinstance(reasoning, int) else None
    return None if told == _NOTHING else told


def cut(reply: object) -> str | None:
    """How the answer was cut short; None where the model was done, or nobody says."""
    try:
        return cut_by(_endings[type(reply)](reply))
    except (KeyError, AttributeError):
        ending = _ending(reply)
    # Objects of one type may have other fields each, but not pydantic's.
    if ending is not _of_nothing or hasattr(type(reply), "model_fields"):
        if len(_endings) >= _GETTERS_KEPT:
            _endings.clear()
        _endings[type(reply)] = ending
    return cut_by(ending(reply))


def cut_by(reason: object) -> str | None:
    """The same of a finish reason itself."""
    return _CUT.get(reason) if isinstance(reason, str) else None


def _ending(reply: object) -> Callable[[Any], Any]:
    """How objects of this type tell their finish reason."""
    if isinstance(reply, Mapping):
        return _of_mapping
    if hasattr(reply, "choices"):
        return _of_choices
    return _of_response if hasattr(reply, "incomplete_details") else _of_nothing


def _of_choices(reply: Any) -> Any:
    return reply.choices[0].finish_reason if reply.choices else None


def _of_response(reply: Any) -> Any:
    return None if reply.incomplete_details is None else reply.incomplete_details.reason


def _of_mapping(reply: Mapping[str, Any]) -> Any:
    if reply.get("choices"):
        return field(reply["choices"][0], "finish_reason")
    return field(reply.get("incomplete_details"), "reason")


def _of_nothing(_: object) -> None:
    return None


_endings: dict[type, Callable[[Any], Any]] = {}


def _learn(usage: object) -> None:
    """Remember by which names objects of this type tell their tokens."""
    if isinstance(usage, Mapping):
        return
    for names in zip(*_TOKENS, strict=True):
        if all(isinstance(getattr(usage, name, None), int) for name in names):
            if len(_getters) >= _GETTERS_KEPT:
                _getters.clear()
            _getters[type(usage)] = attrgetter(*names), attrgetter(*(f"{name}_details" for name in names))
            return
