"""Side by side with node_exporter: what has its name has its meaning."""

import math
import shutil
import subprocess
import sys

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests import servers

NODE_EXPORTER = shutil.which("prometheus-node-exporter") or shutil.which("node_exporter")
pytestmark = [
    pytest.mark.stack,
    pytest.mark.skipif(NODE_EXPORTER is None, reason="prometheus-node-exporter is not installed"),
]

#: Families of ours whose series node_exporter may leave out: irq pressure came with its version 1.7.
NEWER = {"node_pressure_irq_stalled_seconds"}
#: What moves much between two scrapes: how far the two may be apart, relative and absolute.
RELATIVE, ABSOLUTE = 0.05, 5.0
RESTLESS = {
    "node_procs_running": math.inf,
    "node_procs_blocked": math.inf,
    "node_disk_io_now": math.inf,
    "node_context_switches": 50_000,
    "node_intr": 50_000,
    "node_forks": 200,
    "node_vmstat_pgfault": 1e6,
    "node_vmstat_pgpgin": 1e6,
    "node_vmstat_pgpgout": 1e6,
    "node_filefd_allocated": 500,
    "node_filesystem_files_free": 10_000,
    "node_nf_conntrack_entries": 200,
    # A browser that starts asks for gigabytes, and takes little of them.
    "node_memory_Committed_AS_bytes": 8e9,
}
#: Memory and disks of a busy machine.
RESTLESS_BYTES = 300e6


def families(text):
    return {metric.name: metric for metric in text_string_to_metric_families(text) if metric.name.startswith("node_")}


def node_exporter(folder):
    """The collectors that we have too, on all network devices, and all mounts that it leaves alone by itself."""
    port = servers.free_port()
    command = [NODE_EXPORTER, f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    command += ["--collector.netdev.device-exclude=^$", "--collector.disable-defaults"]
    names = "cpu meminfo diskstats filesystem netdev loadavg pressure vmstat stat time uname filefd conntrack"
    command += [f"--collector.{name}" for name in names.split()]
    command.append(
        "--collector.filesystem.mount-points-exclude="
        "^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)"
    )
    return servers.server(command, port=port, log=folder / "node_exporter.log", ready="/metrics")


@pytest.fixture(name="both", scope="module")
def _both(tmp_path_factory):
    """Our families and node_exporter's, of the same moment."""
    with node_exporter(tmp_path_factory.mktemp("node_exporter")) as server:
        theirs = servers.request(f"{server.url}/metrics").text
        ours = subprocess.run(
            [sys.executable, "-m", "llmvitals_exporter", "--once", "--nvidia", "off"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        ).stdout
        yield families(ours), families(theirs)


def test_every_name_is_theirs(both):
    """Nothing is called node_* that node_exporter does not have."""
    ours, theirs = both

    assert ours.keys() - theirs.keys() <= NEWER


def test_types_and_labels(both):
    """Types and label names are theirs."""
    ours, theirs = both
    for name in ours.keys() & theirs.keys():
        assert (theirs[name].type, labels(theirs[name])) == (ours[name].type, labels(ours[name])), name


def labels(metric):
    return {tuple(sorted(sample.labels)) for sample in metric.samples}


def test_series(both):
    """The same devices, CPUs, modes and mounts are shown."""
    ours, theirs = both
    for name in ours.keys() & theirs.keys():
        assert series(theirs[name]).keys() == series(ours[name]).keys(), name


def series(metric):
    return {tuple(sorted(sample.labels.items())): sample.value for sample in metric.samples}


def test_values(both):
    """The values are the same, but for what passed between the two scrapes."""
    ours, theirs = both
    far = []
    for name in ours.keys() & theirs.keys():
        absolute = RESTLESS.get(name, RESTLESS_BYTES if "bytes" in name else ABSOLUTE)
        expected = series(theirs[name])
        far += [
            (name, labels_, expected[labels_], value)
            for labels_, value in series(ours[name]).items()
            if not math.isclose(expected[labels_], value, rel_tol=RELATIVE, abs_tol=absolute)
        ]

    assert [] == far


def test_enough_is_shared(both):
    """The comparison compares something: the families that the node mixin's rules need are among the shared."""
    ours, theirs = both
    needed = {
        "node_cpu_seconds", "node_load1", "node_memory_MemAvailable_bytes", "node_disk_io_time_seconds",
        "node_filesystem_avail_bytes", "node_network_receive_bytes", "node_vmstat_pgmajfault", "node_boot_time_seconds",
        "node_pressure_cpu_waiting_seconds", "node_uname_info", "node_time_seconds", "node_filefd_allocated",
    }  # fmt: skip

    assert needed <= ours.keys() & theirs.keys()
