"""A rule file as text: what a person would have written, always the same for the same rules."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are evaluated one after another, each evaluation_interval of Prometheus if they have no *interval*."""

    name: str
    rules: Sequence[Mapping[str, Any]]
    interval: str | None = None
    comment: str = ""


@dataclass(frozen=True, slots=True)
class RuleFile:
    path: str
    header: str
    groups: Sequence[Group] = field(default_factory=tuple)

    def text(self) -> str:
        parts = [
            "# Written by `make generate` (prometheus/builder). Change that, not this.\n#\n",
            _comment(self.header, ""),
        ]
        parts.append("groups:\n")
        for group in self.groups:
            content: dict[str, Any] = {"name": group.name}
            if group.interval:
                content["interval"] = group.interval
            content["rules"] = [dict(rule) for rule in group.rules]
            if group.comment:
                parts.append(_comment(group.comment, "  "))
            dumped = yaml.dump([content], Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True)
            parts.append("".join(f"  {line}\n" if line else "\n" for line in dumped.splitlines()))
        return "".join(parts)


def record(name: str, expr: str, **labels: str) -> dict[str, Any]:
    return {"record": name, "expr": expr, **({"labels": labels} if labels else {})}


def _comment(text: str, indent: str) -> str:
    return "".join(f"{indent}# {line}".rstrip() + "\n" for line in text.strip().splitlines())


class _Dumper(yaml.SafeDumper):
    """Long texts as blocks, lists indented, nothing by reference."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002 -- its signature
        return super().increase_indent(flow, False)

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 -- its signature
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)
