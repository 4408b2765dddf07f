"""A vendor's GPUs behind a child process that asks their driver: what of its answers is believed, and for how long."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from llmvitals_exporter._believable import number, text
from llmvitals_exporter._child import Child, ChildBusyError, ChildFailedError
from llmvitals_exporter._declaration import CollectionFailedError, NothingToCollect
from llmvitals_exporter._family import Family, Reading
from llmvitals_exporter._gpu import COUNT, XID_ERRORS, XID_LAST, device_readings

#: A scrape waits this long for the driver, not longer: less than the usual time of a collector.
_WAIT_SECONDS = 1.5
#: After a failure the next child is started later and later.
_BACKOFF_SECONDS = 30.0
#: Where no driver was found, one may still be loaded; looking costs the start of a Python process.
_ABSENT_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Vendor:
    """Whose cards they are.

    Attributes:
        return_code: The family for what the vendor's library returned last.
    """

    name: str
    return_code: Family


class Cards:
    """Asks the child, believes only what is plausible, and publishes nothing of a failed collection but its errors.

    Args:
        required: Whether a missing driver is a failure.
        view: Gives readings to add to those of a good collection.
    """

    def __init__(
        self,
        child: Child,
        vendor: Vendor,
        *,
        required: bool = False,
        view: Callable[[Sequence[Reading]], Iterator[Reading]] | None = None,
        wait: float = _WAIT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._child = child
        self._vendor = vendor
        self._view = view
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
            if self._expected or self._child.answered:  # It is there, and always too slow.
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
        yield COUNT, (self._vendor.name,), float(len(devices))
        yield from readings
        if self._view is not None:
            yield from self._view(readings)

    def _health(self, code: float | None) -> list[Reading]:
        """What is told of a failed collection, too: an XID is wanted most when the card is lost."""
        return [*([] if code is None else [(self._vendor.return_code, (), code)]), *self._xids.readings()]

    def _backoff(self) -> float:
        self._failures += 1
        return float(min(_BACKOFF_SECONDS, 2.0 ** (self._failures - 1)))

    def _give_up(self, reason: Exception, seconds: float) -> Exception:
        self._child.replace()
        self._reason = reason
        self._retry_at = self._clock() + seconds
        return reason


class XidCounts:
    """NVIDIA's XID errors over all children: each counts from its own start, and tells them at every answer."""

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
