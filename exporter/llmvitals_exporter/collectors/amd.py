"""AMD GPUs, asked by a child process (see `llmvitals_exporter.amd`)."""

import importlib.util
import sys

from llmvitals_exporter._cards import Cards, Vendor
from llmvitals_exporter._child import Child
from llmvitals_exporter._declaration import Declaration, Option, Settings, one_of, some_of
from llmvitals_exporter._family import Family
from llmvitals_exporter._gpu import COUNT, GPU_FAMILIES

VENDOR = Vendor(
    "amd",
    Family(
        "llmvitals_gpu_collector_amdsmi_return_code",
        "gauge",
        "What amdsmi returned at the last collection; 0 is success.",
    ),
)

AMD = Option(
    flag="--amd",
    metavar="MODE",
    help="auto: serve AMD GPUs if the package amdsmi is installed and a driver answers; on: a missing one is a "
    "failure; off: never ask (default: auto)",
    default="auto",
    parse=one_of("auto", "on", "off"),
)

AMD_ALSO: Option[tuple[str, ...]] = Option(
    flag="--amd-also",
    metavar="WHAT",
    help="processes: the memory of the 50 largest, by pid",
    default=(),
    parse=some_of("processes"),
)


def _open(settings: Settings) -> Cards | None:
    mode = settings[AMD]
    # Looked for, not imported: that would load AMD's library into this process.
    if mode == "off" or (mode == "auto" and importlib.util.find_spec("amdsmi") is None):
        return None
    command = [sys.executable, "-m", "llmvitals_exporter.amd"]
    for what in settings[AMD_ALSO]:
        command += ["--also", what]
    return Cards(Child(command), VENDOR, required=mode == "on")


COLLECTOR = Declaration(
    name="amd",
    help="AMD GPUs through amdsmi, in a child process",
    families=(COUNT, VENDOR.return_code, *GPU_FAMILIES),
    options=(AMD, AMD_ALSO),
    open=_open,
    waits=True,
)
