"""GPUs as NVIDIA's dcgm-exporter names them, with its units and labels: for dashboards that were made for it.

Only what NVML knows. Beside a real dcgm-exporter every sum would count twice, so it is opt-in. Two of its ways are kept
although they are poor: megabytes instead of bytes, and the last XID as a gauge that never falls. Its counters are
untyped here, because their names have no ``_total``. As there, a card that MIG splits has memory and activity of its
instances only; the labels of instances are empty elsewhere, which to Prometheus is the same as absent.
"""

import logging
import platform
import re
import socket
from collections.abc import Iterator, Sequence
from typing import Literal

from llmvitals_exporter._family import Family, Reading
from llmvitals_exporter._gpu import GPU_FAMILIES, INFO, MIG_INFO, XID_LAST

_log = logging.getLogger("llmvitals_exporter")

_LABELS = ("gpu", "UUID", "pci_bus_id", "device", "modelName", "hostname", "DCGM_FI_DRIVER_VERSION")
_INSTANCE_LABELS = ("GPU_I_PROFILE", "GPU_I_ID")
_NO_INSTANCE = ("", "")
_MEGABYTE = 2.0**-20
#: Where dcgm-exporter listens if nobody told it otherwise.
_PORT = 9400


def _family(name: str, type_: Literal["gauge", "untyped"], help_: str, *labels: str) -> Family:
    return Family(f"DCGM_FI_{name}", type_, help_, (*_LABELS, *_INSTANCE_LABELS, *labels))


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
_XID = _family("DEV_XID_ERRORS", "gauge", "Value of the last XID error encountered.", "err_code")
_BY_OURS = {(f"llmvitals_gpu_{name}", labels): (theirs, factor) for name, labels, theirs, factor in _SAME}
_OURS = {family.name for family in GPU_FAMILIES}
#: What an instance has as a card has it.
_OF_INSTANCE = {
    f"llmvitals_gpu_mig_{name}": (theirs, factor)
    for name, _, theirs, factor in _SAME
    if f"llmvitals_gpu_mig_{name}" in _OURS
}
#: A card that is split has these of its instances only, or sums would count them twice.
_SPLIT = frozenset(theirs for theirs, _ in _OF_INSTANCE.values())

DCGM_FAMILIES = (*(theirs for _, _, theirs, _ in _SAME), _XID)


def dcgm_view(readings: Sequence[Reading]) -> Iterator[Reading]:
    """The same *readings* once more, in dcgm-exporter's names."""
    cards = {
        labels[0]: _labels(dict(zip(INFO.labels, labels, strict=True)))
        for family, labels, _ in readings
        if family is INFO
    }
    instances = {labels[:2]: _instance(labels[1], labels[4]) for family, labels, _ in readings if family is MIG_INFO}
    split = {uuid for uuid, _ in instances}
    last: dict[str, tuple[float, float]] = dict.fromkeys(cards, (0.0, 0.0))
    for family, labels, value in readings:
        if family is XID_LAST and labels[0] in cards:
            last[labels[0]] = max(last[labels[0]], (value, float(labels[1])))
        theirs, factor = _BY_OURS.get((family.name, labels[1:]), (None, 0.0))
        if theirs is not None and not (labels[0] in split and theirs in _SPLIT):
            yield theirs, (*cards[labels[0]], *_NO_INSTANCE), value * factor
        theirs, factor = _OF_INSTANCE.get(family.name, (None, 0.0))
        if theirs is not None and labels in instances:
            yield theirs, (*cards[labels[0]], *instances[labels]), value * factor
    for uuid, (_, xid) in last.items():
        yield _XID, (*cards[uuid], *_NO_INSTANCE, str(int(xid))), xid


def warn_of_dcgm_exporter(port: int = _PORT) -> None:
    """Say so when something listens where dcgm-exporter does."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=0.5).close()
    except OSError:
        return
    _log.warning(
        "something listens on port %d, as NVIDIA's dcgm-exporter does. If Prometheus scrapes both, every sum over "
        "DCGM_FI_* counts twice: scrape one of them, or leave dcgm out of --nvidia-also",
        port,
    )


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


def _instance(identity: str, name: str) -> tuple[str, str]:
    """Profile and id; the name of a part of an instance is such as ``NVIDIA H100 MIG 1c.3g.40gb``."""
    return re.sub(r"^\d+c\.", "", name.rpartition(" ")[2]), identity
