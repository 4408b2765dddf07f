"""Event loop and Python: what holds up an asyncio loop, and what the interpreter spends its time and memory on."""

from typing import Any

from grafana.builder.dashboards.shared import annotations, of_apps, own_spread, service_variables, worst
from grafana.builder.layout import Row, dashboard
from grafana.builder.overrides import color_by_name
from grafana.builder.panels import Panel, Query, alerted, stat, timeseries
from grafana.builder.promql import SERVICE, aggregate, quantile, rate, ratio, select, share_of_time, total
from grafana.builder.thresholds import LOOP_BLOCKED, OPEN_FILES

LOOP = "llmvitals_asyncio_loop_"
GC = "llmvitals_python_gc_pause_seconds"
INSTANCE = ("job", "instance")
BY_INSTANCE = "{{job}} {{instance}}"
BY_LOOP = ("job", "instance", "loop")
NO_LOOP = "No watched loop"
NO_TORCH = "No torch, or no CUDA"
GENERATION_COLORS = {"generation 0": "super-light-blue", "generation 1": "blue", "generation 2": "dark-purple"}


def build() -> dict[str, Any]:
    rows = [
        Row(1, "", _first_line()),
        Row(100, "Event loop", _loop()),
        Row(200, "Garbage collection", _collection()),
        Row(300, "Process", _process()),
        Row(400, "CUDA memory (with torch and a GPU)", _torch(), folded=True),
    ]
    return dashboard(
        "llmvitals-python",
        "llmvitals / Event loop and Python",
        "What holds up an asyncio loop, and what does the interpreter spend its time and memory on?",
        variables=service_variables(),
        annotations=annotations(),
        rows=rows,
    )


def _blocked() -> str:
    """Seconds of each minute."""
    return f"60 * {share_of_time(total(rate(f'{LOOP}blocked_seconds_total', SERVICE), *BY_LOOP))}"


def _first_line() -> list[Panel]:
    cpu = of_apps(rate("process_cpu_seconds_total", SERVICE))
    return [
        stat(
            2,
            "Loop lag p99",
            "How late the loop runs what is due; of the worst loop.",
            Query(worst(quantile(0.99, f"{LOOP}lag_seconds", SERVICE, by=("job", "loop")))),
            unit="s",
            no_value=NO_LOOP,
        ),
        stat(
            3,
            "Blocked",
            "Seconds of each minute for which one step held the worst loop.",
            Query(worst(_blocked())),
            unit="s",
            limit=LOOP_BLOCKED,
            no_value=NO_LOOP,
        ),
        stat(
            4,
            "Loop busy",
            "Processor time of the busiest loop's thread: near 100 %, the loop itself is the bottleneck.",
            Query(worst(total(rate(f"{LOOP}cpu_seconds_total", SERVICE), *BY_LOOP))),
            unit="percentunit",
            decimals=0,
            no_value=NO_LOOP,
        ),
        stat(
            5,
            "Tasks",
            "Not done, on all loops.",
            Query(total(select("llmvitals_asyncio_tasks", SERVICE))),
            unit="short",
            no_value=NO_LOOP,
        ),
        stat(
            6,
            "Processor",
            "Cores' worth of time that the busiest process uses.",
            Query(worst(cpu)),
            unit="suffix:cores",
            decimals=2,
        ),
        stat(
            7,
            "GC pause p99",
            "How long one collection holds up all Python code; of the worst service.",
            Query(worst(quantile(0.99, GC, SERVICE))),
            unit="s",
            no_value="No collections",
        ),
        stat(
            8,
            "Paused by GC",
            "Share of the time that collections take; of the worst instance.",
            Query(worst(total(rate(f"{GC}_sum", SERVICE), *INSTANCE))),
            unit="percentunit",
            decimals=1,
            no_value="No collections",
        ),
        stat(
            9,
            "Threads",
            f"That Python knows of; of the instance with most. {alerted('LLMThreadsGrowing')}",
            Query(worst(select("llmvitals_python_threads", SERVICE))),
            unit="short",
        ),
    ]


def _loop() -> list[Panel]:
    return [
        *own_spread(
            (101, 102), "Lag", "How late the loop runs what is due.", f"{LOOP}lag_seconds", SERVICE, no_value=NO_LOOP
        ),
        timeseries(
            103,
            "Blocked time",
            "Seconds of each minute for which one step held the loop; the dashed line is the alert's.",
            [Query(_blocked(), "{{job}} {{loop}}")],
            unit="s",
            width=6,
            soft_high=2,
            limit=LOOP_BLOCKED,
            single=True,
            no_value=NO_LOOP,
        ),
        timeseries(
            104,
            "Times blocked",
            "Per second; the library's log has the culprit's stack.",
            [Query(total(rate(f"{LOOP}blocked_total", SERVICE), *BY_LOOP), "{{job}} {{loop}}")],
            unit="ops",
            width=6,
            soft_high=0.1,
            single=True,
            no_value=NO_LOOP,
        ),
        timeseries(
            105,
            "Loop's processor time",
            "Share of one core; a loop cannot have more.",
            [Query(total(rate(f"{LOOP}cpu_seconds_total", SERVICE), *BY_LOOP), "{{job}} {{loop}}")],
            unit="percentunit",
            width=6,
            soft_high=1,
            single=True,
            no_value=NO_LOOP,
        ),
        timeseries(
            106,
            "Tasks that are not done",
            "A line that only rises is a leak of tasks.",
            [Query(total(select("llmvitals_asyncio_tasks", SERVICE), *BY_LOOP), "{{job}} {{loop}}")],
            unit="short",
            width=6,
            single=True,
            no_value=NO_LOOP,
        ),
    ]


def _collection() -> list[Panel]:
    def by_generation(name: str) -> list[Query]:
        return [Query(total(rate(name, SERVICE), "generation"), "generation {{generation}}")]

    return [
        *own_spread(
            (201, 202),
            "Pause",
            "Time for which one collection held up all Python code of the process.",
            GC,
            SERVICE,
            width=8,
            no_value="No collections",
        ),
        timeseries(
            203,
            "Collections",
            "Per second, by generation; those of the last one look at everything.",
            by_generation("python_gc_collections_total"),
            unit="ops",
            overrides=color_by_name(GENERATION_COLORS),
        ),
        timeseries(
            204,
            "Objects freed by collections",
            "Per second: objects in cycles; the others go when their last reference does.",
            by_generation("python_gc_objects_collected_total"),
            unit="count:objects/s",
            stacked=True,
            width=12,
            overrides=color_by_name(GENERATION_COLORS),
        ),
        timeseries(
            205,
            "Blocks allocated",
            f"Memory blocks that Python's allocator holds. {alerted('LLMLeakSuspected')}",
            [Query(select("llmvitals_python_allocated_blocks", SERVICE), BY_INSTANCE)],
            unit="short",
            low=None,
            single=True,
            width=12,
        ),
    ]


def _process() -> list[Panel]:
    files = ratio(select("process_open_fds", SERVICE), select("process_max_fds", SERVICE))
    age = f"time() - {select('process_start_time_seconds', SERVICE)}"
    return [
        timeseries(
            301,
            "Processor time",
            "Cores' worth of time that each process uses.",
            [Query(of_apps(rate("process_cpu_seconds_total", SERVICE)), BY_INSTANCE)],
            unit="suffix:cores",
            single=True,
        ),
        timeseries(
            302,
            "Memory of the process",
            "Resident memory.",
            [Query(of_apps(select("process_resident_memory_bytes", SERVICE)), BY_INSTANCE)],
            unit="bytes",
            single=True,
        ),
        timeseries(
            303,
            "Age of the process",
            f"A fall to zero is a restart. {alerted('TargetRestarting')}",
            [Query(of_apps(age), BY_INSTANCE)],
            unit="dtdhms",
            single=True,
        ),
        timeseries(
            304,
            "Open files",
            "Descriptors against the most that the process may have.",
            [Query(of_apps(files), BY_INSTANCE)],
            unit="percentunit",
            single=True,
            limit=OPEN_FILES,
        ),
        timeseries(
            305,
            "Threads of Python",
            "That Python knows of.",
            [Query(select("llmvitals_python_threads", SERVICE), BY_INSTANCE)],
            unit="short",
            single=True,
        ),
        timeseries(
            306,
            "Faults of the instrumentation",
            f"Per second: errors inside llmvitals, and recordings without their labels for want of room. "
            f"{alerted('InstrumentationErrors', 'InstrumentationLabelsDropped')}",
            [
                Query(
                    total(rate("llmvitals_instrumentation_errors_total", SERVICE), "component"), "error {{component}}"
                ),
                Query(total(rate("llmvitals_label_values_dropped_total", SERVICE), "metric"), "dropped {{metric}}"),
            ],
            unit="ops",
            soft_high=0.1,
            no_value="No faults",
        ),
    ]


def _torch() -> list[Panel]:
    devices = ("job", "instance", "device", "kind")
    return [
        timeseries(
            401,
            "CUDA memory as torch has it",
            "Reserved from the device, and of that allocated to tensors.",
            [Query(aggregate("max", select("llmvitals_torch_memory_bytes", SERVICE), *devices), "{{device}} {{kind}}")],
            unit="bytes",
            width=12,
            no_value=NO_TORCH,
        ),
        timeseries(
            402,
            "Allocations that failed",
            f"Per second: given memory back first (retries), or ran out. {alerted('LLMCudaOutOfMemory')}",
            [
                Query(total(rate("llmvitals_torch_alloc_retries_total", SERVICE), "device"), "retried {{device}}"),
                Query(total(rate("llmvitals_torch_ooms_total", SERVICE), "device"), "out of memory {{device}}"),
            ],
            unit="ops",
            width=12,
            soft_high=0.1,
            no_value=NO_TORCH,
        ),
    ]
