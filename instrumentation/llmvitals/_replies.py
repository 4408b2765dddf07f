"""What a reply in OpenAI's shape says of model and tokens: an object or a mapping, of either of OpenAI's two APIs."""

from collections.abc import Mapping
from typing import Any


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


def details(usage: object) -> dict[str, int | None]:
    """What is told of some of the tokens, as keywords of `Call.usage`."""
    of_input = field(usage, "prompt_tokens_details") or field(usage, "input_tokens_details")
    of_output = field(usage, "completion_tokens_details") or field(usage, "output_tokens_details")
    return {
        "cached_input_tokens": count(of_input, "cached_tokens"),
        "reasoning_tokens": count(of_output, "reasoning_tokens"),
    }
