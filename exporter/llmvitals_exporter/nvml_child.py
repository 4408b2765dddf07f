"""The child process that talks to NVIDIA's driver: ``python -m llmvitals_exporter.nvml_child``.

It reads a line ``{"id": n}`` and answers with one line of JSON::

    {"id": n, "status": "ok", "code": 0, "driver": {"driver_version": "…", "cuda_version": "…"},
     "devices": [{"uuid": "…", "info": {"index": "0", …}, "readings": [["temperature_celsius", ["gpu"], 41.0], …]}]}

``status`` is also ``absent`` (no driver, no library) or ``failed``. It stays that for this process, which is to be
replaced: NVML keeps a library that was exchanged under it for as long as the process lives. A reading's name is its
family's without ``llmvitals_gpu_``, in base units; a reading that the card does not support is left out.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, Protocol

Reading = tuple[str, list[str], float]


class Nvml(Protocol):
    """The part of the module `pynvml` that is always there; everything else may be missing in an old driver."""

    NVMLError: type[Exception]

    def nvmlInit(self) -> None: ...  # noqa: N802 -- NVIDIA's name

    def nvmlDeviceGetCount(self) -> int: ...  # noqa: N802 -- NVIDIA's name


# --- Error codes ------------------------------------------------------------------------------------------------------

_DRIVER_NOT_LOADED, _LIBRARY_NOT_FOUND = 9, 12
#: At start these say that there is nothing here.
_ABSENT = frozenset({_DRIVER_NOT_LOADED, _LIBRARY_NOT_FOUND})
#: After these no reading of this process can be trusted: uninitialised, driver not loaded, GPU lost, reset required,
#: library and driver of different versions, GPU not found.
_LIFECYCLE = frozenset({1, _DRIVER_NOT_LOADED, 15, 16, 18, 28})


class DriverFailedError(Exception):
    """The driver, a card or the library is gone.

    Args:
        code: NVML's return code.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def _code(error: Exception) -> int:
    code = getattr(error, "value", None)
    return code if isinstance(code, int) else 999


# --- Readings of a card -----------------------------------------------------------------------------------------------

#: Name, NVML function, arguments after the handle, labels, factor to base units.
_NUMBERS: tuple[tuple[str, str, tuple[int, ...], tuple[str, ...], float], ...] = (
    ("temperature_celsius", "nvmlDeviceGetTemperature", (0,), ("gpu",), 1.0),
    ("power_watts", "nvmlDeviceGetPowerUsage", (), (), 1e-3),
    ("power_limit_watts", "nvmlDeviceGetEnforcedPowerLimit", (), (), 1e-3),
    ("energy_joules_total", "nvmlDeviceGetTotalEnergyConsumption", (), (), 1e-3),
    ("clock_hertz", "nvmlDeviceGetClockInfo", (0,), ("graphics",), 1e6),
    ("clock_hertz", "nvmlDeviceGetClockInfo", (1,), ("sm",), 1e6),
    ("clock_hertz", "nvmlDeviceGetClockInfo", (2,), ("memory",), 1e6),
    ("clock_hertz", "nvmlDeviceGetClockInfo", (3,), ("video",), 1e6),
    ("pcie_link_generation", "nvmlDeviceGetCurrPcieLinkGeneration", (), (), 1.0),
    ("pcie_link_width", "nvmlDeviceGetCurrPcieLinkWidth", (), (), 1.0),
    ("pcie_replay_total", "nvmlDeviceGetPcieReplayCounter", (), (), 1.0),
)
#: Bits of nvmlDeviceGetCurrentClocksEventReasons.
_THROTTLE = {
    "gpu_idle": 0x1,
    "applications_clocks_setting": 0x2,
    "sw_power_cap": 0x4,
    "hw_slowdown": 0x8,
    "sync_boost": 0x10,
    "sw_thermal_slowdown": 0x20,
    "hw_thermal_slowdown": 0x40,
    "hw_power_brake_slowdown": 0x80,
    "display_clock_setting": 0x100,
}
_MEMORY_TEMPERATURE_FIELD = 82


class Card:
    """One GPU. Every question may be unsupported, and then has no reading."""

    def __init__(self, nvml: Nvml, index: int) -> None:
        self._nvml = nvml
        self._index = index
        self._handle = self.ask("nvmlDeviceGetHandleByIndex", index, on_card=False)
        if self._handle is None:
            raise DriverFailedError(999, f"GPU {index} gives no handle")

    def ask(self, function: str, *arguments: Any, on_card: bool = True) -> Any:
        """What NVML says, or None when card, driver or permission do not allow the question."""
        call: Callable[..., Any] | None = getattr(self._nvml, function, None)
        if call is None:
            return None
        try:
            return call(self._handle, *arguments) if on_card else call(*arguments)
        except self._nvml.NVMLError as error:
            code = _code(error)
            if code in _LIFECYCLE:
                raise DriverFailedError(code, f"GPU {self._index}: {function}: {error}") from error
            return None

    def describe(self) -> dict[str, Any]:
        uuid = _text(self.ask("nvmlDeviceGetUUID"))
        if not uuid:
            raise DriverFailedError(999, f"GPU {self._index} has no UUID")
        pci = self.ask("nvmlDeviceGetPciInfo")
        mig = self.ask("nvmlDeviceGetMigMode")
        return {
            "uuid": uuid,
            "info": {
                "index": str(self._index),
                "name": _text(self.ask("nvmlDeviceGetName")),
                "pci_bus_id": _text(getattr(pci, "busId", "")),
                "vbios_version": _text(self.ask("nvmlDeviceGetVbiosVersion")),
                "mig_mode": "" if mig is None else ("enabled" if mig[0] else "disabled"),
            },
            "readings": list(self._readings()),
        }

    def _readings(self) -> Iterator[Reading]:
        yield from self._numbers()
        yield from self._utilization()
        yield from self._memory()
        yield from self._memory_temperature()
        reasons = self.ask("nvmlDeviceGetCurrentClocksEventReasons")
        if reasons is None:  # The name before driver 535.
            reasons = self.ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        if isinstance(reasons, int):
            for reason, bit in _THROTTLE.items():
                yield "throttle_active", [reason], float(bool(reasons & bit))
        processes = self.ask("nvmlDeviceGetComputeRunningProcesses")
        if processes is not None:
            yield "processes", [], float(len(processes))

    def _numbers(self) -> Iterator[Reading]:
        for name, function, arguments, labels, factor in _NUMBERS:
            value = self.ask(function, *arguments)
            if isinstance(value, int) and not _is_blank(value):
                yield name, list(labels), value * factor

    def _utilization(self) -> Iterator[Reading]:
        rates = self.ask("nvmlDeviceGetUtilizationRates")
        pairs = [("utilization_ratio", getattr(rates, "gpu", None))]
        pairs.append(("memory_copy_utilization_ratio", getattr(rates, "memory", None)))
        for name in ("encoder", "decoder"):
            answer = self.ask(f"nvmlDeviceGet{name.capitalize()}Utilization")
            pairs.append((f"{name}_utilization_ratio", None if answer is None else answer[0]))
        for name, percent in pairs:
            if isinstance(percent, int) and not _is_blank(percent):
                yield name, [], percent / 100

    def _memory(self) -> Iterator[Reading]:
        version = getattr(self._nvml, "nvmlMemory_v2", None)
        memory = None if version is None else self.ask("nvmlDeviceGetMemoryInfo", version)
        if memory is None:
            memory = self.ask("nvmlDeviceGetMemoryInfo")
        # Cards that share the machine's memory say "not supported", or, with some drivers, nothing but zeros.
        if memory is None or not getattr(memory, "total", 0):
            return
        for kind in ("total", "used", "free", "reserved"):
            value = getattr(memory, kind, None)
            if isinstance(value, int) and not _is_blank(value):
                yield f"memory_{kind}_bytes", [], float(value)

    def _memory_temperature(self) -> Iterator[Reading]:
        fields = self.ask("nvmlDeviceGetFieldValues", [_MEMORY_TEMPERATURE_FIELD])
        if fields and fields[0].nvmlReturn == 0:
            value = int(fields[0].value.uiVal)
            # 0 is what cards without the sensor say.
            if value and not _is_blank(value):
                yield "temperature_celsius", ["memory"], float(value)


def _is_blank(value: int) -> bool:
    """Whether the number is one of the driver's ways to write "no value"."""
    top_32, top_64 = 0x7FFFFFF0, 0x7FFFFFFFFFFFFFF0
    return value < 0 or top_32 <= value <= top_32 + 15 or 0xFFFFFFF0 <= value <= 0xFFFFFFFF or value >= top_64


def _text(value: object) -> str:
    if isinstance(value, bytes):  # Older pynvml.
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else ""


# --- The conversation -------------------------------------------------------------------------------------------------


def collect(nvml: Nvml) -> dict[str, Any]:
    """One answer, without its id. Raises `DriverFailedError` when the driver or a card is gone."""
    try:
        count = nvml.nvmlDeviceGetCount()
    except nvml.NVMLError as error:
        raise DriverFailedError(_code(error), f"nvmlDeviceGetCount: {error}") from error
    if count == 0:
        raise DriverFailedError(0, "the driver is there, but shows no GPU")
    cards = [Card(nvml, index) for index in range(count)]
    cuda = cards[0].ask("nvmlSystemGetCudaDriverVersion", on_card=False)
    return {
        "status": "ok",
        "code": 0,
        "driver": {
            "driver_version": _text(cards[0].ask("nvmlSystemGetDriverVersion", on_card=False)),
            "cuda_version": f"{cuda // 1000}.{cuda % 1000 // 10}" if isinstance(cuda, int) else "",
        },
        "devices": [card.describe() for card in cards],
    }


def start(nvml: Nvml) -> dict[str, Any] | None:
    """Initialise NVML; None when that worked, else the answer to give."""
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        code = _code(error)
        status = "absent" if code in _ABSENT else "failed"
        return {"status": status, "code": code, "error": f"nvmlInit: {error}"}
    return None


def main() -> int:
    # A library that prints must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    failure: dict[str, Any] | None
    try:
        import pynvml  # noqa: PLC0415 -- optional, and only this process may load it
    except ImportError:
        failure = {"status": "absent", "code": _LIBRARY_NOT_FOUND, "error": "nvidia-ml-py is not installed"}
    else:
        failure = start(pynvml)
    for line in sys.stdin:
        answer: dict[str, Any] = failure or {}
        if failure is None:
            try:
                answer = collect(pynvml)
            except DriverFailedError as error:
                answer = failure = {"status": "failed", "code": error.code, "error": str(error)}
        answers.write(json.dumps({"id": json.loads(line)["id"], **answer}) + "\n")
        answers.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
