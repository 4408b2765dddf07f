"""Rule files as a flat list of rules, each with the place it comes from."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import promql_parser as promql
import yaml

SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@dataclass(frozen=True)
class Rule:
    """One rule of one group; *interval* is the group's, in seconds."""

    file: str
    group: str
    interval: float
    expr: str
    alert: str = ""
    record: str = ""
    wait: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.alert or self.record

    @cached_property
    def tree(self) -> Any:
        return promql.parse(self.expr)


def seconds(duration: str) -> float:
    """``1m30s`` in seconds."""
    return sum(float(number) * SECONDS[unit] for number, unit in re.findall(r"(\d+)(ms|[smhdw])", duration))


def rules_in(folder: Path, default_interval: float = 60) -> list[Rule]:
    """The rules of all files below *folder*, in the files' order."""
    return [rule for path in sorted(folder.rglob("*.yml")) for rule in _rules(path, folder, default_interval)]


def _rules(path: Path, folder: Path, default_interval: float) -> Iterator[Rule]:
    for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
        interval = seconds(group["interval"]) if "interval" in group else default_interval
        for rule in group["rules"]:
            yield Rule(
                file=str(path.relative_to(folder)),
                group=group["name"],
                interval=interval,
                expr=str(rule["expr"]),
                alert=rule.get("alert", ""),
                record=rule.get("record", ""),
                wait=rule.get("for"),
                labels=rule.get("labels", {}),
                annotations=rule.get("annotations", {}),
            )


def walk(node: Any) -> Iterator[Any]:
    """The node and all below it."""
    yield node
    for name in ("expr", "lhs", "rhs", "vector_selector"):
        below = getattr(node, name, None)
        if below is not None and type(below).__module__ == type(node).__module__:
            yield from walk(below)
    for argument in getattr(node, "args", ()):
        yield from walk(argument)


def selectors(node: Any) -> Iterator[Any]:
    return (found for found in walk(node) if type(found).__name__ == "VectorSelector")


def calls(node: Any, *names: str) -> Iterator[Any]:
    return (found for found in walk(node) if type(found).__name__ == "Call" and found.func.name in names)
