"""Readings, checked: what is not a valid exposition must spoil its own collector only."""

import math
from typing import cast

from llmvitals_exporter._declaration import Declaration
from llmvitals_exporter._family import Family, Reading

#: By family, then by label values.
Samples = dict[Family, dict[tuple[str, ...], float]]


def checked(declaration: Declaration, readings: object) -> Samples:
    """The readings by family. Raises ValueError when one of them is not what its family declares."""
    samples: Samples = {}
    if not hasattr(readings, "__iter__"):
        raise ValueError(f"read() gave {readings!r}, which is no readings")
    for reading in readings:
        if not isinstance(reading, tuple) or len(reading) != 3:
            raise ValueError(f"{reading!r} is not a reading")
        family, labels, value = cast("Reading", reading)
        series = samples.get(family)
        if series is None:
            if family not in declaration.families:
                raise ValueError(f"{family!r} is not among the collector's families")
            series = samples[family] = {}
        _check(family, labels, value)
        if labels in series:
            raise ValueError(f"{family.name}{labels} comes twice")
        series[labels] = value
    return samples


def _check(family: Family, labels: object, value: object) -> None:
    if type(labels) is not tuple or len(labels) != len(family.labels):
        raise ValueError(f"{family.name} has the labels {family.labels}, not {labels!r}")
    for label in labels:
        if type(label) is not str:
            raise ValueError(f"{family.name} has a label that is not text: {label!r}")
        if not label.isascii():
            label.encode()  # UnicodeEncodeError, which is a ValueError, where it holds what no exposition can.
    if type(value) is not float or not math.isfinite(value):
        raise ValueError(f"{family.name}{labels} is not a finite float: {value!r}")
