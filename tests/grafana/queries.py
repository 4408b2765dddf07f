"""Every query of the committed dashboards, with the place it comes from."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "grafana" / "dashboards"

_LABEL_VALUES = re.compile(r"label_values\((?P<series>.+),\s*(?P<label>\w+)\)")


@dataclass(frozen=True, slots=True)
class Query:
    """One expression; *where* names it to a person. *legend* is the text with ``{{labels}}``."""

    where: str
    expr: str
    legend: str = ""
    panel: Mapping[str, Any] | None = None


def load(folder: Path = FOLDER) -> dict[str, dict[str, Any]]:
    return {p.stem: json.loads(p.read_text(encoding="utf-8")) for p in sorted(folder.glob("*.json"))}


def panels(dashboard: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Panels that draw something, those of folded rows among them."""
    found = []
    for panel in dashboard["panels"]:
        found += [panel] if panel["type"] != "row" else panel.get("panels", [])
    return found


def queries(dashboard: Mapping[str, Any]) -> Iterator[Query]:
    """Panels', variables' and annotations' expressions."""
    uid = dashboard["uid"]
    for panel in panels(dashboard):
        for target in panel.get("targets", []):
            where = f"{uid} / {panel['title']} / {target['refId']}"
            yield Query(where, target["expr"], target.get("legendFormat", ""), panel)
    for variable in dashboard["templating"]["list"]:
        if match := _LABEL_VALUES.fullmatch(str(variable.get("definition", ""))):
            yield Query(f"{uid} / variable {variable['name']}", match["series"], f"{{{{{match['label']}}}}}")
    for annotation in dashboard["annotations"]["list"]:
        legend = f"{annotation['titleFormat']} {annotation['textFormat']}"
        yield Query(f"{uid} / annotation {annotation['name']}", annotation["target"]["expr"], legend)


def interpolate(expr: str, *, window: str = "1m", value: str = ".+") -> str:
    """*expr* as Grafana would send it with "All" chosen everywhere."""
    for name in ("__rate_interval", "__interval", "__range"):
        expr = expr.replace(f"${name}", window)
    return re.sub(r"\$\w+", lambda _: value, expr)
