"""One AMD GPU: its identity, and its readings. Units are those that amdsmi has on Linux, versions 6.2 to 7."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from llmvitals_exporter._answering import DriverFailedError, Reading, process_readings
from llmvitals_exporter.amd._driver import NOT_FOUND, AmdSmi, ask, number, part, text

#: AmdSmiTemperatureType, and our sensor. Data centre cards have no edge sensor.
_SENSORS = {"EDGE": "gpu", "HOTSPOT": "hotspot", "VRAM": "memory"}
#: AmdSmiClkType, and our clock.
_CLOCKS = {"GFX": "graphics", "MEM": "memory", "SOC": "soc", "VCLK0": "video"}
_ECC = {"correctable_count": "corrected", "uncorrectable_count": "uncorrected", "deferred_count": "deferred"}
#: Megatransfers a second of one lane, and PCI Express' generation; old versions say gigatransfers.
_GENERATIONS = {2500: 1, 5000: 2, 8000: 3, 16000: 4, 32000: 5, 64000: 6}
_NO_POWER = 0xFFFF


class Card:
    """One GPU. Every question may be unsupported, and then has no reading.

    Args:
        also: ``processes`` when the memory of each process is wanted, although it costs series.
    """

    def __init__(self, smi: AmdSmi, handle: Any, index: int, also: frozenset[str] = frozenset()) -> None:
        self._smi = smi
        self._handle = handle
        self._index = index
        self._also = also
        self.bus_id = text(self._ask("amdsmi_get_gpu_device_bdf"))
        self.uuid = text(self._ask("amdsmi_get_gpu_device_uuid"))

    def info(self) -> dict[str, str]:
        asic = self._ask("amdsmi_get_gpu_asic_info")
        return {
            "index": str(self._index),
            "name": text(part(asic, "market_name")),
            "pci_bus_id": self.bus_id,
            "vbios_version": text(part(self._ask("amdsmi_get_gpu_vbios_info"), "version")),
            "memory": "dedicated" if self._memory("total") else "unified",
        }

    def driver_version(self) -> str:
        return text(part(self._ask("amdsmi_get_gpu_driver_info"), "driver_version"))

    def readings(self) -> list[Reading]:
        """Raises `DriverFailedError` when there is none at all: amdsmi goes on listing a card that is lost."""
        found = list(self._readings())
        if not found:
            raise DriverFailedError(NOT_FOUND, f"GPU {self._index} ({self.bus_id or 'no address'}) answers nothing")
        return found

    def _readings(self) -> Iterator[Reading]:
        for name, labels, value in (*self._plain(), *self._temperatures(), *self._clocks(), *self._pcie()):
            if value is not None:
                yield name, labels, value
        errors = self._ask("amdsmi_get_gpu_total_ecc_count")
        for key, kind in _ECC.items():
            count = number(part(errors, key))
            if count is not None:
                yield "ecc_errors_total", [kind, "volatile"], count
        yield from self._processes()

    def _plain(self) -> Iterator[tuple[str, list[str], float | None]]:
        activity = self._ask("amdsmi_get_gpu_activity")
        for key, name in (("gfx_activity", "utilization"), ("umc_activity", "memory_copy_utilization")):
            percent = number(part(activity, key))
            yield f"{name}_ratio", [], None if percent is None else percent / 100
        total = self._memory("total")
        if total:
            yield "memory_total_bytes", [], total
            yield "memory_used_bytes", [], self._memory("usage")
        yield "power_watts", [], self._power()
        cap = number(part(self._ask("amdsmi_get_power_cap_info"), "power_cap"))
        yield "power_limit_watts", [], cap * 1e-6 if cap else None
        energy = self._ask("amdsmi_get_energy_count")
        # The accumulator was called "power" before version 6.
        ticks = number(part(energy, "energy_accumulator", "power"))
        microjoules = number(part(energy, "counter_resolution"))
        yield "energy_joules_total", [], ticks * microjoules * 1e-6 if ticks is not None and microjoules else None

    def _power(self) -> float | None:
        power = self._ask("amdsmi_get_power_info")
        # A card has one of these; socket_power, their sum in new versions, was not filled in by older ones.
        for key in ("current_socket_power", "average_socket_power", "socket_power"):
            watts = number(part(power, key))
            if watts is not None and watts != _NO_POWER:
                return watts
        return None

    def _memory(self, what: str) -> float | None:
        kind = self._member("AmdSmiMemoryType", "VRAM")
        return None if kind is None else number(self._ask(f"amdsmi_get_gpu_memory_{what}", kind))

    def _temperatures(self) -> Iterator[tuple[str, list[str], float | None]]:
        current = self._member("AmdSmiTemperatureMetric", "CURRENT")
        for name, sensor in _SENSORS.items():
            kind = self._member("AmdSmiTemperatureType", name)
            if kind is not None and current is not None:
                yield "temperature_celsius", [sensor], number(self._ask("amdsmi_get_temp_metric", kind, current))

    def _clocks(self) -> Iterator[tuple[str, list[str], float | None]]:
        for name, clock in _CLOCKS.items():
            kind = self._member("AmdSmiClkType", name)
            answer = None if kind is None else self._ask("amdsmi_get_clock_info", kind)
            megahertz = number(part(answer, "clk", "cur_clk"))
            yield "clock_hertz", [clock], None if megahertz is None else megahertz * 1e6

    def _pcie(self) -> Iterator[tuple[str, list[str], float | None]]:
        link = part(self._ask("amdsmi_get_pcie_info"), "pcie_metric")
        speed = number(part(link, "pcie_speed"))
        if speed is not None:
            generation = _GENERATIONS.get(int(speed if speed >= 1000 else speed * 1000))
            yield "pcie_link_generation", [], None if generation is None else float(generation)
        yield "pcie_link_width", [], number(part(link, "pcie_width")) or None
        yield "pcie_replay_total", [], number(part(link, "pcie_replay_count"))

    def _processes(self) -> Iterator[Reading]:
        processes = self._ask("amdsmi_get_gpu_process_list")
        if not isinstance(processes, list):  # That is not the same as none.
            return
        yield "processes", [], float(len(processes))
        if "processes" not in self._also:
            return
        names, used = {}, {}
        for process in processes:
            pid = part(process, "pid")
            amount = number(part(part(process, "memory_usage"), "vram_mem"))
            if isinstance(pid, int) and amount is not None:
                names[pid], used[pid] = text(part(process, "name")), int(amount)
        yield from process_readings(used, names.__getitem__)

    def _ask(self, function: str, *arguments: Any) -> Any:
        try:
            return ask(self._smi, function, self._handle, *arguments)
        except DriverFailedError as error:
            raise DriverFailedError(error.code, f"GPU {self._index}: {error}") from error

    def _member(self, enumeration: str, name: str) -> Any:
        return getattr(getattr(self._smi, enumeration, None), name, None)


def identities(cards: Sequence[Card]) -> list[str]:
    """What tells each card from the others: its UUID, or where it has none of its own, its PCI address too.

    A UUID is made from the serial number, which consumer cards do not have: two of one model can have the same.

    Raises:
        DriverFailedError: When two cards have one address as well, or a card has neither.
    """
    shared = Counter(card.uuid for card in cards)
    found = [
        card.uuid if card.uuid and shared[card.uuid] == 1 else "@".join(filter(None, (card.uuid, card.bus_id)))
        for card in cards
    ]
    for index, identity in enumerate(found):
        if not identity or identity in found[:index]:
            raise DriverFailedError(NOT_FOUND, f"GPU {index} has no UUID or PCI address of its own: {identity!r}")
    return found
