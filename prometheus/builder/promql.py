"""PromQL as the rules write it. Every expression keeps `job`."""

import re
from collections.abc import Iterable, Mapping

# Of a counter, per second. A minute holds four scrapes even at 15 s.
WINDOW = "1m"


def selector(name: str, matchers: str = "") -> str:
    return f"{name}{{{matchers}}}" if matchers else name


def rate(name: str, matchers: str = "") -> str:
    return f"rate({selector(name, matchers)}[{WINDOW}])"


def total(expression: str, by: Iterable[str]) -> str:
    return f"sum by ({', '.join(by)}) ({_on_lines(expression)})"


def largest(expression: str, by: Iterable[str]) -> str:
    return f"max by ({', '.join(by)}) ({_on_lines(expression)})"


def renamed(expression: str, names: Mapping[str, str]) -> str:
    """*expression* with labels copied to new names (old → new); of two for one name the later wins, unless empty."""
    for old, new in names.items():
        expression = f'label_replace({expression}, "{new}", "$1", "{old}", "(.+)")'
    return expression


def either(*alternatives: str) -> str:
    """The first alternative, and of each later one what the earlier ones lack (by all labels)."""
    return "\nor\n".join(alternatives)


def unless_told_by(expression: str, witnesses: Iterable[str], on: Iterable[str]) -> str:
    """*expression* without the processes that have one of the series *witnesses*: they tell the same in another way."""
    for witness in witnesses:
        expression += f"\nunless on ({', '.join(on)}) {witness}"
    return expression


def quantile(q: float, buckets: str, by: Iterable[str]) -> str:
    """`>= 0` drops the NaN that a histogram without observations in the window gives."""
    return f"histogram_quantile({q}, {total(buckets, [*by, 'le'])}) >= 0"


def _on_lines(expression: str) -> str:
    if "\n" not in expression and len(expression) < 80:
        return expression
    return "\n" + re.sub(r"^", "  ", expression, flags=re.MULTILINE) + "\n"
