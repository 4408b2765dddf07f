"""GPUs as NVIDIA's dcgm-exporter names them, with its units and labels: for dashboards that were made for it.

Only what NVML knows. Beside a real dcgm-exporter every sum would count twice, so it is opt-in. Two of its ways are kept
although they are poor: megabytes instead of bytes, and the last XID as a gauge that never falls. Its counters are
untyped here, because their names have no ``_total``.
"""

import platform
from collections.abc import Iterator, Sequence
from typing import Literal

from llmvitals_exporter._family import Family, Reading
from llmvitals_exporter._gpu import INFO, XID_LAST

_LABELS = ("gpu", "UUID", "pci_bus_id", "device", "modelName", "hostname", "DCGM_FI_DRIVER_VERSION")
_MEGABYTE = 2.0**-20


def _family(name: str, type_: Literal["gauge", "untyped"], help_: str) -> Family:
    return Family(f"DCGM_FI_{name}", type_, help_, _LABELS)


#: Our name, the labels after the UUID, theirs, factor to their unit.
_SAME: tuple[tuple[str, tuple[str, ...], Family, float], ...] = (
    ("clock_hertz", ("sm",), _family("DEV_SM_CLOCK", "gauge", "SM clock frequency (in MHz)."), 1e-6),
    ("clock_hertz", ("memory",), _family("DEV_MEM_CLOCK", "gauge", "Memory clock frequency (in MHz)."), 1e-6),
    ("temperature_celsius", ("memory",), _family("DEV_MEMORY_TEMP", "gauge", "Memory temperature (in C)."), 1.0),
    ("temperature_celsius", ("gpu",), _family("DEV_GPU_TEMP", "gauge", "GPU temperature (in C)."), 1.0),
    ("power_watts", (), _family("DEV_POWER_USAGE", "gauge", "Power draw (in W)."), 1.0),
    (
        "energy_joules_total",
        (),
        _family("DEV_TOTAL_ENERGY_CONSUMPTION", "untyped", "Total energy consumption since boot (in mJ)."),
        1e3,
    ),
    ("pcie_replay_total", (), _family("DEV_PCIE_REPLAY_COUNTER", "untyped", "Total number of PCIe retries."), 1.0),
    ("utilization_ratio", (), _family("DEV_GPU_UTIL", "gauge", "GPU utilization (in %)."), 100.0),
    ("memory_copy_utilization_ratio", (), _family("DEV_MEM_COPY_UTIL", "gauge", "Memory utilization (in %)."), 100.0),
    ("encoder_utilization_ratio", (), _family("DEV_ENC_UTIL", "gauge", "Encoder utilization (in %)."), 100.0),
    ("decoder_utilization_ratio", (), _family("DEV_DEC_UTIL", "gauge", "Decoder utilization (in %)."), 100.0),
    ("memory_free_bytes", (), _family("DEV_FB_FREE", "gauge", "Frame buffer memory free (in MB)."), _MEGABYTE),
    ("memory_used_bytes", (), _family("DEV_FB_USED", "gauge", "Frame buffer memory used (in MB)."), _MEGABYTE),
    (
        "memory_reserved_bytes",
        (),
        _family("DEV_FB_RESERVED", "gauge", "Frame buffer memory reserved (in MB)."),
        _MEGABYTE,
    ),
    (
        "remapped_rows",
        ("uncorrectable",),
        _family("DEV_UNCORRECTABLE_REMAPPED_ROWS", "untyped", "Number of remapped rows for uncorrectable errors."),
        1.0,
    ),
    (
        "remapped_rows",
        ("correctable",),
        _family("DEV_CORRECTABLE_REMAPPED_ROWS", "untyped", "Number of remapped rows for correctable errors."),
        1.0,
    ),
    ("row_remap_failure", (), _family("DEV_ROW_REMAP_FAILURE", "gauge", "Whether remapping of rows has failed."), 1.0),
    (
        "graphics_activity_ratio",
        (),
        _family("PROF_GR_ENGINE_ACTIVE", "gauge", "Ratio of time the graphics engine is active."),
        1.0,
    ),
    (
        "tensor_activity_ratio",
        (),
        _family("PROF_PIPE_TENSOR_ACTIVE", "gauge", "Ratio of cycles the tensor (HMMA) pipe is active."),
        1.0,
    ),
    (
        "dram_activity_ratio",
        (),
        _family("PROF_DRAM_ACTIVE", "gauge", "Ratio of cycles the device memory interface is active."),
        1.0,
    ),
)
_XID = _family("DEV_XID_ERRORS", "gauge", "Value of the last XID error encountered.")
_BY_OURS = {(f"llmvitals_gpu_{name}", labels): (theirs, factor) for name, labels, theirs, factor in _SAME}

DCGM_FAMILIES = (*(theirs for _, _, theirs, _ in _SAME), _XID)


def dcgm_view(readings: Sequence[Reading]) -> Iterator[Reading]:
    """The same *readings* once more, in dcgm-exporter's names."""
    cards = {
        labels[0]: _labels(dict(zip(INFO.labels, labels, strict=True)))
        for family, labels, _ in readings
        if family is INFO
    }
    last: dict[str, tuple[float, float]] = dict.fromkeys(cards, (0.0, 0.0))
    for family, labels, value in readings:
        if family is XID_LAST and labels[0] in cards:
            last[labels[0]] = max(last[labels[0]], (value, float(labels[1])))
        theirs, factor = _BY_OURS.get((family.name, labels[1:]), (None, 0.0))
        if theirs is not None:
            yield theirs, cards[labels[0]], value * factor
    for uuid, (_, xid) in last.items():
        yield _XID, cards[uuid], xid


def _labels(info: dict[str, str]) -> tuple[str, ...]:
    return (
        info["index"],
        info["uuid"],
        info["pci_bus_id"],
        f"nvidia{info['index']}",
        info["name"],
        platform.node(),
        info["driver_version"],
    )
