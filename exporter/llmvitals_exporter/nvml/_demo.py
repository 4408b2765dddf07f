"""A card that is not there, and works: for dashboards, alerts and demonstrations on a machine without a GPU."""

import math
from collections.abc import Sequence
from typing import Any

from llmvitals_exporter.nvml._replay import Replay

_PERIOD_SECONDS = 180.0
_IDLE_CELSIUS, _BUSY_CELSIUS = 34, 71
_IDLE_SHARE = 0.1
#: What a link carries at full load.
_LINK_KIB_PER_SECOND = 20_000_000


class Demo(Replay):
    """Plays a capture, with a load that comes and goes; each card a little later than the one before it."""

    def answer(self, function: str, arguments: Sequence[Any]) -> Any:
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
        return 0.5 - 0.5 * math.cos(self._angle(card))

    def _work(self, card: str) -> float:
        """The load's integral since the start, in seconds of full load; it never falls."""
        start, now = self._phase(card), self._angle(card)
        return 0.5 * self.elapsed() - 0.5 * (math.sin(now) - math.sin(start)) * _PERIOD_SECONDS / math.tau

    def _angle(self, card: str) -> float:
        return self._phase(card) + math.tau * self.elapsed() / _PERIOD_SECONDS

    @staticmethod
    def _phase(card: str) -> float:
        return sum(map(ord, card)) % 8 * math.tau / 8
