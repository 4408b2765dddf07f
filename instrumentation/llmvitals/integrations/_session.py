"""What every integration is built from: patches that come off exactly, and fall silent where they cannot."""

import logging
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from llmvitals._current import current
from llmvitals._recording import Recorder
from llmvitals._vitals import Vitals
from llmvitals.integrations._imports import AfterImport

log = logging.getLogger("llmvitals")


@dataclass(slots=True)
class Target:
    """Where all integrations record, and what they call the servers; `instrument` may change it at any time."""

    vitals: Vitals | None = None
    providers: dict[str, str] = field(default_factory=dict)


# Our wrappers and what they wrap. Not an attribute: functools.wraps would copy it onto somebody else's wrapper.
_originals: "weakref.WeakKeyDictionary[Any, Any]" = weakref.WeakKeyDictionary()


class Session:
    """One library, from its `instrument` to its `uninstrument`.

    A wrapper belongs to one session and asks it at each call. So one that cannot be taken out, because somebody else
    has wrapped it, is silent for ever after, and the next session's is not doubled by it.
    """

    def __init__(self, library: str, target: Target, imports: AfterImport | None = None) -> None:
        self.library = library
        self.on = True
        self.target = target
        self._imports = imports or AfterImport()
        self._patches: list[tuple[Any, str, Any, Any]] = []
        self._undoing: list[Callable[[], object]] = []
        self._looked_at: weakref.WeakSet[Recorder] = weakref.WeakSet()
        self._lock = threading.Lock()

    @property
    def vitals(self) -> Vitals | None:
        """Where to record now; None when nowhere."""
        return (self.target.vitals or current()) if self.on else None

    @property
    def providers(self) -> dict[str, str]:
        return self.target.providers

    def patch(self, owner: Any, name: str, wrap: Callable[[Any], Any]) -> None:
        """Put what *wrap* makes of *owner*'s own attribute in its place. One that *owner* has not is left alone."""
        original = vars(owner).get(name)
        if original is None:
            return
        # A silent wrapper of an earlier session may have come back when somebody else's was taken out.
        with suppress(TypeError):  # A property, for one, cannot be referred to weakly; and is none of ours.
            original = _originals.get(original, original)
        wrapper = wrap(original)
        _originals[wrapper] = original
        setattr(owner, name, wrapper)
        self._patches.append((owner, name, original, wrapper))

    def when_imported(self, module: str, then: Callable[[], object]) -> None:
        """Call *then* when *module*, a part of the library, has been imported; now, if it has."""
        if module in sys.modules:
            then()
            return

        def later() -> None:
            try:
                if self.on:
                    then()
            except Exception as error:  # noqa: BLE001 -- a part that looks different is left alone
                log.warning("llmvitals: %s is not watched: %s: %s", module, type(error).__name__, error)

        self._imports.wait(module, later)

    def undo_with(self, undo: Callable[[], object]) -> None:
        """Call *undo* at the end: for what is no patch."""
        self._undoing.append(undo)

    def look_at_scrape(self, recorder: Recorder, look: Callable[[Recorder], None]) -> None:
        """Call *look* at each scrape of *recorder*, while this session is on and records there. Asked for once."""
        with self._lock:
            if recorder in self._looked_at:
                return
            self._looked_at.add(recorder)

        def looking() -> None:
            vitals = self.vitals
            if vitals is not None and vitals.recorder is recorder:
                look(recorder)

        recorder.look_at_scrape(looking)

    def close(self) -> None:
        """Put everything back and be silent. All is tried; then the first error is raised."""
        self.on = False
        faults: list[Exception] = []
        for owner, name, original, wrapper in reversed(self._patches):
            if vars(owner).get(name) is wrapper:
                setattr(owner, name, original)
        for undo in reversed(self._undoing):
            try:
                undo()
            except Exception as error:  # noqa: BLE001 -- a library's own; the others still have their turn
                faults.append(error)
        self._patches.clear()
        self._undoing.clear()
        if faults:
            raise faults[0]
