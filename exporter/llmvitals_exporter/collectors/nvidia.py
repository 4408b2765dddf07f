"""NVIDIA GPUs, asked by a child process (see `llmvitals_exporter.nvml`)."""

import sys
from pathlib import Path

from llmvitals_exporter._cards import Cards, Vendor
from llmvitals_exporter._child import Child
from llmvitals_exporter._dcgm import DCGM_FAMILIES, dcgm_view, warn_of_dcgm_exporter
from llmvitals_exporter._declaration import Declaration, Option, Settings, once, one_of, some_of
from llmvitals_exporter._family import Family
from llmvitals_exporter._gpu import COUNT, GPU_FAMILIES, XID_ERRORS, XID_LAST

VENDOR = Vendor(
    "nvidia",
    Family(
        "llmvitals_gpu_collector_nvml_return_code", "gauge", "NVML's return code of the last collection; 0 is success."
    ),
)

NVIDIA = Option(
    flag="--nvidia",
    metavar="MODE",
    help="auto: serve NVIDIA GPUs if a driver answers; on: a missing driver is a failure; off: never ask; demo: play "
    "GPUs that are not there (default: auto)",
    default="auto",
    parse=one_of("auto", "on", "off", "demo"),
)

NVIDIA_ALSO: Option[tuple[str, ...]] = Option(
    flag="--nvidia-also",
    metavar="WHAT",
    help="comma-separated: processes (memory of the 50 largest, by pid), pcie-throughput (40 ms a GPU), dcgm (the "
    "names of NVIDIA's dcgm-exporter, too)",
    default=(),
    parse=some_of("processes", "pcie-throughput", "dcgm"),
)

NVIDIA_DEMO_FAULTS = Option(
    flag="--nvidia-demo-faults",
    metavar="FILE",
    help="with --nvidia demo: faults to play, a line each such as 'gpu0 hot', read anew at each scrape",
    default="",
    parse=once(str),
)

#: The card that a demonstration plays.
_DEMO = Path(__file__).parent.parent / "nvml" / "cards" / "h200.json"


def _open(settings: Settings) -> Cards | None:
    mode, also = settings[NVIDIA], settings[NVIDIA_ALSO]
    if mode == "off":
        return None
    command = [sys.executable, "-m", "llmvitals_exporter.nvml"]
    if mode == "demo":
        command += ["--demo", "--replay", str(_DEMO)]
        command += ["--demo-faults", settings[NVIDIA_DEMO_FAULTS]] if settings[NVIDIA_DEMO_FAULTS] else []
    for what in ("processes", "pcie-throughput"):
        command += ["--also", what] if what in also else []
    view = None
    if "dcgm" in also:
        warn_of_dcgm_exporter()
        view = dcgm_view
    return Cards(Child(command), VENDOR, required=mode in ("on", "demo"), view=view)


COLLECTOR = Declaration(
    name="nvidia",
    help="NVIDIA GPUs through NVML, in a child process",
    families=(COUNT, VENDOR.return_code, XID_ERRORS, XID_LAST, *GPU_FAMILIES, *DCGM_FAMILIES),
    options=(NVIDIA, NVIDIA_ALSO, NVIDIA_DEMO_FAULTS),
    open=_open,
    waits=True,
)
