"""Stepping back for OpenTelemetry: what its meter shows on the same registry, ours does not show a second time.

Two families of one name are two TYPE lines, which fails an OpenMetrics scrape, and counted twice by every ``sum``.
"""

import logging
import sys
from typing import Any
from weakref import WeakKeyDictionary

from llmvitals._recording import Recorder

log = logging.getLogger("llmvitals")

_EXPORTER = "opentelemetry.exporter.prometheus"


class SteppingBack:
    """Hides families of ours for as long as OpenTelemetry's collector shows theirs. Recording into them goes on."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._known: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()
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
        in *shared* may still appear there. None goes: OpenTelemetry shows what was recorded once for ever.
        """
        known = self._known.setdefault(collector, set())
        if not shared <= known:
            known.update(family.name for family in collector.collect())
        return known

    def _collectors(self) -> list[Any]:
        # The only way to the collectors; a registry of another kind has none that we could know.
        registered = getattr(self._recorder.registry, "_collector_to_names", {})
        return [collector for collector in list(registered) if type(collector).__module__.startswith(_EXPORTER)]
