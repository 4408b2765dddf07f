"""Which problems are none, and why."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import yaml
from prometheus.lint.checks import Problem

FILE = Path(__file__).with_name("exclusions.yml")


class Exclusion(NamedTuple):
    """A check that does not hold for the rules whose name fits a pattern."""

    check: str
    rules: tuple[str, ...]
    reason: str

    def excuses(self, check: str, rule: str) -> bool:
        return self.check == check and any(fnmatchcase(rule, pattern) for pattern in self.rules)


def exclusions() -> list[Exclusion]:
    entries = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return [Exclusion(entry["check"], tuple(entry["rules"]), entry["reason"]) for entry in entries]


def remaining(problems: Iterable[Problem]) -> tuple[list[Problem], list[str]]:
    """What is not excused, and the patterns that excuse nothing."""
    known = exclusions()
    found = list(problems)
    left = [p for p in found if not any(e.excuses(p.check, p.rule.name) for e in known)]
    stale = [
        f"{entry.check}: {pattern}"
        for entry in known
        for pattern in entry.rules
        if entry.check != CATALOGUE
        and not any(p.check == entry.check and fnmatchcase(p.rule.name, pattern) for p in found)
    ]
    return left, stale


# Checked where the catalogues are: tests/prometheus/test_lint.py.
CATALOGUE = "promql/counter"
