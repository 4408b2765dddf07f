"""
What Grafana's own types say: the JSON Schemas of @grafana/schema, in ``schema/``, and the models of Grafana's SDK.

Two oracles, because each misses what the other finds: the schemas know every word that an option may be, the SDK what
becomes of a file that is read and written again.
"""

import functools
import importlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
from grafana.lint.load import Dashboard, panels

SCHEMAS = Path(__file__).with_name("schema")
Found = Iterator[tuple[str, str]]

# The SDK spells out the defaults of what a file leaves out; what it loses or changes is what counts.
Differences = Iterator[tuple[str, str]]


@functools.cache
def schema(name: str) -> jsonschema.Draft7Validator | None:
    """None where @grafana/schema has no such type."""
    path = SCHEMAS / f"{name}.json"
    return jsonschema.Draft7Validator(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def published_types(dashboard: Dashboard) -> Found:
    """What @grafana/schema does not know, or knows as something else."""
    for place, text in _against("dashboard", dashboard):
        yield place, text
    for panel in panels(dashboard):
        kind = panel["type"]
        if schema(f"{kind}.Options") is None:
            yield panel["title"], f"@grafana/schema has no panel {kind}"
            continue
        custom = panel.get("fieldConfig", {}).get("defaults", {}).get("custom")
        for name, value in ((f"{kind}.Options", panel.get("options")), (f"{kind}.FieldConfig", custom)):
            for place, text in _against(name, value):
                yield panel["title"], f"{place}: {text}"


def _against(name: str, value: Any) -> Found:
    validator = schema(name)
    if validator is not None and value is not None:
        for error in validator.iter_errors(value):
            yield _place(error.absolute_path), error.message[:200]


def round_trip(dashboard: Dashboard) -> Found:
    """What is lost or changed when Grafana's SDK reads the file and writes it again."""
    models, encoder = _sdk()
    try:
        written = json.loads(json.dumps(models.Dashboard.from_json(dashboard), cls=encoder.JSONEncoder))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        yield "file", f"the SDK cannot read it: {type(error).__name__}: {error}"
        return
    yield from dict.fromkeys(_differences(dashboard, written, ""))


def _differences(before: Any, after: Any, place: str) -> Differences:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key, value in before.items():
            if key in after:
                yield from _differences(value, after[key], f"{place}/{key}")
            else:
                yield place or "/", f"the SDK loses {key!r}"
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for one, other in zip(before, after, strict=True):
            yield from _differences(one, other, f"{place}/*")
    elif before != after:
        yield place, f"the SDK makes {after!r} of {before!r}"


@functools.cache
def _sdk() -> tuple[Any, Any]:
    importlib.import_module("grafana_foundation_sdk.cog.plugins").register_default_plugins()
    return (
        importlib.import_module("grafana_foundation_sdk.models.dashboard"),
        importlib.import_module("grafana_foundation_sdk.cog.encoder"),
    )


@functools.cache
def unit_names() -> frozenset[str]:
    """Grafana's units; the empty one is a plain number too."""
    units = vars(importlib.import_module("grafana_foundation_sdk.models.units"))
    return frozenset(value for name, value in units.items() if isinstance(value, str) and name[0] != "_") | {""}


def _place(path: Any) -> str:
    return "/" + re.sub(r"/\d+", "/*", "/".join(str(part) for part in path))
