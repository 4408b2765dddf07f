"""What the Overview reads of each job: all its instances together, or the worst of them."""

from typing import Any

from prometheus.builder.promql import largest, quantile, rate, selector, total
from prometheus.builder.rulefile import Group, RuleFile, record

Rule = dict[str, Any]

INSTANCE = ("job", "instance")
# What holds no data of ours: images, kernel views, memory.
REAL_FILESYSTEM = 'fstype!~"tmpfs|ramfs|squashfs|proc|sysfs|devtmpfs|cgroup.*"'


def files() -> list[RuleFile]:
    header = """
job:metric:operation, of applications and of their machines: what a day of a thousand instances is read from. Each name
is the metric's own with what was made of it: sum and rate1m add up all instances; max, max_ratio and max_rate1m are of
the worst one. Which one that is, the instances' own series tell.
"""
    groups = [
        Group("job-operations", _operations()),
        Group("job-calls", _calls()),
        Group("job-stores", _stores()),
        Group("job-processes", _processes()),
        Group("job-loop", _loop()),
        Group("job-hosts", _hosts()),
        Group("job-gpus", _gpus()),
        Group("job-alerts", _alerts()),
    ]
    return [RuleFile("recording/jobs.yml", header, groups)]


def _operations() -> list[Rule]:
    seconds, target = "llmvitals_operation_duration_seconds", "llmvitals_operation_target_seconds"
    by = ("job", "operation")
    return [
        record(f"job:{seconds}:p95", quantile(0.95, rate(f"{seconds}_bucket"), by)),
        record(f"job:{target}:max", largest(target, by)),
    ]


def _calls() -> list[Rule]:
    state = "llmvitals_circuit_breaker_state"
    each = ("job", "instance", "name")
    half, opened = (largest(selector(state, f'state="{name}"'), each) for name in ("half_open", "open"))
    return [
        record(
            "job:llmvitals_calls_in_flight:sum", total("llmvitals_calls_in_flight", ("job", "gen_ai_request_model"))
        ),
        _rate("llmvitals_stream_ends", "reason"),
        record(f"job:{state}:max", largest(f"{half} + 2 * {opened}", ("job", "name"))),
        _rate("llmvitals_circuit_breaker_calls", "name", "outcome"),
        _rate("llmvitals_retries", "name", "error_type"),
        _rate("llmvitals_retries_exhausted", "name"),
    ]


def _stores() -> list[Rule]:
    used, size = (
        total(expression, (*INSTANCE, "pool"))
        for expression in (selector("llmvitals_pool_connections", 'state="used"'), "llmvitals_pool_max_connections")
    )
    return [
        _rate("llmvitals_cache_requests", "cache", "result"),
        _share("llmvitals_cache_entries", "llmvitals_cache_entries", "llmvitals_cache_max_entries", "cache"),
        _share("llmvitals_pool_connections", used, size, "pool"),
        record("job:llmvitals_user_profiles_active:max", largest("llmvitals_user_profiles_active", ["job"])),
        record("job:llmvitals_user_profiles_limit:max", largest("llmvitals_user_profiles_limit", ["job"])),
        _share("llmvitals_user_profiles", "llmvitals_user_profiles_active", "llmvitals_user_profiles_limit"),
    ]


def _processes() -> list[Rule]:
    gauges = (
        "process_start_time_seconds",
        "process_resident_memory_bytes",
        "llmvitals_memory_baseline_bytes",
        "llmvitals_memory_baseline_ratio",
    )
    return [record(f"job:{gauge}:max", largest(gauge, ["job"])) for gauge in gauges]


def _loop() -> list[Rule]:
    lag, blocked = "llmvitals_asyncio_loop_lag_seconds", "llmvitals_asyncio_loop_blocked_seconds"
    by = ("job", "loop")
    return [
        record(f"job:{lag}:p99", quantile(0.99, rate(f"{lag}_bucket"), by)),
        record(f"job:{blocked}:max_rate1m", largest(total(rate(f"{blocked}_total"), (*INSTANCE, "loop")), by)),
    ]


def _hosts() -> list[Rule]:
    idle = rate("node_cpu_seconds_total", 'mode="idle"')
    available = "node_memory_MemAvailable_bytes / (node_memory_MemTotal_bytes > 0)"
    size, free = (selector(f"node_filesystem_{which}_bytes", REAL_FILESYSTEM) for which in ("size", "avail"))
    moved = {
        "node_disk_read_bytes": "",
        "node_disk_written_bytes": "",
        "node_network_receive_bytes": 'device!="lo"',
        "node_network_transmit_bytes": 'device!="lo"',
    }
    # A share of the time, and scrapes are not quite even.
    waiting = [f"node_pressure_{what}_waiting_seconds" for what in ("cpu", "memory", "io")]
    return [
        record("job:node_cpu_busy:max_rate1m", largest(f"clamp_min(1 - avg by (job, instance) ({idle}), 0)", ["job"])),
        record("job:node_memory_used:max_ratio", largest(f"1 - {available}", ["job"])),
        *(
            record(
                f"job:{name}:max_rate1m",
                largest(total(rate(f"{name}_total", matchers), INSTANCE), ["job"]),
            )
            for name, matchers in moved.items()
        ),
        *(
            record(f"job:{name}:max_rate1m", f"clamp_max({largest(rate(f'{name}_total'), ['job'])}, 1)")
            for name in waiting
        ),
        record(
            "job:node_filesystem_used:max_ratio",
            largest(f"1 - {free} / ({size} > 0)", ("job", "mountpoint")),
        ),
    ]


def _gpus() -> list[Rule]:
    temperature = selector("llmvitals_gpu_temperature_celsius", 'sensor="gpu"')
    return [
        record("job:llmvitals_gpu_utilization_ratio:max", largest("llmvitals_gpu_utilization_ratio", ["job"])),
        _share(
            "llmvitals_gpu_memory_used_bytes", "llmvitals_gpu_memory_used_bytes", "llmvitals_gpu_memory_total_bytes"
        ),
        record("job:llmvitals_gpu_temperature_celsius:max", largest(temperature, ["job"])),
        record("job:llmvitals_gpu_power_watts:sum", total("llmvitals_gpu_power_watts", ["job"])),
    ]


def _alerts() -> list[Rule]:
    """On a bad day each instance has one. The Watchdog fires always, to prove that alerts arrive; it is no trouble."""
    firing = selector("ALERTS", 'alertstate="firing", severity!="none"')
    return [record("job:alerts_firing:count", f"count by (job, alertname, severity) ({firing})")]


def _rate(counter: str, *labels: str) -> Rule:
    return record(f"job:{counter}:rate1m", total(rate(f"{counter}_total"), ("job", *labels)))


def _share(name: str, part: str, whole: str, *labels: str) -> Rule:
    """Of the fullest instance."""
    return record(f"job:{name}:max_ratio", largest(f"{part} / ({whole} > 0)", ("job", *labels)))
