"""
The rows below the applications: the host, the GPU, and who is scraped.

Host and GPU are not narrowed by Service: the trouble of one application is often the load of another.
"""

from grafana.builder.dashboards.shared import JOB
from grafana.builder.layout import Row
from grafana.builder.overrides import color_by_name, value_map
from grafana.builder.panels import Column, Panel, Query, bargauge, runbook_link, stat, table, timeseries
from grafana.builder.promql import SERVICE, aggregate, select, total
from grafana.builder.thresholds import GPU_MEMORY_RATIO, GPU_TEMPERATURE, Limit

NO_GPU = "No GPU here"


def machine_rows() -> list[Row]:
    return [
        Row(600, "Host", _host()),
        Row(700, "GPU", _gpu()),
        Row(800, "Alerts and targets", alerts_and_targets(JOB)),
    ]


def _host() -> list[Panel]:
    def worst(*names: tuple[str, str]) -> list[Query]:
        return [Query(select(f"job:{name}"), f"{what} {{{{job}}}}".strip()) for what, name in names]

    def moved(device: str, *ways: tuple[str, str]) -> list[Query]:
        return worst(*((what, f"node_{device}_{way}_bytes:max_rate1m") for what, way in ways))

    stalled = worst(*((what, f"node_pressure_{what}_waiting_seconds:max_rate1m") for what in ("cpu", "memory", "io")))
    return [
        timeseries(
            601,
            "CPU",
            "Share of all cores that is busy, of the busiest host.",
            worst(("", "node_cpu_busy:max_rate1m")),
            unit="percentunit",
            high=1,
            single=True,
        ),
        timeseries(
            602,
            "Memory",
            "Share of the memory that no program could get at once, of the fullest host.",
            worst(("", "node_memory_used:max_ratio")),
            unit="percentunit",
            high=1,
            single=True,
        ),
        timeseries(
            603,
            "Pressure",
            "Share of the time in which some task waited for the CPU, memory or a disk, on the worst host.",
            stalled,
            unit="percentunit",
            soft_high=0.05,
            overrides=color_by_name({"cpu": "blue", "memory": "purple", "io": "orange"}),
            no_value="This kernel reports no pressure",
        ),
        timeseries(
            604,
            "Disk",
            "Bytes per second, all devices, of the busiest host.",
            moved("disk", ("read", "read"), ("written", "written")),
            unit="Bps",
            overrides=color_by_name({"read": "blue", "written": "purple"}),
        ),
        timeseries(
            605,
            "Network",
            "Bytes per second, all devices but loopback, of the busiest host.",
            moved("network", ("receive", "receive"), ("transmit", "transmit")),
            unit="Bps",
            overrides=color_by_name({"receive": "blue", "transmit": "purple"}),
        ),
        bargauge(
            606,
            "Filesystems",
            "Share that is used, of the fullest host.",
            Query(aggregate("max", select("job:node_filesystem_used:max_ratio"), "mountpoint"), "{{mountpoint}}"),
            unit="percentunit",
        ),
    ]


def _gpu() -> list[Panel]:
    def tile(ident: int, title: str, about: str, query: str, *, unit: str, limit: Limit | None = None) -> Panel:
        return stat(ident, title, about, Query(query), unit=unit, width=6, limit=limit, no_value=NO_GPU)

    return [
        tile(
            701,
            "GPU utilisation",
            "The busiest GPU.",
            aggregate("max", select("job:llmvitals_gpu_utilization_ratio:max")),
            unit="percentunit",
        ),
        tile(
            702,
            "GPU memory",
            "The fullest GPU.",
            aggregate("max", select("job:llmvitals_gpu_memory_used_bytes:max_ratio")),
            unit="percentunit",
            limit=GPU_MEMORY_RATIO,
        ),
        tile(
            703,
            "GPU temperature",
            "The hottest GPU.",
            aggregate("max", select("job:llmvitals_gpu_temperature_celsius:max")),
            unit="celsius",
            limit=GPU_TEMPERATURE,
        ),
        tile(704, "GPU power", "All GPUs together.", total(select("job:llmvitals_gpu_power_watts:sum")), unit="watt"),
    ]


def alerts_and_targets(whose: str = SERVICE) -> list[Panel]:
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
                Column("alertname", "Alert", width=240),
                Column("severity", "Severity", mappings=severity, width=95),
                Column("alertstate", "State", width=85),
                Column("job", "Service", width=120, no_value="-"),
                Column("instance", "Instance", no_value="-"),
            ],
            no_value="Nothing fires",
            # Firing comes before pending.
            sort=("State", False),
            hide=("Value",),
        )
        | {"links": [runbook_link("Runbooks of all alerts")]},
        table(
            802,
            "Targets",
            "What Prometheus scrapes, whether it answers, and how long that takes.",
            [
                Query(aggregate("max", select(name, whose), "job", "instance"))
                for name in ("up", "scrape_duration_seconds", "scrape_samples_scraped")
            ],
            [
                Column("job", "Service", width=125),
                Column("instance", "Instance", width=135),
                Column("Value #A", "State", mappings=up),
                Column("Value #B", "Scrape", unit="s"),
                Column("Value #C", "Samples", unit="short"),
            ],
            sort=("Service", False),
        ),
    ]
