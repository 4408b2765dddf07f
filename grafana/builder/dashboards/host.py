"""Host: does the machine have enough of everything, and which program takes it?"""

from typing import Any

from grafana.builder.dashboards.host_programs import program_rows
from grafana.builder.dashboards.shared import annotations, service_variables, worst
from grafana.builder.layout import Row, dashboard
from grafana.builder.overrides import color_by_name, dashed
from grafana.builder.panels import TABLE_HEIGHT, Panel, Query, alerted, bargauge, stat, timeseries
from grafana.builder.promql import SERVICE, aggregate, increase, rate, ratio, select, share_of_time, total
from grafana.builder.thresholds import ANY_IS_BAD, DISK_LEFT, MEMORY_LEFT

CPU = "node_cpu_seconds_total"
MODES = {
    "user": "blue",
    "system": "purple",
    "iowait": "orange",
    "steal": "red",
    "nice": "super-light-blue",
    "irq": "light-purple",
    "softirq": "dark-purple",
}
PARTS = {"programs": "blue", "cache": "light-blue", "kernel": "purple", "free": "text"}
REAL_DEVICE = 'device!="lo"'
# What holds no data of ours: images, kernel views, memory.
REAL_FILESYSTEM = 'fstype!~"tmpfs|ramfs|squashfs|proc|sysfs|devtmpfs|cgroup.*"'
MEBIBYTE = 1048576
# What moves has an axis of its own, in bytes per second.
SWAPPED = [
    {
        "matcher": {"id": "byName", "options": name},
        "properties": [
            {"id": "color", "value": {"fixedColor": color, "mode": "fixed"}},
            {"id": "custom.axisPlacement", "value": "right"},
            {"id": "unit", "value": "Bps"},
        ],
    }
    for name, color in (("in per second", "purple"), ("out per second", "orange"))
]
NO_LINUX = "Not told on this system"


def build() -> dict[str, Any]:
    rows = [
        Row(1, "", _first_line()),
        Row(100, "Processors", _processor()),
        Row(200, "Memory", _memory()),
        Row(300, "Disks", _disks()),
        Row(400, "Network and kernel", _network()),
        *program_rows(),
    ]
    return dashboard(
        "llmvitals-host",
        "llmvitals / Host",
        "Does the machine have enough of everything, and which program takes it?",
        variables=service_variables("node_boot_time_seconds"),
        annotations=annotations(),
        rows=rows,
    )


def _left() -> str:
    return ratio(select("node_memory_MemAvailable_bytes", SERVICE), select("node_memory_MemTotal_bytes", SERVICE))


def _disk_left() -> str:
    return ratio(
        select("node_filesystem_avail_bytes", SERVICE, REAL_FILESYSTEM),
        select("node_filesystem_size_bytes", SERVICE, REAL_FILESYSTEM),
    )


def _first_line() -> list[Panel]:
    idle = aggregate("avg", rate(CPU, SERVICE, 'mode="idle"'), "instance")
    cores = aggregate("count", select(CPU, SERVICE, 'mode="idle"'), "instance")
    load = aggregate("max", select("node_load5", SERVICE), "instance")
    waiting = share_of_time(rate("node_pressure_io_waiting_seconds_total", SERVICE))
    booted = aggregate("min", f"time() - {select('node_boot_time_seconds', SERVICE)}")
    return [
        stat(
            2,
            "Processor",
            "Share of all cores that is busy, of the busiest host.",
            Query(worst(f"1 - {idle}")),
            unit="percentunit",
            decimals=0,
        ),
        stat(
            3,
            "Load per core",
            "Tasks that run or wait, for each core, over five minutes; of the host with most.",
            Query(worst(f"{load} / {cores}")),
            unit="short",
            decimals=2,
            no_value=NO_LINUX,
        ),
        stat(
            4,
            "Memory left",
            "Share that programs could be given at once; of the fullest host.",
            Query(aggregate("min", _left())),
            unit="percentunit",
            decimals=0,
            limit=MEMORY_LEFT,
            no_value=NO_LINUX,
        ),
        stat(
            5,
            "Disk left",
            "Share of the fullest filesystem.",
            Query(aggregate("min", _disk_left())),
            unit="percentunit",
            decimals=0,
            limit=DISK_LEFT,
        ),
        stat(
            6,
            "Disk waits",
            f"Share of the time in which some task did. {alerted('HostIoPressure')}",
            Query(worst(waiting)),
            unit="percentunit",
            decimals=1,
            no_value=NO_LINUX,
        ),
        stat(
            7,
            "Traffic",
            "Received and sent, all devices but loopback.",
            Query(
                f"{total(rate('node_network_receive_bytes_total', SERVICE, REAL_DEVICE))}"
                f" + {total(rate('node_network_transmit_bytes_total', SERVICE, REAL_DEVICE))}"
            ),
            unit="Bps",
        ),
        stat(
            8,
            "Killed",
            f"Processes that the kernel killed for want of memory, in the chosen range. {alerted('HostOutOfMemory')}",
            Query(total(increase("node_vmstat_oom_kill", SERVICE))),
            unit="none",
            decimals=0,
            sparkline=False,
            limit=ANY_IS_BAD,
            no_value=NO_LINUX,
        ),
        stat(
            9,
            "Up for",
            "Time since the last start of the host that started last.",
            Query(booted),
            unit="s",
            decimals=1,
            sparkline=False,
        ),
    ]


def _processor() -> list[Panel]:
    modes = aggregate("avg", rate(CPU, SERVICE, 'mode!="idle"'), "mode")
    cores = aggregate("count", select(CPU, SERVICE, 'mode="idle"'), "job", "instance")
    return [
        timeseries(
            101,
            "Processor by mode",
            "Share of all cores, of all hosts together; steal is what a hypervisor took away.",
            [Query(modes, "{{mode}}")],
            unit="percentunit",
            legend_table=True,
            stacked=True,
            high=1,
            overrides=color_by_name(MODES),
        ),
        timeseries(
            102,
            "Load",
            "Tasks that run or wait, over 1, 5 and 15 minutes; dashed is the number of cores.",
            [
                *(Query(select(f"node_load{n}", SERVICE), f"{n} min {{{{instance}}}}") for n in (1, 5, 15)),
                Query(cores, "cores {{instance}}"),
            ],
            unit="short",
            legend_table=True,
            overrides=[
                *color_by_name({"1 min": "super-light-blue", "5 min": "blue", "15 min": "dark-purple"}),
                dashed("cores", "text"),
            ],
            no_value=NO_LINUX,
        ),
        timeseries(
            103,
            "Pressure",
            f"Share of the time in which some task waited for the processor, memory or a disk. "
            f"{alerted('HostCpuPressure', 'HostMemoryPressure', 'HostIoPressure')}",
            [
                Query(
                    share_of_time(rate(f"node_pressure_{what}_waiting_seconds_total", SERVICE)),
                    f"{what} {{{{instance}}}}",
                )
                for what in ("cpu", "memory", "io")
            ],
            unit="percentunit",
            height=TABLE_HEIGHT,
            soft_high=0.05,
            overrides=color_by_name({"cpu": "blue", "memory": "purple", "io": "orange"}),
            no_value="This kernel reports no pressure",
        ),
    ]


def _memory() -> list[Panel]:
    def memory(*names: str) -> str:
        return " + ".join(total(select(f"node_memory_{name}_bytes", SERVICE)) for name in names)

    programs = f"{memory('MemTotal')} - ({memory('MemFree', 'Buffers', 'Cached', 'Slab')})"
    swap = f"{memory('SwapTotal')} - {memory('SwapFree')}"
    return [
        timeseries(
            201,
            "Memory by use",
            "All hosts together; the cache is given back when programs want it.",
            [
                Query(f"clamp_min({programs}, 0)", "programs"),
                Query(memory("Cached", "Buffers"), "cache"),
                Query(memory("Slab"), "kernel"),
                Query(memory("MemFree"), "free"),
            ],
            unit="bytes",
            legend_table=True,
            stacked=True,
            overrides=color_by_name(PARTS),
            no_value=NO_LINUX,
        ),
        timeseries(
            202,
            "Memory that is left",
            "Share that programs could be given at once; the dashed lines are the alert's.",
            [Query(_left(), "{{instance}}")],
            unit="percentunit",
            height=TABLE_HEIGHT,
            high=1,
            single=True,
            limit=MEMORY_LEFT,
            no_value=NO_LINUX,
        ),
        timeseries(
            203,
            "Swap",
            "In use, all hosts; and pages per second that move in and out, which is what hurts.",
            [
                Query(f"clamp_min({swap}, 0)", "in use"),
                Query(f"4096 * {total(rate('node_vmstat_pswpin', SERVICE))}", "in per second"),
                Query(f"4096 * {total(rate('node_vmstat_pswpout', SERVICE))}", "out per second"),
            ],
            unit="bytes",
            height=TABLE_HEIGHT,
            soft_high=MEBIBYTE,
            overrides=[*color_by_name({"in use": "blue"}), *SWAPPED],
            no_value=NO_LINUX,
        ),
    ]


def _disks() -> list[Panel]:
    disk = ("instance", "device")
    used = f"1 - {aggregate('min', _disk_left(), 'mountpoint')}"
    inodes = ratio(
        select("node_filesystem_files_free", SERVICE, REAL_FILESYSTEM),
        select("node_filesystem_files", SERVICE, REAL_FILESYSTEM),
    )
    reads, writes = (
        ratio(
            total(rate(f"node_disk_{way}_time_seconds_total", SERVICE), *disk),
            total(rate(f"node_disk_{way}s_completed_total", SERVICE), *disk),
        )
        for way in ("read", "write")
    )
    return [
        timeseries(
            301,
            "Read and written",
            "Bytes per second.",
            [
                Query(total(rate("node_disk_read_bytes_total", SERVICE), *disk), "read {{device}}"),
                Query(total(rate("node_disk_written_bytes_total", SERVICE), *disk), "written {{device}}"),
            ],
            unit="Bps",
            overrides=color_by_name({"read": "blue", "written": "purple"}),
        ),
        timeseries(
            302,
            "Busy",
            "Share of the time in which a disk had something to do.",
            [Query(share_of_time(rate("node_disk_io_time_seconds_total", SERVICE)), "{{device}}")],
            unit="percentunit",
            high=1,
            single=True,
            no_value=NO_LINUX,
        ),
        timeseries(
            303,
            "Time of one request",
            "On average, waiting included.",
            [Query(reads, "read {{device}}"), Query(writes, "write {{device}}")],
            unit="s",
            overrides=color_by_name({"read": "blue", "write": "purple"}),
            no_value=NO_LINUX,
        ),
        bargauge(
            304,
            "Filesystems",
            "Share that is used, of the fullest host.",
            Query(used, "{{mountpoint}}"),
            unit="percentunit",
        ),
        timeseries(
            305,
            "Space that is left",
            f"Share of each filesystem; the dashed lines are the alert's. {alerted('HostDiskFilling')}",
            [Query(_disk_left(), "{{instance}} {{mountpoint}}")],
            unit="percentunit",
            high=1,
            single=True,
            limit=DISK_LEFT,
        ),
        timeseries(
            306,
            "File nodes that are left",
            "Share of each filesystem: without any, no file can be made however much space there is.",
            [Query(inodes, "{{instance}} {{mountpoint}}")],
            unit="percentunit",
            high=1,
            single=True,
            no_value=NO_LINUX,
        ),
    ]


def _network() -> list[Panel]:
    device = ("instance", "device")
    bad = [
        Query(
            total(rate(f"node_network_{way}_{what}_total", SERVICE, REAL_DEVICE), *device),
            f"{way} {what} {{{{device}}}}",
        )
        for way in ("receive", "transmit")
        for what in ("errs", "drop")
    ]
    table = ratio(select("node_nf_conntrack_entries", SERVICE), select("node_nf_conntrack_entries_limit", SERVICE))
    files = ratio(select("node_filefd_allocated", SERVICE), select("node_filefd_maximum", SERVICE))
    return [
        timeseries(
            401,
            "Received and sent",
            "Bytes per second, all devices but loopback.",
            [
                Query(
                    total(rate("node_network_receive_bytes_total", SERVICE, REAL_DEVICE), "instance"),
                    "receive {{instance}}",
                ),
                Query(
                    total(rate("node_network_transmit_bytes_total", SERVICE, REAL_DEVICE), "instance"),
                    "transmit {{instance}}",
                ),
            ],
            unit="Bps",
            overrides=color_by_name({"receive": "blue", "transmit": "purple"}),
        ),
        timeseries(
            402,
            "Errors and drops",
            "Packets per second; a few drops are life, a steady line is not.",
            [Query(f"{query.expr} > 0", query.legend) for query in bad],
            unit="suffix:packets/s",
            soft_high=0.1,
            no_value="No errors and no drops",
        ),
        timeseries(
            403,
            "Tables of the kernel",
            "Open file handles, and connections in the firewall's table, against the most there may be.",
            [Query(files, "file handles {{instance}}"), Query(table, "connections {{instance}}")],
            unit="percentunit",
            soft_high=0.1,
            overrides=color_by_name({"file handles": "blue", "connections": "purple"}),
            no_value=NO_LINUX,
        ),
    ]
