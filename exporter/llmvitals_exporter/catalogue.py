"""Every metric family that the exporter can emit."""

from llmvitals_exporter._family import Family
from llmvitals_exporter._scrape import DURATION, SUCCESS, TIMEOUT
from llmvitals_exporter.collectors import COLLECTORS

BUILD_INFO = Family("llmvitals_exporter_build_info", "gauge", "The exporter's version.", ("version",))

_PROCESS = (
    Family("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes."),
    Family("process_resident_memory_bytes", "gauge", "Resident memory size in bytes."),
    Family("process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds."),
    Family("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds."),
    Family("process_open_fds", "gauge", "Number of open file descriptors."),
    Family("process_max_fds", "gauge", "Maximum number of open file descriptors."),
)

FAMILIES: tuple[Family, ...] = (
    # Each once, however many collectors share it.
    *dict.fromkeys(family for collector in COLLECTORS for family in collector.families),
    SUCCESS,
    DURATION,
    TIMEOUT,
    BUILD_INFO,
    # The exporter's own process, by prometheus_client.
    *_PROCESS,
)

__all__ = ["BUILD_INFO", "FAMILIES", "Family"]
