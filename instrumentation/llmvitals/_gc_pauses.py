import gc
from bisect import bisect_left
from time import perf_counter
from typing import Any

from llmvitals import _python_families as families
from llmvitals._recording import Recorder, observe_counted

_GENERATIONS = 3


class GCPauses:
    """Times each collection, in the collector's own call-backs, and shows them when somebody scrapes.

    The call-backs only add to lists: a collection may begin anywhere, also while its thread holds a metric's lock. Two
    never run at once.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._bounds = families.GC_PAUSE.buckets
        self._counts = [self._nothing() for _ in range(_GENERATIONS)]
        self._sums = [0.0] * _GENERATIONS
        self._shown = [(self._nothing(), 0.0) for _ in range(_GENERATIONS)]
        self._began = 0.0
        # Bound once: each look at the attribute makes another one, which could not be found again.
        self._callback = self._collected

    def start(self) -> None:
        gc.callbacks.append(self._callback)
        self._recorder.look_at_scrape(self._show)

    def stop(self) -> None:
        if self._callback in gc.callbacks:
            gc.callbacks.remove(self._callback)

    def _nothing(self) -> list[int]:
        return [0] * (len(self._bounds) + 1)

    def _collected(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            self._began = perf_counter()
            return
        seconds = perf_counter() - self._began
        generation = info["generation"]
        self._counts[generation][bisect_left(self._bounds, seconds)] += 1
        self._sums[generation] += seconds

    def _show(self) -> None:
        for generation in range(_GENERATIONS):
            counts, total = self._counts[generation].copy(), self._sums[generation]
            shown, shown_total = self._shown[generation]
            self._shown[generation] = counts, total
            new = [count - before for count, before in zip(counts, shown, strict=True)]
            child = self._recorder.child(families.GC_PAUSE, str(generation))
            observe_counted(child, new, max(total - shown_total, 0.0))
