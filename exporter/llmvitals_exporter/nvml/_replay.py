"""A driver that answers from a capture.

A capture is one JSON object. ``source`` says where it is from; ``calls`` has an answer for each question, such as
``"nvmlDeviceGetClockInfo(gpu0, 1)": 1980``. A field value is asked as ``nvmlDeviceGetFieldValues(gpu0, 82)``, one of a
link as ``(gpu0, 138, 0)``. An answer that JSON has no word for is an object with one key:

- ``{"error": 3}`` raises NVML's error of this number. A function of which no call is known is not in the library.
- ``{"handle": "gpu0"}`` is a handle, under the name that it has in the calls.
- ``{"struct": {"gpu": 50, "memory": 20}}`` has these attributes.

``nvmlGpmMetricsGet(gpu0)``, or ``(gpu0, 3)`` of an instance, gives the hardware counters' metrics by number, in
percent.
``xids`` are events that come by themselves: ``[[<seconds after the start>, "gpu0", <xid>], …]``.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

_NOT_SUPPORTED, _TIMEOUT = 3, 10
_UNSIGNED_LONG_LONG = 3  # nvmlValueType_t
_ACTIVITIES = 32


class ReplayedError(Exception):
    """Plays `pynvml.NVMLError`."""

    def __init__(self, value: int) -> None:
        super().__init__(f"error {value}")
        self.value = value


class Replay:
    """Plays the module `pynvml`."""

    # ruff: noqa: N802, N815 -- NVIDIA's names
    NVMLError = ReplayedError
    nvmlMemory_v2 = 2

    def __init__(self, capture: Mapping[str, Any]) -> None:
        self._calls: dict[str, Any] = dict(capture["calls"])
        self._functions = {call.partition("(")[0] for call in self._calls}
        self._xids = sorted(capture.get("xids", ()))
        self._started = time.monotonic()

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if not name.startswith("nvml") or name not in self._functions:
            raise AttributeError(name)
        return lambda *arguments: self.answer(name, arguments)

    def answer(self, function: str, arguments: Sequence[Any]) -> Any:
        """What the capture has for a question. Raises `ReplayedError`."""
        answer = self._calls.get(_call(function, arguments), {"error": _NOT_SUPPORTED})
        if not isinstance(answer, dict):
            return answer
        ((kind, value),) = answer.items()
        if kind == "error":
            raise ReplayedError(value)
        return SimpleNamespace(**value) if kind == "struct" else value

    def nvmlInit(self) -> None:
        if "nvmlInit" in self._functions:
            self.answer("nvmlInit", ())

    def nvmlDeviceGetFieldValues(self, handle: str, fields: Sequence[Any]) -> list[Any]:
        return [self._field(handle, *(field if isinstance(field, tuple) else (field,))) for field in fields]

    def _field(self, handle: str, *field: int) -> SimpleNamespace:
        try:
            value = self.answer("nvmlDeviceGetFieldValues", (handle, *field))
        except ReplayedError as error:
            return SimpleNamespace(nvmlReturn=error.value, valueType=0, value=None)
        return SimpleNamespace(nvmlReturn=0, valueType=_UNSIGNED_LONG_LONG, value=SimpleNamespace(ullVal=value))

    # --- Events -------------------------------------------------------------------------------------------------------

    def nvmlEventSetCreate(self) -> str:
        return "events"

    def nvmlDeviceRegisterEvents(self, handle: str, kinds: int, events: str) -> None:
        """Every card of a capture can tell its events."""

    def nvmlEventSetWait(self, _: str, milliseconds: int) -> SimpleNamespace:
        due = self._xids[0][0] - self.elapsed() if self._xids else float("inf")
        time.sleep(max(0.0, min(due, milliseconds / 1000)))
        if due > milliseconds / 1000:
            raise ReplayedError(_TIMEOUT)
        _, device, xid = self._xids.pop(0)
        return SimpleNamespace(eventType=0x8, eventData=xid, device=device)

    # --- Hardware counters --------------------------------------------------------------------------------------------

    def nvmlGpmSampleAlloc(self) -> SimpleNamespace:
        return SimpleNamespace(place=())

    def nvmlGpmSampleFree(self, sample: SimpleNamespace) -> None:
        """A sample holds nothing."""

    def nvmlGpmSampleGet(self, handle: str, sample: SimpleNamespace) -> SimpleNamespace:
        sample.place = (handle,)
        return sample

    def nvmlGpmMigSampleGet(self, handle: str, instance: int, sample: SimpleNamespace) -> SimpleNamespace:
        sample.place = (handle, instance)
        return sample

    @staticmethod
    def c_nvmlGpmMetricsGet_t() -> SimpleNamespace:
        return SimpleNamespace(metrics=[SimpleNamespace(metricId=0) for _ in range(_ACTIVITIES)])

    def nvmlGpmMetricsGet(self, question: SimpleNamespace) -> SimpleNamespace:
        percent = vars(self.answer("nvmlGpmMetricsGet", question.sample2.place))
        for metric in question.metrics:
            value = percent.get(str(metric.metricId))
            metric.nvmlReturn, metric.value = (_NOT_SUPPORTED, 0.0) if value is None else (0, value)
        return question


def _call(function: str, arguments: Sequence[Any]) -> str:
    return f"{function}({', '.join(map(str, arguments))})"
