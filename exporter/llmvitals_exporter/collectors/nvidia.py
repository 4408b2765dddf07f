"""NVIDIA GPUs, asked by a child process (see `llmvitals_exporter.nvml`)."""

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from llmvitals_exporter._child import Child, ChildBusyError, ChildFailedError
from llmvitals_exporter._dcgm import DCGM_FAMILIES, dcgm_view
from llmvitals_exporter._declaration import (
    CollectionFailedError,
    Declaration,
    NothingToCollect,
    Option,
    Settings,
    once,
)
from llmvitals_exporter._family import Family, Reading
from llmvitals_exporter._gpu import COUNT, GPU_FAMILIES, XID_ERRORS, XID_LAST, device_readings, number, text

RETURN_CODE = Family(
    "llmvitals_gpu_collector_nvml_return_code", "gauge", "NVML's return code of the last collection; 0 is success."
)

_MODES = ("auto", "on", "off", "demo")
_ALSO = ("processes", "pcie-throughput", "dcgm")


def _parse_mode(text: str) -> str:
    if text not in _MODES:
        raise ValueError(f"{text!r} is none of {', '.join(_MODES)}")
    return text


def _parse_also(texts: Sequence[str]) -> tuple[str, ...]:
    names = tuple(name.strip() for text in texts for name in text.split(",") if name.strip())
    unknown = [name for name in names if name not in _ALSO]
    if unknown:
        raise ValueError(f"{', '.join(unknown)!r} is none of {', '.join(_ALSO)}")
    return names


NVIDIA = Option(
    flag="--nvidia",
    metavar="MODE",
    help="auto: serve NVIDIA GPUs if a driver answers; on: a missing driver is a failure; off: never ask; demo: play "
    "GPUs that are not there (default: auto)",
    default="auto",
    parse=once(_parse_mode),
)

NVIDIA_ALSO: Option[tuple[str, ...]] = Option(
    flag="--nvidia-also",
    metavar="WHAT",
    help="comma-separated: processes (memory of the 50 largest, by pid), pcie-throughput (40 ms a GPU), dcgm (the "
    "names of NVIDIA's dcgm-exporter, too)",
    default=(),
    parse=_parse_also,
)

#: The card that a demonstration plays.
_DEMO = Path(__file__).parent.parent / "nvml" / "cards" / "h200.json"
#: A scrape waits this long for the driver, not longer.
_WAIT_SECONDS = 1.0
#: After a failure the next child is started later and later.
_BACKOFF_SECONDS = 30.0
#: Where no driver was found, one may still be loaded; looking costs the start of a Python process.
_ABSENT_SECONDS = 300.0


class Nvidia:
    """Asks the child, believes only what is plausible, and publishes nothing of a failed collection but its XIDs.

    Args:
        required: Whether a missing driver is a failure.
        dcgm: Whether to tell everything in dcgm-exporter's names, too.
    """

    def __init__(
        self,
        child: Child,
        *,
        required: bool = False,
        dcgm: bool = False,
        wait: float = _WAIT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._child = child
        self._dcgm = dcgm
        self._wait = wait
        self._clock = clock
        #: True once a missing driver is a failure: it was asked for, or it has been here.
        self._expected = required
        self._failures = 0
        self._retry_at = -math.inf
        self._reason: Exception = NothingToCollect("not asked yet")
        self._xids = XidCounts()
        child.begin()

    def read(self) -> Iterator[Reading]:
        if self._clock() < self._retry_at:
            raise self._reason
        try:
            answer = self._child.ask(self._wait)
        except ChildBusyError as error:
            if self._expected:
                raise CollectionFailedError(f"the driver gives {error}", self._health(None)) from error
            raise NothingToCollect(f"the first answer of a driver is awaited: {error}") from error
        except ChildFailedError as error:
            self._expected = True  # Without a driver the child says so and does not fail.
            self._xids.end_generation()
            failure = CollectionFailedError(str(error), self._health(None))
            raise self._give_up(failure, self._backoff()) from error
        return self._believe(answer)

    def close(self) -> None:
        self._child.close()

    def _believe(self, answer: dict[str, Any]) -> Iterator[Reading]:
        status, code = answer.get("status"), number(answer.get("code"), 2.0**31)
        if status == "absent" and not self._expected:
            raise self._give_up(NothingToCollect(text(answer.get("error"))), _ABSENT_SECONDS)
        self._xids.take(answer.get("xids"))
        devices = answer.get("devices")
        if status != "ok" or not isinstance(devices, list) or not devices:
            self._expected = True
            self._xids.end_generation()
            error = CollectionFailedError(text(answer.get("error")) or "the answer has no GPU", self._health(code))
            raise self._give_up(error, self._backoff())
        self._failures = 0
        self._expected = True
        return self._readings(answer.get("driver"), [device for device in devices if isinstance(device, dict)])

    def _readings(self, driver: object, devices: Sequence[dict[str, Any]]) -> Iterator[Reading]:
        readings = [reading for device in devices for reading in device_readings(device, driver)]
        readings += self._health(0.0)
        yield COUNT, (), float(len(devices))
        yield from readings
        if self._dcgm:
            yield from dcgm_view(readings)

    def _health(self, code: float | None) -> list[Reading]:
        """What is told of a failed collection, too: an XID is wanted most when the card is lost."""
        return [*([] if code is None else [(RETURN_CODE, (), code)]), *self._xids.readings()]

    def _backoff(self) -> float:
        self._failures += 1
        return float(min(_BACKOFF_SECONDS, 2.0 ** (self._failures - 1)))

    def _give_up(self, reason: Exception, seconds: float) -> Exception:
        self._child.replace()
        self._reason = reason
        self._retry_at = self._clock() + seconds
        return reason


class XidCounts:
    """Counts over all children: each counts from its own start, and tells them at every answer."""

    def __init__(self) -> None:
        self._ended: dict[tuple[str, str], float] = {}
        self._now: dict[tuple[str, str], float] = {}
        self._last: dict[tuple[str, str], float] = {}

    def take(self, told: object) -> None:
        """Take what a child counts: UUID, XID, times since its start, Unix time of the last."""
        for entry in told if isinstance(told, list) else ():
            if not isinstance(entry, list) or len(entry) != 4:
                continue
            xid, times, last = (number(raw, most) for raw, most in zip(entry[1:], (1e6, 1e12, 1e12), strict=True))
            if xid is None or times is None or last is None or not text(entry[0]):
                continue
            key = text(entry[0]), str(int(xid))
            self._now[key] = times
            self._last[key] = last

    def end_generation(self) -> None:
        """The child that counted is gone; the next starts at nought."""
        for key, times in self._now.items():
            self._ended[key] = self._ended.get(key, 0.0) + times
        self._now = {}

    def readings(self) -> Iterator[Reading]:
        for key, last in self._last.items():
            yield XID_ERRORS, key, self._ended.get(key, 0.0) + self._now.get(key, 0.0)
            yield XID_LAST, key, last


def _open(settings: Settings) -> Nvidia | None:
    mode, also = settings[NVIDIA], settings[NVIDIA_ALSO]
    if mode == "off":
        return None
    command = [sys.executable, "-m", "llmvitals_exporter.nvml"]
    if mode == "demo":
        command += ["--demo", "--replay", str(_DEMO)]
    for what in ("processes", "pcie-throughput"):
        command += ["--also", what] if what in also else []
    return Nvidia(Child(command), required=mode in ("on", "demo"), dcgm="dcgm" in also)


COLLECTOR = Declaration(
    name="nvidia",
    help="NVIDIA GPUs through NVML, in a child process",
    families=(COUNT, RETURN_CODE, XID_ERRORS, XID_LAST, *GPU_FAMILIES, *DCGM_FAMILIES),
    options=(NVIDIA, NVIDIA_ALSO),
    open=_open,
    waits=True,
)
