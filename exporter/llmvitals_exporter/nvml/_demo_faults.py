"""What may go wrong with a card that is not there: faults by name, turned on and off in a file while it plays.

The file has a card and a fault on each line, such as ``gpu0 hot``; what follows a # is a remark. A file that is not
there is no fault. It is read anew at each collection.
"""

import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_log = logging.getLogger("llmvitals_exporter")

_UNCORRECTED = 1  # nvmlMemoryErrorType_t
_SW_THERMAL, _HW_SLOWDOWN, _HW_THERMAL = 0x20, 0x8, 0x40
_MEMORY_TEMPERATURE, _RECOVERY_ACTION, _THERMAL_NANOSECONDS = 82, 230, 75
_RESET = 1  # nvmlDeviceGpuRecoveryAction_t
_CRC_FLIT = 2  # nvmlNvLinkErrorCounter_t
#: The link that the faults of links are about.
_LINK = 0

#: What each does to the card that it is named for.
FAULTS = {
    "ecc": "three memory errors that could not be corrected",
    "row-remap-pending": "a row of memory waits for a reset to be replaced",
    "row-remap-failure": "there is no spare row left",
    "recovery": "the driver asks for a reset",
    "hot": "88 and 98 °C, and the driver lowers the clocks",
    "overheated": "94 and 108 °C, and the card itself lowers the clocks",
    "full": "97 % of the memory is taken",
    "idle": "no load, while the memory stays taken",
    "missing": "the driver does not show the card any more",
    "nvlink-down": f"link {_LINK} is down",
    "nvlink-errors": f"link {_LINK} has another checksum error each second",
    "xid-<number>": "the XID error of this number, once",
}
_XID = re.compile(r"xid-(\d{1,3})")


class Faults:
    """The faults that a file names now.

    Args:
        path: Where it is; None for a demonstration in which nothing goes wrong.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._unknown: set[str] = set()

    def read(self) -> frozenset[tuple[str, str]]:
        """Card and fault, of each line that names a fault that there is."""
        if self._path is None:
            return frozenset()
        try:
            text = self._path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return frozenset()
        found = set()
        for line in text.splitlines():
            words = line.partition("#")[0].split()
            if len(words) == 2 and (words[1] in FAULTS or _XID.fullmatch(words[1])):
                found.add((words[0], words[1]))
            elif words and line not in self._unknown:
                self._unknown.add(line)
                _log.warning("%s: %r is not a card and one of %s", self._path, line[:80], ", ".join(FAULTS))
        return frozenset(found)


def xid_of(fault: str) -> int | None:
    found = _XID.fullmatch(fault)
    return None if found is None else int(found[1])


def changed(answer: Any, function: str, arguments: Sequence[Any], on: frozenset[str], since: float) -> Any:
    """The card's *answer* with the faults that are *on*.

    Args:
        since: Seconds since the demonstration's start; what grows with a fault grows with them.
    """
    change = _CHANGES.get(function)
    return answer if change is None else change(answer, tuple(arguments[1:]), on, since)


def _ecc(answer: Any, detail: tuple[Any, ...], on: frozenset[str], _: float) -> Any:
    return answer + 3 * ("ecc" in on and detail[0] == _UNCORRECTED)


def _rows(answer: Any, _: tuple[Any, ...], on: frozenset[str], _since: float) -> Any:
    correctable, uncorrectable, pending, failure = answer
    bad = ("row-remap-pending" in on, "row-remap-failure" in on)
    return [correctable, uncorrectable + sum(bad), int(pending or bad[0]), int(failure or bad[1])]


def _memory(answer: Any, _: tuple[Any, ...], on: frozenset[str], _since: float) -> Any:
    if "full" in on:
        answer.used = int(0.97 * answer.total)
        answer.free = answer.total - answer.used - getattr(answer, "reserved", 0)
    return answer


def _temperature(answer: Any, _: tuple[Any, ...], on: frozenset[str], _since: float) -> Any:
    return _hotter(answer, on, 88, 94)


def _clocks(answer: Any, _: tuple[Any, ...], on: frozenset[str], _since: float) -> Any:
    return answer | _SW_THERMAL * ("hot" in on) | (_HW_SLOWDOWN | _HW_THERMAL) * ("overheated" in on)


def _link_state(answer: Any, detail: tuple[Any, ...], on: frozenset[str], _: float) -> Any:
    return 0 if "nvlink-down" in on and detail[0] == _LINK else answer


def _link_errors(answer: Any, detail: tuple[Any, ...], on: frozenset[str], since: float) -> Any:
    return answer + int(since) * ("nvlink-errors" in on and detail == (_LINK, _CRC_FLIT))


def _field(answer: Any, detail: tuple[Any, ...], on: frozenset[str], since: float) -> Any:
    if detail[0] == _MEMORY_TEMPERATURE:
        return _hotter(answer, on, 98, 108)
    if detail[0] == _RECOVERY_ACTION and "recovery" in on:
        return _RESET
    if detail[0] == _THERMAL_NANOSECONDS and on & {"hot", "overheated"}:
        return answer + int(since * 1e9)
    return answer


_CHANGES: dict[str, Callable[[Any, tuple[Any, ...], frozenset[str], float], Any]] = {
    "nvmlDeviceGetTotalEccErrors": _ecc,
    "nvmlDeviceGetRemappedRows": _rows,
    "nvmlDeviceGetMemoryInfo": _memory,
    "nvmlDeviceGetTemperature": _temperature,
    "nvmlDeviceGetCurrentClocksEventReasons": _clocks,
    "nvmlDeviceGetNvLinkState": _link_state,
    "nvmlDeviceGetNvLinkErrorCounter": _link_errors,
    "nvmlDeviceGetFieldValues": _field,
}


def _hotter(celsius: int, on: frozenset[str], hot: int, overheated: int) -> int:
    return max(celsius, hot if "hot" in on else 0, overheated if "overheated" in on else 0)
