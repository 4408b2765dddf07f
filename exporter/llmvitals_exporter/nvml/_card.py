"""One GPU: its identity, and what a plain question to it gives."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from llmvitals_exporter._answering import DriverFailedError, Reading, process_readings
from llmvitals_exporter.nvml._driver import UNKNOWN, Nvml, ask, number, text
from llmvitals_exporter.nvml._fields import field_readings

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
    ("ecc_errors_total", "nvmlDeviceGetTotalEccErrors", (0, 0), ("corrected", "volatile"), 1.0),
    ("ecc_errors_total", "nvmlDeviceGetTotalEccErrors", (1, 0), ("uncorrected", "volatile"), 1.0),
    ("ecc_errors_total", "nvmlDeviceGetTotalEccErrors", (0, 1), ("corrected", "aggregate"), 1.0),
    ("ecc_errors_total", "nvmlDeviceGetTotalEccErrors", (1, 1), ("uncorrected", "aggregate"), 1.0),
)
#: Asked for only when wanted: the driver watches each direction for 20 ms before it answers.
_PCIE_THROUGHPUT = (
    ("pcie_transmit_bytes_per_second", "nvmlDeviceGetPcieThroughput", (0,), (), 1024.0),
    ("pcie_receive_bytes_per_second", "nvmlDeviceGetPcieThroughput", (1,), (), 1024.0),
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
#: NVML's links are numbered below this.
_LINKS = 36
_LINK_ERRORS = {"replay": 0, "recovery": 1, "crc_flit": 2, "crc_data": 3}


class Card:
    """One GPU. Every question may be unsupported, and then has no reading.

    Args:
        also: Of ``pcie-throughput`` and ``processes``, what is wanted although it costs time or series.
    """

    def __init__(self, nvml: Nvml, index: int, also: frozenset[str] = frozenset()) -> None:
        self.nvml = nvml
        self._index = index
        self._also = also
        self.handle = ask(nvml, "nvmlDeviceGetHandleByIndex", index)
        if self.handle is None:
            raise DriverFailedError(UNKNOWN, f"GPU {index} gives no handle")
        self.ask: Callable[..., Any] = partial(_ask_card, nvml, self.handle, index)
        #: Of anything but this card: an instance, a process, a sample.
        self.ask_driver: Callable[..., Any] = partial(ask, nvml)
        self.uuid = text(self.ask("nvmlDeviceGetUUID"))
        if not self.uuid:
            raise DriverFailedError(UNKNOWN, f"GPU {index} has no UUID")

    @property
    def has_instances(self) -> bool:
        """Whether the card is split into MIG instances; its utilisation says nothing then."""
        mode = self.ask("nvmlDeviceGetMigMode")
        return mode is not None and bool(mode[0])

    def info(self) -> dict[str, str]:
        pci = self.ask("nvmlDeviceGetPciInfo")
        mig = self.ask("nvmlDeviceGetMigMode")
        return {
            "index": str(self._index),
            "name": text(self.ask("nvmlDeviceGetName")),
            "pci_bus_id": text(getattr(pci, "busId", "")),
            "vbios_version": text(self.ask("nvmlDeviceGetVbiosVersion")),
            "mig_mode": "" if mig is None else ("enabled" if mig[0] else "disabled"),
            "memory": "dedicated" if self._memory() is not None else "unified",
        }

    def readings(self) -> Iterator[Reading]:
        yield from self._numbers(_NUMBERS)
        if "pcie-throughput" in self._also:
            yield from self._numbers(_PCIE_THROUGHPUT)
        if not self.has_instances:
            yield from self._utilization()
        yield from memory_readings("memory", [], self._memory())
        yield from field_readings(self.ask)
        yield from self._throttling()
        yield from self._rows()
        yield from self._links()
        yield from self._processes()

    def _numbers(self, table: Sequence[tuple[str, str, tuple[int, ...], tuple[str, ...], float]]) -> Iterator[Reading]:
        for name, function, arguments, labels, factor in table:
            value = number(self.ask(function, *arguments))
            if value is not None:
                yield name, list(labels), value * factor

    def _utilization(self) -> Iterator[Reading]:
        rates = self.ask("nvmlDeviceGetUtilizationRates")
        pairs: list[tuple[str, object]] = [("utilization_ratio", getattr(rates, "gpu", None))]
        pairs.append(("memory_copy_utilization_ratio", getattr(rates, "memory", None)))
        for name in ("encoder", "decoder"):
            answer = self.ask(f"nvmlDeviceGet{name.capitalize()}Utilization")
            pairs.append((f"{name}_utilization_ratio", None if answer is None else answer[0]))
        for name, raw in pairs:
            percent = number(raw)
            if percent is not None:
                yield name, [], percent / 100

    def _memory(self) -> Any:
        version = getattr(self.nvml, "nvmlMemory_v2", None)
        memory = None if version is None else self.ask("nvmlDeviceGetMemoryInfo", version)
        if memory is None:
            memory = self.ask("nvmlDeviceGetMemoryInfo")
        # Cards that share the machine's memory say "not supported", or, with some drivers, nothing but zeros.
        total: Any = getattr(memory, "total", None)
        return memory if total else None

    def _throttling(self) -> Iterator[Reading]:
        reasons = self.ask("nvmlDeviceGetCurrentClocksEventReasons")
        if reasons is None:  # The name before driver 535.
            reasons = self.ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        if isinstance(reasons, int):
            for reason, bit in _THROTTLE.items():
                yield "throttle_active", [reason], float(bool(reasons & bit))

    def _rows(self) -> Iterator[Reading]:
        rows = self.ask("nvmlDeviceGetRemappedRows")
        if rows is None:
            return
        correctable, uncorrectable, pending, failure = map(number, rows)
        for kind, count in (("correctable", correctable), ("uncorrectable", uncorrectable)):
            if count is not None:
                yield "remapped_rows", [kind], float(count)
        for name, flag in (("row_remap_pending", pending), ("row_remap_failure", failure)):
            if flag is not None:
                yield name, [], float(bool(flag))

    def _links(self) -> Iterator[Reading]:
        for link in range(_LINKS):
            # 0 is a link that is there and down; a link that is not there is unsupported, and so are all after it.
            state = self.ask("nvmlDeviceGetNvLinkState", link)
            if state is None:
                return
            yield "nvlink_up", [str(link)], float(bool(state))
            if not state:
                continue
            for kind, counter in _LINK_ERRORS.items():
                count = number(self.ask("nvmlDeviceGetNvLinkErrorCounter", link, counter))
                if count is not None:
                    yield "nvlink_errors_total", [str(link), kind], float(count)
            yield from field_readings(self.ask, link)

    def _processes(self) -> Iterator[Reading]:
        processes = self.ask("nvmlDeviceGetComputeRunningProcesses")
        if processes is None:  # That is not the same as none.
            return
        yield "processes", [], float(len(processes))
        if "processes" not in self._also:
            return
        used = {}
        for process in processes:
            amount = number(getattr(process, "usedGpuMemory", None))
            if amount is not None:  # Windows' drivers and foreign name spaces do not tell.
                used[process.pid] = amount
        yield from process_readings(used, lambda pid: text(self.ask_driver("nvmlSystemGetProcessName", pid)))


def memory_readings(prefix: str, labels: list[str], memory: Any) -> Iterator[Reading]:
    """The parts of NVML's account of a memory, as ``<prefix>_<kind>_bytes``."""
    for kind in ("total", "used", "free", "reserved"):
        value = number(getattr(memory, kind, None))
        if value is not None:
            yield f"{prefix}_{kind}_bytes", labels, float(value)


def _ask_card(nvml: Nvml, handle: Any, index: int, function: str, *arguments: Any) -> Any:
    try:
        return ask(nvml, function, handle, *arguments)
    except DriverFailedError as error:
        raise DriverFailedError(error.code, f"GPU {index}: {error}") from error


def same_name_once(cards: Sequence[Card]) -> None:
    """Raise when two cards answer with one UUID: their readings could not be told apart."""
    twice = [uuid for uuid, count in Counter(card.uuid for card in cards).items() if count > 1]
    if twice:
        raise DriverFailedError(UNKNOWN, f"two GPUs have the UUID {twice[0]}")
