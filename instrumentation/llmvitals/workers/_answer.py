"""What one worker says of all that its cells do not hold: the application's own metrics and collectors, and exemplars.

It is JSON, and never pickle: whoever reads it runs nothing of it.
"""

import json
import os
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary
from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample
from prometheus_client.values import ValueClass

from llmvitals import catalogue
from llmvitals._recording import Drain, Recorder
from llmvitals._series import GaugeSeries, OwnMetric
from llmvitals.workers import _group
from llmvitals.workers._cells import CellFile
from llmvitals.workers._merge import ADDS, EACH, LATEST, as_json
from llmvitals.workers._retained import LAST

# Of the process and of Python: what their collectors show is in the catalogue, too.
_KNOWN = {family.name: family.across for family in catalogue.FAMILIES if family.type == "gauge"}
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096

Inherited = Mapping[tuple[str, ...], float]
"""What a forked process found counted, by sample: it was its parent, who shows it, too."""


class Answers:
    """Makes this worker's answers, and leaves the last one behind in the group's directory."""

    def __init__(self, recorder: Recorder, path: Path, cells: CellFile, inherited: Inherited) -> None:
        """*path* is this worker's file without an ending."""
        self._recorder = recorder
        self._path = path.with_name(f"{path.name}{LAST}")
        self._cells = cells
        self._inherited = inherited
        self._seen: dict[tuple[Any, ...], tuple[float, float]] = {}

    def answer(self) -> dict[str, Any]:
        """Bring this worker's cells up to date, and return what they do not hold. Never raises."""
        recorder = self._recorder
        recorder.drain()
        recorder.look()
        metrics = recorder.own_metrics()
        for metric in metrics:
            if metric.family.type == "gauge":
                for _, series in metric.series():
                    if isinstance(series, GaugeSeries):
                        with recorder.guard(metric.family.name):
                            series.refresh()
        kept = {"foreign": list(self._foreign()), "beside": as_json(self._cells.beside())}
        with recorder.guard("workers"):
            _group.write(self._path, json.dumps(kept).encode())
        return {**kept, "exemplars": _exemplars(metrics), "resident_bytes": _resident_bytes()}

    def _foreign(self) -> Iterable[list[Any]]:
        for collector in _collectors(self._recorder.registry):
            try:
                for family in collector.collect():
                    yield self._family(collector, family)
            except Exception as error:  # noqa: BLE001 -- one collector must not spoil the scrape
                self._recorder.fault(type(collector).__name__, error)

    def _family(self, collector: Any, family: Metric) -> list[Any]:
        mode = _mode(collector, family)
        samples: list[list[Any]] = []
        for sample in family.samples:
            if family.type == "summary" and "quantile" in sample.labels:
                continue  # Quantiles of many workers are no quantile.
            labels = {str(label): str(text) for label, text in sample.labels.items()}
            value = float(sample.value)
            if mode == ADDS:
                before = self._inherited.get(_key(sample), 0.0)
                value -= before if value >= before else 0.0
            timestamp = None if sample.timestamp is None else float(sample.timestamp)
            if mode == LATEST:
                timestamp = self._changed_at((sample.name, *sorted(labels.items())), value)
            samples.append([sample.name, labels, value, timestamp, _exemplar(sample.exemplar)])
        return [family.name, family.type, family.documentation, family.unit, mode, samples]

    def _changed_at(self, key: tuple[Any, ...], value: float) -> float:
        """Return when *value* was first seen: prometheus_client keeps no time of a gauge in memory."""
        last, at = self._seen.get(key, (0.0, 0.0))
        if value != last:
            at = time.time()
            self._seen[key] = value, at
        return at


def _collectors(registry: CollectorRegistry) -> list[Any]:
    with registry._lock:  # noqa: SLF001 -- the only way to the collectors
        collectors: list[Any] = list(registry._collector_to_names)  # noqa: SLF001
    if registry.get_target_info():
        collectors.insert(0, _TargetInfo(registry))
    multiprocess = sys.modules.get("prometheus_client.multiprocess")
    left_out: tuple[type, ...] = (OwnMetric, Drain)
    if ValueClass._multiprocess:  # noqa: SLF001 -- no public way to know
        # Their numbers are in files that one worker reads for all.
        left_out += (Counter, Gauge, Histogram, Summary)
    if multiprocess is not None:
        left_out += (multiprocess.MultiProcessCollector,)
    return [collector for collector in collectors if not isinstance(collector, left_out)]


class _TargetInfo:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        family = Metric("target", "Target metadata", "info")
        family.add_sample("target_info", self._registry.get_target_info() or {}, 1)
        return (family,)


def inherited(registry: CollectorRegistry) -> Inherited:
    """Return what a process that is forked now takes along of metrics that are kept in memory.

    Only of metrics whose collection is known to take no time: an application's own collector may ask a database.
    """
    return {
        _key(sample): float(sample.value)
        for collector in _collectors(registry)
        if type(collector) in (Counter, Histogram, Summary, GCCollector)
        for family in collector.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def _key(sample: Sample) -> tuple[str, ...]:
    return (sample.name, *sample.labels, *sample.labels.values())


def _mode(collector: Any, family: Metric) -> str:
    if family.type in ("counter", "histogram", "summary"):
        return ADDS
    if family.name in _KNOWN:
        return _KNOWN[family.name]
    if family.type == "info" or family.name.endswith("_info"):
        return "max"
    said = getattr(collector, "_multiprocess_mode", None) or getattr(family, "_multiprocess_mode", None)
    mode = said.removeprefix("live") if isinstance(said, str) else ""
    return mode if mode in ("sum", "max", "min", LATEST) else EACH


def _exemplar(exemplar: Any) -> list[Any] | None:
    if exemplar is None:
        return None
    timestamp = None if exemplar.timestamp is None else float(exemplar.timestamp)
    return [dict(exemplar.labels), float(exemplar.value), timestamp]


def _exemplars(metrics: Iterable[OwnMetric]) -> list[list[Any]]:
    return [
        [metric.family.name, texts, {index: _exemplar(exemplar) for index, exemplar in series.exemplars.items()}]
        for metric in metrics
        for texts, series in metric.series()
        if series.exemplars
    ]


def _resident_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return 0
