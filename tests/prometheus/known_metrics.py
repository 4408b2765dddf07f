"""What may be named in a rule: the catalogues, the pinned list of others' metrics, and what rules record."""

import importlib
from dataclasses import dataclass
from pathlib import Path

import yaml

PROMETHEUS = Path(__file__).parents[2] / "prometheus"
CATALOGUES = ("llmvitals", "llmvitals_exporter", "llmvitals_remediation", "llmvitals_stack")
TARGET_LABELS = frozenset({"job", "instance"})


@dataclass(frozen=True, slots=True)
class Series:
    """The series of one name: what they may be wrapped in, and the labels they may carry."""

    counter: bool | None
    labels: frozenset[str]


def emitted():
    """Each series name that a target may show, histogram parts included."""
    found = {}
    for package in CATALOGUES:
        for family in importlib.import_module(f"{package}.catalogue").FAMILIES:
            _add(found, family.name, family.type, family.labels)
    for source in yaml.safe_load((PROMETHEUS / "third-party.yml").read_text(encoding="utf-8")):
        for name, family in source["families"].items():
            _add(found, name, family["type"], family["labels"])
    return found


def _add(found, name, kind, labels):
    """Two sources of one name add up: a legacy label joins the present ones."""
    parts = {name: labels}
    if kind == "histogram":
        parts = {f"{name}_bucket": (*labels, "le"), f"{name}_sum": labels, f"{name}_count": labels}
    for part, its_labels in parts.items():
        known = found[part].labels if part in found else TARGET_LABELS
        # What /proc/vmstat has is counted by the kernel and typed by nobody: it may be read either way.
        counter = None if kind == "untyped" else kind in {"counter", "histogram"}
        found[part] = Series(counter=counter, labels=known | frozenset(its_labels))
