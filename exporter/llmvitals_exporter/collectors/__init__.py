"""All collectors. A new one is a module beside these, its import, and its line in the table."""

from llmvitals_exporter._declaration import Declaration
from llmvitals_exporter.collectors import (
    amd,
    apple,
    cgroup,
    cpu,
    disk,
    filesystem,
    koboldcpp,
    lmstudio,
    load,
    memory,
    network,
    nvidia,
    ollama,
    pressure,
    processes,
    system,
    vmstat,
)

COLLECTORS: tuple[Declaration, ...] = (
    cpu.COLLECTOR,
    memory.COLLECTOR,
    disk.COLLECTOR,
    filesystem.COLLECTOR,
    network.COLLECTOR,
    load.COLLECTOR,
    pressure.COLLECTOR,
    vmstat.COLLECTOR,
    system.COLLECTOR,
    processes.COLLECTOR,
    cgroup.COLLECTOR,
    nvidia.COLLECTOR,
    amd.COLLECTOR,
    apple.COLLECTOR,
    koboldcpp.COLLECTOR,
    ollama.COLLECTOR,
    lmstudio.COLLECTOR,
)
