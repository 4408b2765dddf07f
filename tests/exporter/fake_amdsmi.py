"""Plays the Python package `amdsmi`, as its documentation and its source (7.0.2) describe it; no card was at hand.

As a module it shows one MI300X and one Radeon; `AmdSmi` shows the cards that it is given.
"""

from enum import IntEnum

NOT_SUPPORTED, NO_PERM, NOT_FOUND, NOT_INIT, DRIVER_NOT_LOADED = 2, 10, 31, 32, 34


class AmdSmiException(Exception):  # noqa: N818 -- AMD's name
    pass


class AmdSmiLibraryException(AmdSmiException):
    def __init__(self, err_code):
        super().__init__(err_code)
        self.err_code = err_code

    def __str__(self):
        return f"Error code:\n\t{self.err_code} | AMDSMI_STATUS - what it means"


class AmdSmiClkType(IntEnum):
    GFX = 0
    SOC = 3
    MEM = 4
    VCLK0 = 6


class AmdSmiTemperatureType(IntEnum):
    EDGE = 0
    HOTSPOT = 1
    VRAM = 2


class AmdSmiTemperatureMetric(IntEnum):
    CURRENT = 0


class AmdSmiMemoryType(IntEnum):
    VRAM = 0


def clock(megahertz):
    return {"clk": megahertz, "min_clk": 100, "max_clk": 2100, "clk_locked": False, "clk_deep_sleep": "N/A"}


#: What each question is answered with: a number is an error's code when it stands in a one-element list, and arguments
#: after the handle choose from a dictionary with tuples for keys.
MI300X = {
    "amdsmi_get_gpu_device_uuid": "b4ff74a1-0000-1000-80f0-000000000001",
    "amdsmi_get_gpu_device_bdf": "0000:05:00.0",
    "amdsmi_get_gpu_asic_info": {"market_name": "AMD Instinct MI300X", "asic_serial": "0x0000000000000000"},
    "amdsmi_get_gpu_vbios_info": {"name": "AMD MI300X_HW_SRIOV", "version": "022.040.003.042"},
    "amdsmi_get_gpu_driver_info": {"driver_name": "amdgpu", "driver_version": "6.12.12", "driver_date": "N/A"},
    "amdsmi_get_gpu_activity": {"gfx_activity": 87, "umc_activity": 42, "mm_activity": "N/A"},
    "amdsmi_get_gpu_memory_total": {(0,): 206_141_652_992},
    "amdsmi_get_gpu_memory_usage": {(0,): 120_000_000_000},
    "amdsmi_get_power_info": {
        "socket_power": 612,
        "current_socket_power": 612,
        "average_socket_power": "N/A",
        "power_limit": 750,
    },
    "amdsmi_get_power_cap_info": {"power_cap": 750_000_000, "max_power_cap": 750_000_000},
    "amdsmi_get_energy_count": {"energy_accumulator": 2_000_000_000, "counter_resolution": 15.3, "timestamp": 1},
    "amdsmi_get_temp_metric": {(0, 0): [NOT_SUPPORTED], (1, 0): 68, (2, 0): 55},
    "amdsmi_get_clock_info": {(0,): clock(2100), (3,): clock("N/A"), (4,): clock(1300), (6,): [NOT_SUPPORTED]},
    "amdsmi_get_pcie_info": {
        "pcie_static": {"max_pcie_width": 16, "max_pcie_speed": 32000},
        "pcie_metric": {"pcie_width": 16, "pcie_speed": 32000, "pcie_bandwidth": 31, "pcie_replay_count": 3},
    },
    "amdsmi_get_gpu_total_ecc_count": {"correctable_count": 7, "uncorrectable_count": 0, "deferred_count": 1},
    "amdsmi_get_gpu_process_list": [
        {"name": "python3", "pid": 4242, "mem": 1, "memory_usage": {"vram_mem": 90_000_000_000}, "cu_occupancy": 304}
    ],
}
RADEON = {
    "amdsmi_get_gpu_device_uuid": "00ff744c-0000-1000-8000-000000000000",
    "amdsmi_get_gpu_device_bdf": "0000:0a:00.0",
    "amdsmi_get_gpu_asic_info": {"market_name": "N/A", "asic_serial": "N/A"},
    "amdsmi_get_gpu_activity": {"gfx_activity": 3, "umc_activity": 1, "mm_activity": 0},
    "amdsmi_get_gpu_memory_total": {(0,): 25_753_026_560},
    "amdsmi_get_gpu_memory_usage": {(0,): 1_200_000_000},
    "amdsmi_get_power_info": {"current_socket_power": "N/A", "average_socket_power": 24},
    "amdsmi_get_temp_metric": {(0, 0): 41, (1, 0): 47, (2, 0): 50},
    "amdsmi_get_gpu_process_list": [NO_PERM],
}


class AmdSmi:
    AmdSmiException = AmdSmiException
    AmdSmiClkType = AmdSmiClkType
    AmdSmiTemperatureType = AmdSmiTemperatureType
    AmdSmiTemperatureMetric = AmdSmiTemperatureMetric
    AmdSmiMemoryType = AmdSmiMemoryType

    def __init__(self, *cards, init=None):
        self.cards = list(cards)
        self._init = init

    def amdsmi_init(self):
        if self._init is not None:
            raise AmdSmiLibraryException(self._init)

    def amdsmi_get_processor_handles(self):
        return list(range(len(self.cards)))

    def __getattr__(self, name):
        if not name.startswith("amdsmi_get_"):
            raise AttributeError(name)
        return lambda handle, *arguments: self._answer(self.cards[handle].get(name, [NOT_SUPPORTED]), arguments)

    def _answer(self, answer, arguments):
        if arguments and isinstance(answer, dict):
            answer = answer[arguments]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, list) and answer and isinstance(answer[0], int):
            raise AmdSmiLibraryException(answer[0])
        return answer


_shown = AmdSmi(MI300X, RADEON)


def __getattr__(name):
    return getattr(_shown, name)
