"""The rows of Host about programs: those that the exporter was told to watch, and the control group it is in."""

from grafana.builder.layout import Row
from grafana.builder.overrides import STACK_COLORS, color_by_name, dashed
from grafana.builder.panels import Panel, Query, alerted, timeseries
from grafana.builder.promql import SERVICE, aggregate, rate, ratio, select, share_of_time, total
from grafana.builder.thresholds import CGROUP_MEMORY

GROUP = "llmvitals_process_group_"
CGROUP = "llmvitals_cgroup_"
NO_GROUPS = "No program is watched"
NO_CGROUP = "No control group"


def program_rows() -> list[Row]:
    return [
        Row(500, "Watched programs", _groups()),
        Row(600, "Control group of the exporter", _control_group()),
    ]


def _groups() -> list[Panel]:
    def of_groups(name: str, ident: int, title: str, about: str, unit: str, *, counter: bool = False) -> Panel:
        series = rate(f"{GROUP}{name}", SERVICE) if counter else select(f"{GROUP}{name}", SERVICE)
        return timeseries(
            ident,
            title,
            about,
            [Query(total(series, "group"), "{{group}}")],
            unit=unit,
            decimals=2 if unit == "suffix:cores" else None,
            legend_table=True,
            overrides=color_by_name(STACK_COLORS),
            no_value=NO_GROUPS,
        )

    return [
        of_groups("cpu_seconds_total", 501, "Cores used", "By each program.", "suffix:cores", counter=True),
        of_groups("resident_memory_bytes", 502, "Resident memory", "Of all the program's processes.", "bytes"),
        of_groups("written_bytes_total", 503, "Written to disk", "Bytes per second.", "Bps", counter=True),
        of_groups("processes", 504, "Processes", "That run; 0 is a program that is down.", "short"),
        of_groups("threads", 505, "Threads", "Of all the program's processes.", "short"),
        of_groups("open_fds", 506, "Open files of programs", "File descriptors.", "short"),
    ]


def _control_group() -> list[Panel]:
    used = select(f"{CGROUP}memory_working_set_bytes", SERVICE)
    throttled = ratio(
        rate(f"{CGROUP}cpu_throttled_periods_total", SERVICE), rate(f"{CGROUP}cpu_periods_total", SERVICE)
    )
    return [
        timeseries(
            601,
            "Memory of the group",
            f"Working set: what the kernel cannot take back without effort; dashed is the limit. "
            f"{alerted('ContainerOutOfMemory')}",
            [
                Query(used, "{{instance}}"),
                Query(select(f"{CGROUP}memory_limit_bytes", SERVICE), "limit {{instance}}"),
            ],
            unit="bytes",
            width=6,
            single=True,
            overrides=[dashed("limit", "yellow")],
            no_value=NO_CGROUP,
        ),
        timeseries(
            602,
            "Memory against the limit",
            "Where the group has one; the dashed line is the alert's.",
            [Query(ratio(used, select(f"{CGROUP}memory_limit_bytes", SERVICE)), "{{instance}}")],
            unit="percentunit",
            high=1,
            width=6,
            single=True,
            limit=CGROUP_MEMORY,
            no_value="No limit on memory",
        ),
        timeseries(
            603,
            "Cores of the group",
            "Used; dashed is the limit, where there is one.",
            [
                Query(rate(f"{CGROUP}cpu_usage_seconds_total", SERVICE), "{{instance}}"),
                Query(aggregate("max", select(f"{CGROUP}cpu_limit_cores", SERVICE), "instance"), "limit {{instance}}"),
            ],
            unit="suffix:cores",
            width=6,
            single=True,
            overrides=[dashed("limit", "yellow")],
            no_value=NO_CGROUP,
        ),
        timeseries(
            604,
            "Held back and waiting",
            f"Share of the periods in which the limit held the group back; share of the time in which some task of it "
            f"waited. {alerted('ContainerCpuThrottled')}",
            [
                Query(throttled, "held back"),
                *(
                    Query(
                        share_of_time(rate(f"{CGROUP}pressure_{what}_waiting_seconds_total", SERVICE)),
                        f"waits for {what}",
                    )
                    for what in ("cpu", "memory", "io")
                ),
            ],
            unit="percentunit",
            width=6,
            soft_high=0.05,
            overrides=color_by_name(
                {"held back": "red", "waits for cpu": "blue", "waits for memory": "purple", "waits for io": "orange"}
            ),
            no_value=NO_CGROUP,
        ),
    ]
