"""What the companion works out by itself, because a model would guess it: sums in what was said."""

from __future__ import annotations

import re
from collections.abc import MutableMapping

import cachetools

from llmvitals import Vitals

__all__ = ["Tools"]

_SUM = re.compile(r"(?<![\d.])(\d{1,9}) ?([-+*/]) ?(\d{1,9})(?![\d.])")
_MOST_SUMS = 5


class Tools:
    """Each tool's results are kept for a while, by what it was asked."""

    def __init__(self, vitals: Vitals) -> None:
        self._kept: MutableMapping[str, str] = vitals.cache("tools", cachetools.TTLCache(50, ttl=3600))
        self._calculator = vitals.tool("calculator")

    def notes(self, message: str) -> str:
        """What a model should know to answer *message*; empty when there is nothing to work out."""
        return "\n".join(self._worked_out(*found.groups()) for found in list(_SUM.finditer(message))[:_MOST_SUMS])

    def _worked_out(self, one: str, operator: str, other: str) -> str:
        asked = f"{one} {operator} {other}"
        result = self._kept.get(asked)
        if result is None:
            with self._calculator:
                result = self._kept[asked] = f"{asked} = {_calculated(int(one), operator, int(other))}"
        return result


def _calculated(one: int, operator: str, other: int) -> str:
    match operator:
        case "+":
            return str(one + other)
        case "-":
            return str(one - other)
        case "*":
            return str(one * other)
        case _:
            return f"{one / other:g}" if other else "not a number"
