"""The dashboards with this deployment's addresses in them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def read(folder: Path, *, console_url: str | None = None) -> dict[str, Mapping[str, Any]]:
    """Those of a folder's Classic JSON files, by uid; a file that is not a dashboard is left out.

    Args:
        console_url: Where a person's browser finds the console, which panels lead to; None leaves what is written.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(content, dict) and isinstance(content.get("uid"), str):
            found[content["uid"]] = content if console_url is None else _leading_to(content, console_url)
    return found


def _leading_to(dashboard: dict[str, Any], console_url: str) -> dict[str, Any]:
    templating = dashboard.get("templating", {})
    choice = {"selected": True, "text": console_url, "value": console_url}
    variables = [
        {**variable, "query": console_url, "current": choice, "options": [choice]}
        if (variable.get("name"), variable.get("type")) == ("console", "constant")
        else variable
        for variable in templating.get("list", [])
    ]
    return {**dashboard, "templating": {**templating, "list": variables}}
