"""XID errors, as they happen: the driver tells them once, to whoever waits at that moment."""

import threading
import time
from collections.abc import Sequence
from typing import Any

from llmvitals_exporter.nvml._card import Card
from llmvitals_exporter.nvml._driver import TIMEOUT, Nvml, ask, code_of, identity

_XID_CRITICAL = 0x8  # nvmlEventTypeXidCriticalError
_UNKNOWN = "unknown"
_WAIT_MILLISECONDS = 1000
#: After an error that is none of the waiting's own, so that a driver in trouble is not asked in a tight loop.
_PAUSE_SECONDS = 5.0


class Xids:
    """Counts XID errors in a thread of its own from its making on; idle where they are not supported."""

    def __init__(self, nvml: Nvml, cards: Sequence[Card]) -> None:
        self._nvml = nvml
        #: A card that is lost, which is what some XIDs are about, does not say its name any more.
        self._uuids = {identity(card.handle): card.uuid for card in cards}
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, int], tuple[int, float]] = {}
        events = ask(nvml, "nvmlEventSetCreate")
        watched = [card for card in cards if events is not None and self._register(card.handle, events)]
        self.supported = bool(watched)
        if watched:
            threading.Thread(target=self._watch, args=(events,), name="xids", daemon=True).start()

    def seen(self) -> list[tuple[str, int, int, float]]:
        """UUID, XID, how often since the making, and when last in Unix time."""
        with self._lock:
            return [(uuid, xid, count, last) for (uuid, xid), (count, last) in self._seen.items()]

    def _register(self, handle: Any, events: Any) -> bool:
        call = getattr(self._nvml, "nvmlDeviceRegisterEvents", None)
        if call is None:
            return False
        try:
            call(handle, _XID_CRITICAL, events)
        except self._nvml.NVMLError:  # This card does not support it, or we may not.
            return False
        return True

    def _watch(self, events: Any) -> None:
        wait = getattr(self._nvml, "nvmlEventSetWait", None)
        while wait is not None:
            try:
                event = wait(events, _WAIT_MILLISECONDS)
            except self._nvml.NVMLError as error:
                if code_of(error) != TIMEOUT:
                    time.sleep(_PAUSE_SECONDS)
                continue
            self._note(event)

    def _note(self, event: Any) -> None:
        if not event.eventType & _XID_CRITICAL:
            return
        uuid = self._uuids.get(identity(event.device), _UNKNOWN)
        with self._lock:
            count, _ = self._seen.get((uuid, event.eventData), (0, 0.0))
            self._seen[uuid, event.eventData] = count + 1, time.time()
