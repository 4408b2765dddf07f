"""Which problems are none, and why."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import yaml
from grafana.lint.checks import Problem

FILE = Path(__file__).with_name("exclusions.yml")


class Exclusion(NamedTuple):
    """A check that does not hold where the place (dashboard / panel) and the problem's text fit patterns."""

    check: str
    where: str
    text: str
    reason: str

    def excuses(self, problem: Problem) -> bool:
        place = f"{problem.uid} / {problem.where}"
        return problem.check == self.check and fnmatchcase(place, self.where) and fnmatchcase(problem.text, self.text)


def exclusions() -> list[Exclusion]:
    """Every entry's every place."""
    return [
        Exclusion(entry["check"], where, entry.get("text", "*"), entry["reason"])
        for entry in yaml.safe_load(FILE.read_text(encoding="utf-8"))
        for where in entry["where"]
    ]


def remaining(problems: Iterable[Problem]) -> tuple[list[Problem], list[str]]:
    """What is not excused, and what excuses nothing."""
    found, known = list(problems), exclusions()
    left = [problem for problem in found if not any(entry.excuses(problem) for entry in known)]
    stale = [f"{e.check}: {e.where}" for e in known if not any(e.excuses(problem) for problem in found)]
    return left, stale
