"""Users and memory: do profiles pile up, does memory grow, and if so, where?"""

from typing import Any

from grafana.builder.dashboards.shared import NOBODY, annotations, of_apps, or_zero, service_variables, worst
from grafana.builder.layout import Row, dashboard
from grafana.builder.overrides import color_by_name, dashed
from grafana.builder.panels import MULTIPLE, Panel, Query, alerted, bargauge, stat, timeseries
from grafana.builder.promql import SERVICE, aggregate, rate, ratio, select, total
from grafana.builder.thresholds import CLOSE_WAIT, MEMORY_RATIO, OPEN_FILES, USER_PROFILES

PROFILES = "llmvitals_user_profiles_"
MEMORY = "llmvitals_memory_"
INSTANCE = ("job", "instance")
BY_INSTANCE = "{{job}} {{instance}}"
NO_USERS = "No user registry"
NO_BASELINE = "No baseline yet"
EVICTION_COLORS = {"idle": "light-blue", "oldest": "blue", "limit": "blue", "explicit": "purple"}
# Only the first is a fault of this process.
STATE_COLORS = {"close_wait": "orange", "established": "blue", "listen": "text", "time_wait": "light-blue"}
HEAP_COLORS = {"used": "blue", "free": "light-blue", "mmap": "purple"}


def build() -> dict[str, Any]:
    rows = [
        Row(1, "", _first_line()),
        Row(100, "User profiles", _profiles()),
        Row(200, "Memory and its baseline", _memory()),
        Row(300, "Where a leak would show", _leak()),
        Row(400, "Workers (of several processes)", _workers(), folded=True),
    ]
    return dashboard(
        "llmvitals-users",
        "llmvitals / Users and memory",
        "Do user profiles pile up, does memory grow, and if so, where?",
        variables=service_variables(),
        annotations=annotations(),
        rows=rows,
    )


def _first_line() -> list[Panel]:
    active, limit = select(f"{PROFILES}active", SERVICE), select(f"{PROFILES}limit", SERVICE)
    files = ratio(select("process_open_fds", SERVICE), select("process_max_fds", SERVICE))
    left_open = select("llmvitals_process_connections", SERVICE, 'state="close_wait"')
    return [
        stat(2, "Profiles", "Held in memory, all instances.", Query(total(active)), unit="short", no_value=NO_USERS),
        stat(
            3,
            "Profiles / limit",
            "Profiles as a share of the application's own limit; of the worst instance.",
            Query(worst(ratio(active, limit))),
            unit="percentunit",
            decimals=0,
            limit=USER_PROFILES,
            no_value=NO_USERS,
        ),
        stat(
            4,
            "Memory ratio",
            "Resident memory against the baseline; of the worst instance.",
            Query(worst(select(f"{MEMORY}baseline_ratio", SERVICE))),
            unit=MULTIPLE,
            decimals=2,
            limit=MEMORY_RATIO,
            no_value=NO_BASELINE,
        ),
        stat(
            5,
            "Resident",
            "Memory of the largest instance.",
            Query(worst(of_apps(select("process_resident_memory_bytes", SERVICE)))),
            unit="bytes",
        ),
        stat(
            6,
            "Growth",
            f"Over the last window, of the fastest growing instance. {alerted('LLMMemoryGrowth')}",
            Query(worst(select(f"{MEMORY}growth_bytes_per_second", SERVICE))),
            unit="Bps",
            low=None,
            no_value="No window yet",
        ),
        stat(
            7,
            "Open files",
            "Descriptors against the most that a process may have; of the worst instance.",
            Query(worst(of_apps(files))),
            unit="percentunit",
            decimals=1,
            limit=OPEN_FILES,
        ),
        stat(
            8,
            "Threads",
            f"That Python knows of; of the instance with most. {alerted('LLMThreadsGrowing')}",
            Query(worst(select("llmvitals_python_threads", SERVICE))),
            unit="short",
        ),
        stat(
            9,
            "Left open",
            "Connections that the other side closed and this one did not; of the worst instance.",
            Query(or_zero(worst(left_open), SERVICE)),
            unit="short",
            limit=CLOSE_WAIT,
            no_value=NOBODY,
        ),
    ]


def _profiles() -> list[Panel]:
    return [
        timeseries(
            101,
            "Profiles held",
            f"Dashed is the application's own limit. {alerted('LLMUserProfilesHigh')}",
            [
                Query(select(f"{PROFILES}active", SERVICE), BY_INSTANCE),
                Query(aggregate("max", select(f"{PROFILES}limit", SERVICE), "job"), "limit {{job}}"),
            ],
            unit="short",
            single=True,
            overrides=[dashed("limit", "yellow")],
            no_value=NO_USERS,
        ),
        timeseries(
            102,
            "Profiles created",
            "Profiles made per second.",
            [Query(total(rate(f"{PROFILES}created_total", SERVICE), "job"), "{{job}}")],
            unit="ops",
            soft_high=0.1,
            single=True,
            no_value=NO_USERS,
        ),
        timeseries(
            103,
            "Profiles evicted",
            "Per second: idle for too long, the oldest over the limit, or asked for.",
            [Query(total(rate(f"{PROFILES}evicted_total", SERVICE), "reason"), "{{reason}}")],
            unit="ops",
            stacked=True,
            soft_high=0.1,
            overrides=color_by_name(EVICTION_COLORS),
            no_value="Nobody was evicted",
        ),
    ]


def _memory() -> list[Panel]:
    return [
        timeseries(
            201,
            "Resident, baseline and peak",
            "What each process holds, held after its start, and has held at most.",
            [
                Query(of_apps(select("process_resident_memory_bytes", SERVICE)), BY_INSTANCE),
                Query(select(f"{MEMORY}baseline_bytes", SERVICE), f"baseline {BY_INSTANCE}"),
                Query(select(f"{MEMORY}peak_bytes", SERVICE), f"peak {BY_INSTANCE}"),
            ],
            unit="bytes",
            single=True,
            overrides=[dashed("baseline", "text"), dashed("peak", "purple")],
        ),
        timeseries(
            202,
            "Memory / baseline",
            "Resident memory as a multiple of the baseline; the dashed line is the alert's.",
            [Query(select(f"{MEMORY}baseline_ratio", SERVICE), BY_INSTANCE)],
            unit=MULTIPLE,
            limit=MEMORY_RATIO,
            decimals=2,
            single=True,
            no_value=NO_BASELINE,
        ),
        timeseries(
            203,
            "Growth of memory",
            f"Slope over the last window; below zero it shrinks. {alerted('LLMMemoryGrowth')}",
            [Query(select(f"{MEMORY}growth_bytes_per_second", SERVICE), BY_INSTANCE)],
            unit="Bps",
            low=None,
            single=True,
            no_value="No window yet",
        ),
        timeseries(
            204,
            "Python's blocks",
            f"What Python's allocator holds: the quietest signal of a leak. {alerted('LLMLeakSuspected')}",
            [Query(select("llmvitals_python_allocated_blocks", SERVICE), BY_INSTANCE)],
            unit="short",
            width=12,
            low=None,
            single=True,
        ),
        timeseries(
            205,
            "The C allocator's heap",
            "Free is kept and not given back to the system: much of it is fragmentation, not a leak.",
            [Query(total(select("llmvitals_native_heap_bytes", SERVICE), "kind"), "{{kind}}")],
            unit="bytes",
            width=12,
            stacked=True,
            overrides=color_by_name(HEAP_COLORS),
            no_value="Not told on this system",
        ),
    ]


def _workers() -> list[Panel]:
    return [
        timeseries(
            206,
            "Memory of workers",
            "Resident memory of each worker: one that grows alone has a leak of its own.",
            [Query(select("llmvitals_worker_resident_memory_bytes", SERVICE), "{{job}} worker {{worker}}")],
            unit="bytes",
            width=24,
            single=True,
            legend_table=True,
            no_value="One process, no workers",
        ),
    ]


def _leak() -> list[Panel]:
    files = ratio(select("process_open_fds", SERVICE), select("process_max_fds", SERVICE))
    return [
        bargauge(
            301,
            "Lines of code that grow",
            f"Memory that was allocated there and grew all the while it was watched. {alerted('LLMLeakSuspected')}",
            Query(aggregate("max", select(f"{MEMORY}site_growth_bytes_per_second", SERVICE), "site"), "{{site}}"),
            unit="Bps",
            high=None,
            width=12,
            no_value="No line was seen to grow",
        ),
        timeseries(
            302,
            "Objects that could not be freed",
            "Per second; Python's collector found them in cycles and had to leave them.",
            [
                Query(
                    total(rate("python_gc_objects_uncollectable_total", SERVICE), *INSTANCE, "generation"),
                    "{{job}} generation {{generation}}",
                )
            ],
            unit="ops",
            width=12,
            soft_high=0.1,
            single=True,
        ),
        timeseries(
            303,
            "Open descriptors",
            "Files and sockets against the most that a process may have.",
            [Query(of_apps(files), BY_INSTANCE)],
            unit="percentunit",
            limit=OPEN_FILES,
            single=True,
        ),
        timeseries(
            304,
            "Threads of Python",
            f"That Python knows of. {alerted('LLMThreadsGrowing')}",
            [Query(select("llmvitals_python_threads", SERVICE), BY_INSTANCE)],
            unit="short",
            single=True,
        ),
        timeseries(
            305,
            "Connections by state",
            f"Many in close_wait were never closed. {alerted('LLMConnectionsNotClosed')}",
            [Query(total(select("llmvitals_process_connections", SERVICE), "state"), "{{state}}")],
            unit="short",
            overrides=color_by_name(STATE_COLORS),
            no_value="Not told on this system",
        ),
    ]
