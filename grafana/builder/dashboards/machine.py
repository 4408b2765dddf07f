"""
The rows below the applications: the host, the GPU, and who is scraped.

Host and GPU are not narrowed by Service and Instance: the trouble of one application is often the load of another.
"""

from grafana.builder.layout import Row
from grafana.builder.overrides import value_map
from grafana.builder.panels import Column, Panel, Query, bargauge, stat, table, timeseries
from grafana.builder.promql import SERVICE, aggregate, rate, ratio, select, total
from grafana.builder.thresholds import GPU_MEMORY_RATIO, GPU_TEMPERATURE, Limit

# What holds no data of ours: images, kernel views, memory.
REAL_FILESYSTEM = 'fstype!~"tmpfs|ramfs|squashfs|proc|sysfs|devtmpfs|cgroup.*"'
NO_GPU = "No GPU here"


def machine_rows() -> list[Row]:
    return [
        Row(600, "Host", _host()),
        Row(700, "GPU", _gpu()),
        Row(800, "Alerts and targets", alerts_and_targets()),
    ]


def _host() -> list[Panel]:
    busy = aggregate("avg", rate("node_cpu_seconds_total", 'mode="idle"'), "instance")
    available = select("node_memory_MemAvailable_bytes")
    disk = [
        Query(total(rate(f"node_disk_{way}_bytes_total"), "instance"), f"{name} {{{{instance}}}}")
        for way, name in (("read", "read"), ("written", "written"))
    ]
    network = [
        Query(total(rate(f"node_network_{way}_bytes_total", 'device!="lo"'), "instance"), f"{way} {{{{instance}}}}")
        for way in ("receive", "transmit")
    ]
    stalled = [
        Query(rate(f"node_pressure_{what}_waiting_seconds_total"), f"{what} {{{{instance}}}}")
        for what in ("cpu", "memory", "io")
    ]
    filled = ratio(
        f"({select('node_filesystem_size_bytes', REAL_FILESYSTEM)}"
        f" - {select('node_filesystem_avail_bytes', REAL_FILESYSTEM)})",
        select("node_filesystem_size_bytes", REAL_FILESYSTEM),
    )
    return [
        timeseries(
            601,
            "CPU",
            "Share of all cores that is busy.",
            [Query(f"1 - {busy}", "{{instance}}")],
            unit="percentunit",
            high=1,
            single=True,
        ),
        timeseries(
            602,
            "Memory",
            "Share of the memory that no program could get at once.",
            [Query(f"1 - {ratio(available, select('node_memory_MemTotal_bytes'))}", "{{instance}}")],
            unit="percentunit",
            high=1,
            single=True,
        ),
        timeseries(
            603,
            "Pressure",
            "Share of the time in which some task waited for the CPU, memory or a disk.",
            stalled,
            unit="percentunit",
            soft_high=0.05,
            no_value="This kernel reports no pressure",
        ),
        timeseries(604, "Disk", "Bytes per second, all devices.", disk, unit="Bps"),
        timeseries(605, "Network", "Bytes per second, all devices but loopback.", network, unit="Bps"),
        bargauge(
            606,
            "Filesystems",
            "Share that is used, of the fullest host.",
            Query(aggregate("max", filled, "mountpoint"), "{{mountpoint}}"),
            unit="percentunit",
        ),
    ]


def _gpu() -> list[Panel]:
    def tile(ident: int, title: str, about: str, query: str, *, unit: str, limit: Limit | None = None) -> Panel:
        return stat(ident, title, about, Query(query), unit=unit, width=6, limit=limit, no_value=NO_GPU)

    used = select("llmvitals_gpu_memory_used_bytes")
    size = select("llmvitals_gpu_memory_total_bytes")
    return [
        tile(
            701,
            "GPU utilisation",
            "The busiest GPU.",
            aggregate("max", select("llmvitals_gpu_utilization_ratio")),
            unit="percentunit",
        ),
        tile(
            702,
            "GPU memory",
            "The fullest GPU.",
            aggregate("max", ratio(used, size)),
            unit="percentunit",
            limit=GPU_MEMORY_RATIO,
        ),
        tile(
            703,
            "GPU temperature",
            "The hottest GPU.",
            aggregate("max", select("llmvitals_gpu_temperature_celsius", 'sensor="gpu"')),
            unit="celsius",
            limit=GPU_TEMPERATURE,
        ),
        tile(704, "GPU power", "All GPUs together.", total(select("llmvitals_gpu_power_watts")), unit="watt"),
    ]


def alerts_and_targets() -> list[Panel]:
    severity = value_map({"critical": ("critical", "red"), "warning": ("warning", "orange")})
    up = value_map({0: ("Down", "red"), 1: ("Up", "green")})
    alerts = aggregate(
        "count", select("ALERTS", 'severity!="none"'), "alertname", "alertstate", "severity", "job", "instance"
    )
    return [
        table(
            801,
            "Alerts",
            "Pending and firing alerts; a pending one has not lasted long enough yet.",
            [Query(alerts)],
            [
                Column("alertname", "Alert", width=210),
                Column("alertstate", "State", width=85),
                Column("severity", "Severity", mappings=severity, width=95),
                Column("job", "Service", width=120),
                Column("instance", "Instance"),
            ],
            no_value="Nothing fires",
            sort=("Severity", False),
            hide=("Value",),
        ),
        table(
            802,
            "Targets",
            "What Prometheus scrapes, whether it answers, and how long that takes.",
            [
                Query(aggregate("max", select(name, SERVICE), "job", "instance"))
                for name in ("up", "scrape_duration_seconds", "scrape_samples_scraped")
            ],
            [
                Column("job", "Service"),
                Column("instance", "Instance"),
                Column("Value #A", "State", mappings=up, width=90),
                Column("Value #B", "Scrape", unit="s", width=100),
                Column("Value #C", "Samples", unit="short", width=100),
            ],
            sort=("Service", False),
        ),
    ]
