"""GPUs' families, whoever made the card, and what of a driver's words can be true."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llmvitals_exporter._believable import number, text
from llmvitals_exporter._declaration import CollectionFailedError
from llmvitals_exporter._family import Family, Reading

_INFO_LABELS = ("index", "name", "pci_bus_id", "vbios_version", "mig_mode", "memory")
_DRIVER_LABELS = ("driver_version", "cuda_version")
INFO = Family(
    "llmvitals_gpu_info",
    "gauge",
    "A GPU's identity; join on uuid. Unified memory is the machine's own.",
    ("uuid", *_INFO_LABELS, *_DRIVER_LABELS),
)
COUNT = Family("llmvitals_gpu_count", "gauge", "GPUs that a vendor's driver shows.", ("vendor",))


def _family(name: str, help_: str, *labels: str) -> Family:
    return Family(f"llmvitals_gpu_{name}", "counter" if name.endswith("_total") else "gauge", help_, ("uuid", *labels))


MIG_INFO = _family(
    "mig_info", "A MIG instance's identity.", "gpu_instance_id", "compute_instance_id", "mig_uuid", "name"
)

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
    (_family("throttle_seconds_total", "Time for which a reason held the clocks down.", "reason"), 1e12),
    (_family("pcie_link_generation", "PCI Express generation in use."), 64.0),
    (_family("pcie_link_width", "PCI Express lanes in use."), 64.0),
    (_family("pcie_replay_total", "PCI Express packets sent again."), 2.0**53),
    (_family("pcie_transmit_bytes_per_second", "PCI Express traffic to the host (opt-in)."), 2.0**50),
    (_family("pcie_receive_bytes_per_second", "PCI Express traffic from the host (opt-in)."), 2.0**50),
    (
        _family("ecc_errors_total", "Memory errors; volatile ones since the driver was loaded.", "type", "scope"),
        2.0**53,
    ),
    (_family("remapped_rows", "Rows of memory replaced by spare ones, by the error that was the cause.", "type"), 1e6),
    (_family("row_remap_pending", "1 when a row waits for a reset of the GPU to be replaced."), 1.0),
    (_family("row_remap_failure", "1 when a row could not be replaced: the GPU is to be exchanged."), 1.0),
    (
        _family(
            "recovery_action",
            "What the driver wants done: 0 nothing, 1 reset the GPU, 2 reboot, 3 drain peers, 4 drain and reset; "
            "more as nvmlDeviceGpuRecoveryAction_t.",
        ),
        255.0,
    ),
    (_family("nvlink_up", "1 when the link is active.", "link"), 1.0),
    (_family("nvlink_transmit_bytes_total", "Bytes sent over a link.", "link"), 2.0**63),
    (_family("nvlink_receive_bytes_total", "Bytes received over a link.", "link"), 2.0**63),
    (_family("nvlink_errors_total", "Errors of a link.", "link", "type"), 2.0**53),
    (_family("processes", "Processes that compute on the GPU."), 1e6),
    (_family("process_memory_bytes", "GPU memory of the 50 largest processes (opt-in).", "pid", "name"), 2.0**50),
    (_family("graphics_activity_ratio", "Share of time in which any engine was active, by hardware counters."), 1.0),
    (_family("sm_activity_ratio", "Share of the multiprocessors that were active."), 1.0),
    (_family("sm_occupancy_ratio", "Share of the warps that could be resident that were."), 1.0),
    (_family("tensor_activity_ratio", "Share of time in which tensor cores worked."), 1.0),
    (_family("dram_activity_ratio", "Share of the memory's bandwidth in use."), 1.0),
    (MIG_INFO, 1.0),
    *(
        (_family(f"mig_memory_{kind}_bytes", f"Memory of a MIG instance, {kind}.", "gpu_instance_id"), 2.0**50)
        for kind in ("total", "used", "free", "reserved")
    ),
    *(
        (_family(f"mig_{kind}_ratio", f"As {kind}_ratio, of a MIG instance.", "gpu_instance_id"), 1.0)
        for kind in ("graphics_activity", "sm_activity", "sm_occupancy", "tensor_activity", "dram_activity")
    ),
)
_BY_NAME = {family.name.removeprefix("llmvitals_gpu_"): (family, most) for family, most in _PLAUSIBLE}

XID_ERRORS = _family("xid_errors_total", "XID errors since the exporter's start.", "xid")
XID_LAST = _family("xid_last_timestamp_seconds", "When an XID error last came, in Unix time.", "xid")
GPU_FAMILIES = (INFO, *(family for family, _ in _PLAUSIBLE))
"""All that a card may have."""


def device_readings(device: Mapping[str, Any], driver: object) -> Iterator[Reading]:
    """What is plausible of one card's ``{"uuid", "info", "readings"}``, its driver's versions in *driver*.

    A reading is a family's name without ``llmvitals_gpu_``, the labels after the UUID, and a number.
    """
    uuid = text(device.get("uuid"))
    if not uuid:
        raise CollectionFailedError("the answer has a GPU without UUID")
    yield INFO, (uuid, *_texts(device.get("info"), _INFO_LABELS), *_texts(driver, _DRIVER_LABELS)), 1.0
    readings = device.get("readings")
    for reading in readings if isinstance(readings, list) else ():
        if not isinstance(reading, list) or len(reading) != 3 or not isinstance(reading[0], str):
            continue
        name, labels, raw = reading
        family, most = _BY_NAME.get(name, (None, 0.0))
        value = number(raw, most)
        if family is None or value is None or not isinstance(labels, list) or 1 + len(labels) != len(family.labels):
            continue
        yield family, (uuid, *map(text, labels)), value


def _texts(mapping: object, keys: Sequence[str]) -> tuple[str, ...]:
    found = mapping if isinstance(mapping, dict) else {}
    return tuple(text(found.get(key)) for key in keys)
