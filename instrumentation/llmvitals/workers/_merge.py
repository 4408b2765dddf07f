"""Numbers of many workers become one: what adds up is added, gauges follow their family, the rest names its worker."""

import json
import struct
from collections.abc import Callable, Collection, Iterable
from operator import add
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Exemplar

from llmvitals._recording import LABEL_SETS, fold_texts
from llmvitals._series import UNREAD
from llmvitals.catalogue import Family
from llmvitals.workers._cells import Series, family_json, family_of, same_numbers

OnFault = Callable[[str, BaseException, str], None]
Texts = tuple[str, ...]
Labels = tuple[tuple[str, str], ...]

_UNREAD_BITS = struct.pack("<d", UNREAD)
_COMBINE: dict[str, Callable[[float, float], float]] = {"sum": add, "max": max, "min": min}


class Numbers:
    """Series of our own, of as many workers as are added."""

    def __init__(self, on_fault: OnFault) -> None:
        self._on_fault = on_fault
        self.families: dict[str, Family] = {}
        self.cells: dict[str, dict[Texts, list[float]]] = {}

    def add(self, series: Iterable[Series]) -> None:
        """Add a living worker's. Where a family differs from the one known by its name, it is left out and told."""
        for family, texts, cells in series:
            if self.families.get(family.name) is not family and not self._admit(family):
                continue
            own = self.cells[family.name]
            known = own.get(texts)
            if family.type == "gauge":
                self._add_gauge(own, family, texts, cells[0])
            else:
                own[texts] = cells if known is None else list(map(add, known, cells))

    def add_dead(self, series: Iterable[Series]) -> None:
        """Add what a dead worker counted; its gauges are gone. At most `LABEL_SETS` of a family are kept apart."""
        for family, texts, cells in series:
            # What was cut off or damaged must not spoil a number for ever.
            counts = cells if family.type == "counter" else cells[:-1]
            if family.type == "gauge" or not all(count >= 0 for count in counts):
                continue
            if self.families.get(family.name) is not family and not self._admit(family):
                continue
            own = self.cells[family.name]
            kept = texts
            if texts not in own and len(own) >= LABEL_SETS:
                kept = fold_texts(family, texts, [known for known in own if "other" in known])
            known = own.get(kept)
            own[kept] = cells if known is None else list(map(add, known, cells))

    def series(self) -> list[Series]:
        return [(self.families[name], texts, cells) for name, own in self.cells.items() for texts, cells in own.items()]

    def _admit(self, family: Family) -> bool:
        known = self.families.get(family.name)
        if known is None:
            self.families[family.name] = family
            self.cells[family.name] = {}
            return True
        if same_numbers(known, family):
            return True
        self._on_fault(
            "workers",
            ValueError(f"{family.name} has other labels or buckets in another worker"),
            "the numbers of the one that started earlier are left out",
        )
        return False

    def _add_gauge(self, own: dict[Texts, list[float]], family: Family, texts: Texts, value: float) -> None:
        if value != value and struct.pack("<d", value) == _UNREAD_BITS:  # noqa: PLR0124 -- NaN
            return
        known = own.get(texts)
        if known is None or known[0] != known[0]:
            own[texts] = [value]
        elif value == value:  # noqa: PLR0124
            known[0] = _COMBINE[family.across](known[0], value)


def as_json(series: Iterable[Series]) -> list[Any]:
    rows: dict[str, tuple[Family, list[Any]]] = {}
    for family, texts, cells in series:
        rows.setdefault(family.name, (family, []))[1].append([texts, cells])
    return [[family_json(family).decode(), found] for family, found in rows.values()]


def series_of(numbers: Any) -> list[Series]:
    """Read what `as_json` wrote. Raises for what it did not."""
    found: list[Series] = []
    for fields, rows in numbers:
        family = family_of(json.loads(fields))
        found += [(family, tuple(map(str, texts)), list(map(float, cells))) for texts, cells in rows]
    return found


class Foreign:
    """What other collectors on the registry show, in as many workers as are added."""

    def __init__(self) -> None:
        self._families: dict[str, _ForeignFamily] = {}

    def add(self, families: Iterable[Any], worker: str | None) -> None:
        """Add what a living worker answered; *worker* tells its gauges from another's, where there may be others."""
        for name, kind, text, unit, mode, samples in families:
            known = self._families.get(name)
            if known is None:
                known = self._families[name] = _ForeignFamily(str(name), str(kind), str(text), str(unit), str(mode))
            if known.kind == kind:
                known.add(samples, worker)

    def add_dead(self, families: Iterable[Any]) -> None:
        """Add what a dead worker counted, as it was seen last; its gauges are gone."""
        self.add([family for family in families if family[4] == ADDS], None)

    def as_json(self) -> list[Any]:
        return [family.as_json() for family in self._families.values()]

    @property
    def names(self) -> Collection[str]:
        """Of the families, as collectors tell them: a counter's without ``_total``."""
        return self._families.keys()

    def collect(self) -> list[Metric]:
        return [family.metric() for family in self._families.values()]


ADDS, EACH, LATEST = "add", "each", "mostrecent"


class _ForeignFamily:
    def __init__(self, name: str, kind: str, text: str, unit: str, mode: str) -> None:
        self.name = name
        self.kind = kind
        self._text = text
        self._unit = unit
        self._mode = mode
        self._samples: dict[tuple[str, Labels], list[Any]] = {}

    def add(self, samples: Iterable[Any], worker: str | None) -> None:
        for name, labels, value, timestamp, exemplar in samples:
            given = labels
            if self._mode == EACH and worker is not None:
                given = {**labels, "llmvitals_worker" if "worker" in labels else "worker": worker}
            key = (name, tuple(sorted(given.items())))
            known = self._samples.get(key)
            if known is None:
                self._samples[key] = [value, timestamp, exemplar]
                continue
            if exemplar is not None and (known[2] is None or (exemplar[2] or 0) > (known[2][2] or 0)):
                known[2] = exemplar
            if self._mode == ADDS:
                known[0] = min(known[0], value) if name.endswith("_created") else known[0] + value
            elif self._mode == LATEST:
                if (timestamp or 0) >= (known[1] or 0):
                    known[:2] = value, timestamp
            elif self._mode in _COMBINE:
                known[0] = _COMBINE[self._mode](known[0], value)

    def as_json(self) -> list[Any]:
        samples = [[name, dict(labels), *rest] for (name, labels), rest in self._samples.items()]
        return [self.name, self.kind, self._text, self._unit, self._mode, samples]

    def metric(self) -> Metric:
        metric = Metric(self.name, self._text, self.kind, self._unit)
        for (name, labels), (value, timestamp, exemplar) in self._samples.items():
            shown = None if self._mode in (ADDS, LATEST) else timestamp
            metric.add_sample(name, dict(labels), value, shown, None if exemplar is None else Exemplar(*exemplar))
        return metric
