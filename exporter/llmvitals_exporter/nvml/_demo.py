"""A card that is not there, and works: for dashboards, alerts and demonstrations on a machine without a GPU."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from llmvitals_exporter.nvml._demo_faults import Faults, changed, xid_of
from llmvitals_exporter.nvml._replay import Replay

_PERIOD_SECONDS = 180.0
_IDLE_CELSIUS, _BUSY_CELSIUS = 34, 71
_IDLE_SHARE = 0.1
#: What a link carries at full load.
_LINK_KIB_PER_SECOND = 20_000_000


class Demo(Replay):
    """Plays a capture, with a load that comes and goes; each card a little later than the one before it.

    Args:
        faults: The file with what goes wrong.
    """

    def __init__(self, capture: Mapping[str, Any], faults: Path | None = None) -> None:
        super().__init__(capture)
        self._faults = Faults(faults)
        self._on: frozenset[tuple[str, str]] = frozenset()
        self._told: frozenset[tuple[str, str]] = frozenset()
        #: The work that each idle card had done when it was last asked for, and what it did not do while it was idle.
        self._idle: dict[str, float] = {}
        self._missed: dict[str, float] = {}

    def answer(self, function: str, arguments: Sequence[Any]) -> Any:
        if function == "nvmlDeviceGetCount":
            return self._collection()
        if function == "nvmlDeviceGetHandleByIndex":
            return super().answer(function, [self._present()[arguments[0]]])
        card = str(arguments[0]) if arguments else ""
        on = frozenset(fault for where, fault in self._on if where == card)
        return changed(self._lively(function, arguments), function, arguments, on, self.elapsed())

    def nvmlEventSetWait(self, events: str, milliseconds: int) -> SimpleNamespace:  # noqa: N802 -- NVIDIA's name
        """An XID comes once each time that the file begins to name it."""
        named = self._faults.read()
        for card, fault in sorted(named - self._told):
            if (xid := xid_of(fault)) is not None:
                self._xids.append([self.elapsed(), card, xid])
        self._told = named
        return super().nvmlEventSetWait(events, milliseconds)

    def _collection(self) -> int:
        """What is asked first of each collection: from now on the faults are those of the file."""
        self._on = self._faults.read()
        return len(self._present())

    def _present(self) -> list[int]:
        """The indices in the capture of the cards that are not missing: those after one that is move up."""
        described = range(super().answer("nvmlDeviceGetCount", ()))
        handles = {index: super(Demo, self).answer("nvmlDeviceGetHandleByIndex", (index,)) for index in described}
        return [index for index, handle in handles.items() if (handle, "missing") not in self._on]

    def _lively(self, function: str, arguments: Sequence[Any]) -> Any:
        answer = super().answer(function, arguments)
        load = self._load(str(arguments[0])) if arguments else 0.0
        if function == "nvmlDeviceGetUtilizationRates":
            answer.gpu, answer.memory = round(100 * load), round(60 * load)
        elif function == "nvmlDeviceGetMemoryInfo":
            answer.used = int((0.2 + 0.6 * load) * answer.total)
            answer.free = answer.total - answer.used - getattr(answer, "reserved", 0)
        elif function == "nvmlDeviceGetPowerUsage":
            limit = super().answer("nvmlDeviceGetEnforcedPowerLimit", arguments)
            answer = int(limit * (_IDLE_SHARE + 0.8 * load))
        elif function == "nvmlDeviceGetTotalEnergyConsumption":
            limit = super().answer("nvmlDeviceGetEnforcedPowerLimit", arguments)
            answer += int(limit * (_IDLE_SHARE * self.elapsed() + 0.8 * self._work(str(arguments[0]))))
        elif function == "nvmlDeviceGetTemperature":
            answer = round(_IDLE_CELSIUS + load * (_BUSY_CELSIUS - _IDLE_CELSIUS))
        elif function == "nvmlDeviceGetFieldValues" and arguments[1] in (138, 139):
            answer += int(_LINK_KIB_PER_SECOND * self._work(str(arguments[0])))
        elif function == "nvmlGpmMetricsGet":
            for metric, percent in vars(answer).items():
                setattr(answer, metric, min(100.0, percent * load * 1.5))
        return answer

    def _load(self, card: str) -> float:
        """From 0 to 1, now."""
        if (card, "idle") in self._on:
            return 0.0
        return 0.5 - 0.5 * math.cos(self._angle(card))

    def _work(self, card: str) -> float:
        """The load's integral since the start, in seconds of full load; it never falls."""
        start, now = self._phase(card), self._angle(card)
        work = 0.5 * self.elapsed() - 0.5 * (math.sin(now) - math.sin(start)) * _PERIOD_SECONDS / math.tau
        if (card, "idle") in self._on:
            self._missed[card] = self._missed.get(card, 0.0) + work - self._idle.get(card, work)
            self._idle[card] = work
        else:
            self._idle.pop(card, None)
        return work - self._missed.get(card, 0.0)

    def _angle(self, card: str) -> float:
        return self._phase(card) + math.tau * self.elapsed() / _PERIOD_SECONDS

    @staticmethod
    def _phase(card: str) -> float:
        return sum(map(ord, card)) % 8 * math.tau / 8
