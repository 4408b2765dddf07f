"""Stepping back for OpenTelemetry: what its meter shows on the same registry, ours does not show a second time.

Two families of one name are two TYPE lines, which fails an OpenMetrics scrape, and counted twice by every ``sum``.
"""

import logging
import sys
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from llmvitals._recording import Recorder

log = logging.getLogger("llmvitals")

_EXPORTER = "opentelemetry.exporter.prometheus"


@dataclass(slots=True)
class _Known:
    """Of one collector: what it has shown, and what OpenTelemetry had recorded in by then."""

    families: set[str] = field(default_factory=set)
    instruments: set[tuple[str, str]] | None = None


class SteppingBack:
    """Hides families of ours for as long as OpenTelemetry's collector shows theirs. Recording into them goes on."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._known: WeakKeyDictionary[Any, _Known] = WeakKeyDictionary()
        self._told = False

    def look(self) -> None:
        """Decide for this scrape: OpenTelemetry's instruments appear when something is first recorded in them."""
        if _EXPORTER not in sys.modules:
            return
        own = self._recorder.own_metrics()
        shared = {metric.name for metric in own if not metric.name.startswith("llmvitals_")}
        theirs = {name for collector in self._collectors() for name in self._shown(collector, shared)}
        hidden = []
        for metric in own:
            metric.hidden = metric.name in theirs
            if metric.hidden:
                hidden.append(metric.name)
        if hidden and not self._told:
            self._told = True
            log.warning(
                "llmvitals: OpenTelemetry shows %s on this registry, too; ours step back while it does, so that "
                "nothing is counted twice. To have both, give start() a registry of its own.",
                ", ".join(hidden),
            )

    def _shown(self, collector: Any, shared: set[str]) -> set[str]:
        """What *collector* shows; asked anew, which takes as long as its part of a scrape, only while one of the names
        in *shared* may still appear there, and there is something new. None goes: OpenTelemetry shows what was recorded
        once for ever.
        """
        known = self._known.setdefault(collector, _Known())
        if not shared <= known.families:
            instruments = _instruments(collector)
            if instruments is None or instruments != known.instruments:
                known.families.update(family.name for family in collector.collect())
                known.instruments = instruments
        return known.families

    def _collectors(self) -> list[Any]:
        # The only way to the collectors; a registry of another kind has none that we could know.
        registered = getattr(self._recorder.registry, "_collector_to_names", {})
        return [collector for collector in list(registered) if type(collector).__module__.startswith(_EXPORTER)]


def _instruments(collector: Any) -> set[tuple[str, str]] | None:
    """Name and unit of all that OpenTelemetry has recorded in, for a tenth of what the collector takes to show it; None
    where another version of it has no such way.
    """
    try:
        reader = collector._callback.__self__  # noqa: SLF001 -- there is no public way
        data = reader._collect(reader)  # noqa: SLF001
        scopes = [] if data is None else [scope for each in data.resource_metrics for scope in each.scope_metrics]
    except Exception:  # noqa: BLE001 -- the slow way tells as much
        return None
    return {(metric.name, metric.unit) for scope in scopes for metric in scope.metrics}
