"""CPU time by mode, from ``/proc/stat``; elsewhere from psutil."""

import os
from collections.abc import Iterator
from typing import Any

from llmvitals_exporter import _portable
from llmvitals_exporter._declaration import Declaration, Reader, Settings, Source
from llmvitals_exporter._family import Family, Reading
from llmvitals_exporter._places import PROCFS, lines

SECONDS = Family("node_cpu_seconds_total", "counter", "Seconds that a CPU spent in a mode.", ("cpu", "mode"))
GUEST = Family(
    "node_cpu_guest_seconds_total",
    "counter",
    "Seconds that a CPU ran guests (virtual machines); they are part of user and nice too.",
    ("cpu", "mode"),
)

_MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
_GUEST_MODES = ("user", "nice")
#: Idle time that goes back further than this is a CPU that was unplugged: its counters start anew.
_REPLUG_SECONDS = 3.0


class Cpu:
    """Remembers what it said, because the kernel lets idle and iowait slip back a little and a counter must not."""

    def __init__(self, procfs: str) -> None:
        self._path = f"{procfs}/stat"
        self._hertz = float(os.sysconf("SC_CLK_TCK"))
        self._said: dict[str, list[float]] = {}

    def read(self) -> Iterator[Reading]:
        for line in lines(self._path):
            name, _, numbers = line.partition(" ")
            if not name.startswith("cpu"):
                break
            cpu = name[3:]
            if not cpu:
                continue  # The sum of all CPUs.
            seconds = self._steady(cpu, [int(number) / self._hertz for number in numbers.split()])
            # zip stops at the modes that an old kernel has.
            for mode, value in zip(_MODES, seconds, strict=False):
                yield SECONDS, (cpu, mode), value
            for mode, value in zip(_GUEST_MODES, seconds[len(_MODES) :], strict=False):
                yield GUEST, (cpu, mode), value

    def _steady(self, cpu: str, seconds: list[float]) -> list[float]:
        said = self._said.get(cpu)
        if said is not None and len(said) == len(seconds) and said[3] - seconds[3] < _REPLUG_SECONDS:
            seconds = [max(pair) for pair in zip(said, seconds, strict=True)]
        self._said[cpu] = seconds
        return seconds

    def close(self) -> None:
        """There is nothing to give back."""


#: Interrupts are part of system there: their kernels do not count them apart in each CPU, or count them twice.
_PORTABLE_MODES = ("user", "nice", "system", "idle")


def portable(psutil: Any) -> Iterator[Reading]:
    for cpu, times in enumerate(psutil.cpu_times(percpu=True)):
        for mode in _PORTABLE_MODES:
            seconds = _portable.number(times, mode)
            if seconds is not None:
                yield SECONDS, (str(cpu), mode), seconds


def _open(settings: Settings) -> Source:
    if _portable.on_linux():
        return Cpu(settings[PROCFS])
    psutil = _portable.psutil()
    return Reader(lambda: portable(psutil))


COLLECTOR = Declaration(name="cpu", help="CPU time by mode", families=(SECONDS, GUEST), options=(PROCFS,), open=_open)
