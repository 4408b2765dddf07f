"""Dashboards as committed, and what of them the checks look at."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import promql_parser

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "grafana" / "dashboards"

Dashboard = Mapping[str, Any]
_BUILT_IN = ("__rate_interval", "__interval", "__range")


def dashboards(folder: Path = FOLDER) -> list[dict[str, Any]]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def panels(dashboard: Dashboard) -> Iterator[dict[str, Any]]:
    """Panels that draw something, those of folded rows among them."""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels", [])
        else:
            yield panel


def targets(dashboard: Dashboard) -> Iterator[tuple[str, str]]:
    """Each panel's title, and an expression of it."""
    for panel in panels(dashboard):
        for target in panel.get("targets", []):
            yield panel["title"], target.get("expr", "")


def variables(dashboard: Dashboard) -> dict[str, Mapping[str, Any]]:
    return {variable["name"]: variable for variable in dashboard["templating"]["list"]}


def tree(expr: str) -> Any:
    """*expr* as it is sent, parsed. Raises ValueError where it cannot be."""
    for name in _BUILT_IN:
        expr = expr.replace(f"${name}", "1m")
    return promql_parser.parse(re.sub(r"\$\{?\w+\}?", ".+", expr))
