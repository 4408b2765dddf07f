"""Apple's own GPUs, from what macOS tells everybody: the I/O Registry, by its program ``ioreg``.

Temperature, power and clocks are told to root only (``powermetrics``), so they are absent.
"""

import platform
import plistlib
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from xml.parsers.expat import ExpatError

from llmvitals_exporter._believable import number
from llmvitals_exporter._declaration import CollectionFailedError, Declaration, NothingToCollect, Settings
from llmvitals_exporter._family import Reading
from llmvitals_exporter._gpu import COUNT, GPU_FAMILIES, device_readings

#: Every accelerator with its own properties only, as a property list.
_COMMAND = ("/usr/sbin/ioreg", "-r", "-c", "IOAccelerator", "-d", "1", "-a")
_SECONDS = 1.5


@dataclass(frozen=True, slots=True)
class Apple:
    """Runs the program at each scrape."""

    command: Sequence[str] = _COMMAND
    seconds: float = _SECONDS

    def read(self) -> Iterator[Reading]:
        devices = [_device(index, entry) for index, entry in enumerate(self._accelerators())]
        if not devices:
            raise NothingToCollect("the I/O Registry has no GPU of Apple's")
        yield COUNT, ("apple",), float(len(devices))
        for device in devices:
            yield from device_readings(device, {})

    def close(self) -> None:
        """The program ends by itself."""

    def _accelerators(self) -> list[dict[str, Any]]:
        name = self.command[0]
        try:
            done = subprocess.run(  # noqa: S603 -- an absolute path, and nothing in it from outside
                self.command, stdin=subprocess.DEVNULL, capture_output=True, timeout=self.seconds, check=True
            )
            # Nothing at all is what it prints when it finds nothing.
            found = plistlib.loads(done.stdout) if done.stdout.strip() else []
        except subprocess.TimeoutExpired as error:
            raise CollectionFailedError(f"{name} did not answer within {self.seconds:g} s") from error
        except subprocess.CalledProcessError as error:
            raise CollectionFailedError(f"{name} ended with status {error.returncode}") from error
        except OSError as error:
            raise CollectionFailedError(f"{name} cannot be run: {error.strerror}") from error
        except (ValueError, ExpatError, plistlib.InvalidFileException) as error:
            raise CollectionFailedError(f"{name} printed something else than a property list: {error}") from error
        return [entry for entry in found if _is_apples(entry)] if isinstance(found, list) else []


def _is_apples(entry: object) -> bool:
    """Whether it is a GPU of Apple's: those of Intel Macs have other words for everything."""
    return isinstance(entry, dict) and str(entry.get("IOObjectClass") or entry.get("IOClass")).startswith("AGX")


def _device(index: int, entry: dict[str, Any]) -> dict[str, Any]:
    statistics = entry.get("PerformanceStatistics")
    told = statistics if isinstance(statistics, dict) else {}
    percent = number(told.get("Device Utilization %"), 100.0)
    return {
        # There is no UUID, and the registry's numbers change with each start.
        "uuid": f"apple-{index}",
        "info": {"index": str(index), "name": entry.get("model"), "memory": "unified"},
        "readings": [
            ["utilization_ratio", [], None if percent is None else percent / 100],
            ["memory_used_bytes", [], told.get("In use system memory")],
        ],
    }


def _open(_: Settings) -> Apple | None:
    return Apple() if platform.system() == "Darwin" else None


COLLECTOR = Declaration(
    name="apple",
    help="Apple's GPUs through ioreg, on macOS: use, and memory of the machine that they use",
    families=(COUNT, *GPU_FAMILIES),
    open=_open,
    waits=True,
)
