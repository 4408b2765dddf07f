"""What the faults of machines, of yesterday and of GPUs put before the stack's real programs."""

import re
import subprocess
import time

import pytest
import requests
from tests.stack import checkout, machine_faults, server_faults, yesterday
from tests.stack.demo_world import World


class Watched(World):
    """A world without a stack, that remembers which ports are scraped."""

    def __init__(self):
        self.ports = {}

    def scraped(self, job, port, *, like="apps"):
        self.ports[job] = port
        return lambda: self.ports.pop(job)


def page(port):
    """The exporter's samples without labels."""
    session = requests.Session()
    session.mount(
        "http://", requests.adapters.HTTPAdapter(max_retries=requests.adapters.Retry(20, backoff_factor=0.05))
    )
    text = session.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text
    return {name: float(value) for name, value in re.findall(r"(?m)^(\w+) (\S+)$", text)}


def test_a_played_machine_is_short_of_what_its_alerts_are_about():
    """The real exporter reads the prepared files, and tells what is over the alerts' limits; then all is gone."""
    world = Watched()
    fault, container = machine_faults.MACHINE_FAULTS[:2]
    undo = [fault.turn_on(world), container.turn_on(world)]
    try:
        machine, group = page(world.ports["short-machine"]), page(world.ports["small-container"])
    finally:
        for one in undo:
            one()

    assert machine["node_memory_MemAvailable_bytes"] / machine["node_memory_MemTotal_bytes"] < 0.05
    assert 1 == machine["node_vmstat_oom_kill"] == group["llmvitals_cgroup_oom_events_total"]
    assert {"node_pressure_cpu_waiting_seconds_total", "node_pressure_io_waiting_seconds_total"} <= machine.keys()
    assert (512 << 20, 0.5) == (group["llmvitals_cgroup_memory_limit_bytes"], group["llmvitals_cgroup_cpu_limit_cores"])
    assert group["llmvitals_cgroup_memory_working_set_bytes"] / group["llmvitals_cgroup_memory_limit_bytes"] > 0.9
    assert {} == world.ports


def test_a_storage_is_nearly_full():
    """The blocks of a Prometheus that scrapes nothing take 95 % of what it may keep, and go back to yesterday."""
    world = Watched()
    undo = server_faults._full_storage(world)
    try:
        told = page(world.ports["prometheus-with-little-room"])
    finally:
        undo()

    kept = told["prometheus_tsdb_storage_blocks_bytes"] / told["prometheus_tsdb_retention_limit_bytes"]
    assert pytest.approx(0.95, abs=0.01) == kept
    assert time.time() - told["prometheus_tsdb_lowest_timestamp_seconds"] > 80_000
    assert {} == world.ports


def test_yesterday_is_in_the_database(tmp_path):
    """Prometheus' own tool makes blocks of it, and finds each series in them."""
    settings = checkout.make(tmp_path, {})
    yesterday.fill(settings)
    (settings.run / "prometheus-data" / "wal").mkdir()  # Without one the tool reads nothing.
    command = ["promtool", "tsdb", "dump", str(settings.run / "prometheus-data")]
    dumped = subprocess.run(command, check=True, capture_output=True, text=True).stdout

    assert {
        ("gen_ai_client_operation_duration_seconds_count", "companion"),
        ("gen_ai_client_operation_duration_seconds_count", yesterday.QUIET),
        ("llm:job_cache_hits:sum1m", "companion"),
        ("llm:job_cache_lookups:sum1m", "companion"),
        ("llmvitals_cost_usd_total", "companion"),
        ("llmvitals_gpu_memory_total_bytes", "exporter"),
        ("llmvitals_gpu_memory_used_bytes", "exporter"),
        ("llmvitals_gpu_utilization_ratio", "exporter"),
        ("prometheus_tsdb_head_series", "prometheus"),
    } == set(re.findall(r'__name__="([\w:]+)".* job="([\w-]+)"', dumped))
    assert "gpu1 idle\n" == (settings.run / "gpu-faults").read_text()


def test_faults_of_gpus_are_lines_that_come_and_go(tmp_path):
    """Turning one off leaves the others."""
    world = World(checkout.make(tmp_path, {}))
    file = world.settings.run / "gpu-faults"
    file.parent.mkdir(exist_ok=True)
    first, second = world.gpu_faults("gpu0 hot"), world.gpu_faults("gpu0 ecc", "gpu1 idle")
    both = file.read_text()
    first()
    one = file.read_text()
    second()

    assert ("gpu0 hot\ngpu0 ecc\ngpu1 idle\n", "gpu0 ecc\ngpu1 idle\n", "") == (both, one, file.read_text())
