"""Which lines of code make memory grow: looked for now and then, because looking makes allocations slower."""

import threading
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

from llmvitals import _python_families as families
from llmvitals._recording import Recorder
from llmvitals.agent._memory_trace import trace_memory

EVERY_SECONDS = 1800.0
SECONDS = 15.0
MOST_SITES = 20

Trace = Callable[[float, threading.Event], Mapping[str, Any]]


class GrowthSites:
    """Every *every_seconds*, traces allocations for *seconds*, in three windows, and shows the *top* lines that grew in
    each: a leak adds about as much in every one, while caches that fill and work in flight slow down.

    While it traces, code that does little but allocate takes up to six times as long.
    """

    def __init__(
        self,
        recorder: Recorder,
        *,
        every_seconds: float = EVERY_SECONDS,
        seconds: float = SECONDS,
        top: int = 10,
        trace: Trace = trace_memory,
    ) -> None:
        if not 1 <= top <= MOST_SITES or not 0 < seconds < every_seconds:
            raise ValueError(
                f"top must be from 1 to {MOST_SITES}, and every_seconds above seconds, which must be above 0; "
                f"not {top}, {every_seconds}, {seconds}"
            )
        self.every_seconds = every_seconds
        self.seconds = seconds
        self.top = top
        self._recorder = recorder
        self._trace = trace
        self._shown: set[str] = set()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="llmvitals-growth-sites", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(1.0)

    def look(self) -> None:
        """Trace once, here and now, and show what grew."""
        told = self._trace(self.seconds, self._stopped)
        if self._stopped.is_set() or not told["windows"]:
            return
        window_seconds = told["seconds"] / told["windows"]
        steady = {
            f"{_short(site['file'])}:{site['line']}": min(site["grown_bytes_by_window"]) / window_seconds
            for site in told["sites"]
        }
        grown = sorted((site for site in steady if steady[site] > 0), key=lambda site: -steady[site])[: self.top]
        for gone in self._shown - set(grown):
            self._recorder.forget(families.GROWTH_SITE, gone)
        for site in grown:
            self._recorder.child(families.GROWTH_SITE, site).set(steady[site])
        self._shown = set(grown)

    def _run(self) -> None:
        while not self._stopped.wait(self.every_seconds):
            with self._recorder.guard("growth_sites"):
                self.look()


def _short(file: str) -> str:
    """The end of a path: which module it is, on whatever machine."""
    return "/".join(PurePath(file).parts[-3:])
