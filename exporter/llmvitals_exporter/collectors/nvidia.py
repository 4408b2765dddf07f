"""NVIDIA GPUs, asked by a child process (see `llmvitals_exporter.nvml_child`)."""

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llmvitals_exporter._child import Child, ChildBusyError, ChildFailedError
from llmvitals_exporter._declaration import (
    CollectionFailedError,
    Declaration,
    NothingToCollect,
    Option,
    Settings,
    once,
)
from llmvitals_exporter._family import Family, Reading

_INFO_LABELS = ("index", "name", "pci_bus_id", "vbios_version", "mig_mode")
_DRIVER_LABELS = ("driver_version", "cuda_version")
INFO = Family(
    "llmvitals_gpu_info", "gauge", "A GPU's identity; join on uuid.", ("uuid", *_INFO_LABELS, *_DRIVER_LABELS)
)
COUNT = Family("llmvitals_gpu_count", "gauge", "GPUs that the driver shows.")
RETURN_CODE = Family(
    "llmvitals_gpu_collector_nvml_return_code", "gauge", "NVML's return code of the last collection; 0 is success."
)


def _family(name: str, help_: str, *labels: str) -> Family:
    return Family(f"llmvitals_gpu_{name}", "counter" if name.endswith("_total") else "gauge", help_, ("uuid", *labels))


#: Each family with the highest number that can be true: more is a driver's way to write "no value".
_PLAUSIBLE: tuple[tuple[Family, float], ...] = (
    (_family("utilization_ratio", "Share of time in which a kernel ran, 0 to 1."), 1.0),
    (_family("memory_copy_utilization_ratio", "Share of time in which memory was read or written, 0 to 1."), 1.0),
    (_family("encoder_utilization_ratio", "Share of the video encoder in use, 0 to 1."), 1.0),
    (_family("decoder_utilization_ratio", "Share of the video decoder in use, 0 to 1."), 1.0),
    (_family("memory_total_bytes", "Memory of the GPU."), 2.0**50),
    (_family("memory_used_bytes", "Memory in use."), 2.0**50),
    (_family("memory_free_bytes", "Memory free."), 2.0**50),
    (_family("memory_reserved_bytes", "Memory that the driver keeps for itself."), 2.0**50),
    (_family("power_watts", "Power draw."), 100_000.0),
    (_family("power_limit_watts", "Power that the GPU may draw."), 100_000.0),
    (_family("energy_joules_total", "Energy used since the driver was loaded."), 1e15),
    (_family("temperature_celsius", "Temperature.", "sensor"), 250.0),
    (_family("clock_hertz", "Clock frequency.", "clock"), 1e11),
    (_family("throttle_active", "1 for each reason that holds the clocks down now.", "reason"), 1.0),
    (_family("pcie_link_generation", "PCI Express generation in use."), 64.0),
    (_family("pcie_link_width", "PCI Express lanes in use."), 64.0),
    (_family("pcie_replay_total", "PCI Express packets sent again."), 2.0**53),
    (_family("processes", "Processes that compute on the GPU."), 1e6),
)
_BY_NAME = {family.name.removeprefix("llmvitals_gpu_"): (family, most) for family, most in _PLAUSIBLE}

_MODES = ("auto", "on", "off")


def _parse_mode(text: str) -> str:
    if text not in _MODES:
        raise ValueError(f"{text!r} is none of {', '.join(_MODES)}")
    return text


NVIDIA = Option(
    flag="--nvidia",
    metavar="MODE",
    help="auto: serve NVIDIA GPUs if a driver answers; on: a missing driver is a failure; off: never ask "
    "(default: auto)",
    default="auto",
    parse=once(_parse_mode),
)

#: A scrape waits this long for the driver, not longer.
_WAIT_SECONDS = 1.0
#: After a failure the next child is started later and later.
_BACKOFF_SECONDS = 30.0
#: Where no driver was found, one may still be loaded; looking costs the start of a Python process.
_ABSENT_SECONDS = 300.0
_TEXT_LIMIT = 128


class Nvidia:
    """Asks the child, believes only what is plausible, and publishes nothing of a failed collection."""

    def __init__(
        self,
        child: Child,
        *,
        required: bool = False,
        wait: float = _WAIT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._child = child
        self._wait = wait
        self._clock = clock
        #: True once a missing driver is a failure: it was asked for, or it has been here.
        self._expected = required
        self._failures = 0
        self._retry_at = -math.inf
        self._reason: Exception = NothingToCollect("not asked yet")
        child.begin()

    def read(self) -> Iterator[Reading]:
        if self._clock() < self._retry_at:
            raise self._reason
        try:
            answer = self._child.ask(self._wait)
        except ChildBusyError as error:
            if self._expected:
                raise CollectionFailedError(f"the driver gives {error}") from error
            raise NothingToCollect(f"the first answer of a driver is awaited: {error}") from error
        except ChildFailedError as error:
            self._expected = True  # Without a driver the child says so and does not fail.
            raise self._give_up(CollectionFailedError(str(error)), self._backoff()) from error
        return self._believe(answer)

    def close(self) -> None:
        self._child.close()

    def _believe(self, answer: dict[str, Any]) -> Iterator[Reading]:
        status, code = answer.get("status"), _number(answer.get("code"), 2.0**31)
        if status == "absent" and not self._expected:
            raise self._give_up(NothingToCollect(_text(answer.get("error"))), _ABSENT_SECONDS)
        devices = answer.get("devices")
        if status != "ok" or not isinstance(devices, list) or not devices:
            health = () if code is None else ((RETURN_CODE, (), code),)
            self._expected = True
            error = CollectionFailedError(_text(answer.get("error")) or "the answer has no GPU", health)
            raise self._give_up(error, self._backoff())
        self._failures = 0
        self._expected = True
        return self._readings(answer.get("driver"), [device for device in devices if isinstance(device, dict)])

    def _readings(self, driver: object, devices: Sequence[dict[str, Any]]) -> Iterator[Reading]:
        yield RETURN_CODE, (), 0.0
        yield COUNT, (), float(len(devices))
        for device in devices:
            uuid = _text(device.get("uuid"))
            if not uuid:
                raise CollectionFailedError("the answer has a GPU without UUID")
            yield INFO, (uuid, *_texts(device.get("info"), _INFO_LABELS), *_texts(driver, _DRIVER_LABELS)), 1.0
            yield from _device_readings(uuid, device.get("readings"))

    def _backoff(self) -> float:
        self._failures += 1
        return float(min(_BACKOFF_SECONDS, 2.0 ** (self._failures - 1)))

    def _give_up(self, reason: Exception, seconds: float) -> Exception:
        self._child.replace()
        self._reason = reason
        self._retry_at = self._clock() + seconds
        return reason


def _device_readings(uuid: str, readings: object) -> Iterator[Reading]:
    for reading in readings if isinstance(readings, list) else ():
        if not isinstance(reading, list) or len(reading) != 3 or not isinstance(reading[0], str):
            continue
        name, labels, raw = reading
        family, most = _BY_NAME.get(name, (None, 0.0))
        value = _number(raw, most)
        if family is None or value is None or not isinstance(labels, list) or 1 + len(labels) != len(family.labels):
            continue
        yield family, (uuid, *map(_text, labels)), value


def _number(value: object, most: float) -> float | None:
    """The number if it is one and can be true, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:  # NaN is not either.
        return None
    return float(value)


def _text(value: object) -> str:
    return value[:_TEXT_LIMIT] if isinstance(value, str) else ""


def _texts(mapping: object, keys: Sequence[str]) -> tuple[str, ...]:
    found = mapping if isinstance(mapping, dict) else {}
    return tuple(_text(found.get(key)) for key in keys)


def _open(settings: Settings) -> Nvidia | None:
    mode = settings[NVIDIA]
    if mode == "off":
        return None
    command = [sys.executable, "-m", "llmvitals_exporter.nvml_child"]
    return Nvidia(Child(command), required=mode == "on")


COLLECTOR = Declaration(
    name="nvidia",
    help="NVIDIA GPUs through NVML, in a child process",
    families=(INFO, COUNT, RETURN_CODE, *(family for family, _ in _PLAUSIBLE)),
    options=(NVIDIA,),
    open=_open,
    waits=True,
)
