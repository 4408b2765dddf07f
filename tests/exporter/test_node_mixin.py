"""The node mixin (docs/node-mixin in node_exporter's sources, of version 1.12) on our series, in a real Prometheus.

Its recording rules and alerts are written down here as what they ask for, with windows of seconds instead of minutes.
"""

import re
import sys

import pytest
import yaml
from tests import servers
from tests.exporter.reading import LINUX
from tests.exporter.test_node_exporter import NODE_EXPORTER, node_exporter

pytestmark = [
    pytest.mark.stack,
    pytest.mark.skipif(NODE_EXPORTER is None, reason="prometheus-node-exporter is not installed"),
]

JOB = 'job="node"'
DISK = f'{{{JOB},device!=""}}'
MOUNT = f'{{{JOB},fstype!="",mountpoint!=""}}'
WINDOW = "[30s]"


def network(what, devices):
    return f"sum without (device) (rate(node_network_{what}_total{{{JOB},device{devices}}}{WINDOW}))"


def per_hundred(part, whole):
    return f"node_filesystem_{part}{MOUNT} / node_filesystem_{whole}{MOUNT} * 100"


def writable(condition):
    return f"{condition} and node_filesystem_readonly{MOUNT} == 0"


MEMORY = "+".join(f"node_memory_{name}_bytes{{{JOB}}}" for name in ("Buffers", "Cached", "MemFree", "Slab"))
IDLE = f'{{{JOB},mode=~"idle|iowait|steal"}}'
RECORDED = {
    "instance:node_num_cpu:sum": f'count without (cpu, mode) (node_cpu_seconds_total{{{JOB},mode="idle"}})',
    "instance:node_cpu_utilisation:rate5m": (
        f"1 - avg without (cpu) (sum without (mode) (rate(node_cpu_seconds_total{IDLE}{WINDOW})))"
    ),
    "instance:node_load1_per_cpu:ratio": f"node_load1{{{JOB}}} / instance:node_num_cpu:sum{{{JOB}}}",
    "instance:node_memory_utilisation:ratio": (
        f"1 - ((node_memory_MemAvailable_bytes{{{JOB}}} or ({MEMORY})) / node_memory_MemTotal_bytes{{{JOB}}})"
    ),
    "instance:node_vmstat_pgmajfault:rate5m": f"rate(node_vmstat_pgmajfault{{{JOB}}}{WINDOW})",
    "instance_device:node_disk_io_time_seconds:rate5m": f"rate(node_disk_io_time_seconds_total{DISK}{WINDOW})",
    "instance_device:node_disk_io_time_weighted_seconds:rate5m": (
        f"rate(node_disk_io_time_weighted_seconds_total{DISK}{WINDOW})"
    ),
    **{
        f"instance:node_network_{what}_{scope}:rate5m": network(what, devices)
        for scope, devices in (("excluding_lo", '!="lo"'), ("physical", '!~"lo|veth.+"'))
        for what in ("receive_bytes", "transmit_bytes", "receive_drop", "transmit_drop")
    },
}

SPACE, FILES = per_hundred("avail_bytes", "size_bytes"), per_hundred("files_free", "files")
BUSY = f'rate(node_cpu_seconds_total{{{JOB},mode!~"idle|iowait"}}{WINDOW})'
#: An alert that the mixin has twice, with two thresholds, stands here once.
ALERTS = {
    "NodeFilesystemSpaceFillingUp": writable(
        f"{SPACE} < 40 and predict_linear(node_filesystem_avail_bytes{MOUNT}[6h], 24*60*60) < 0"
    ),
    "NodeFilesystemAlmostOutOfSpace": writable(f"{SPACE} < 5"),
    "NodeFilesystemFilesFillingUp": writable(
        f"{FILES} < 40 and predict_linear(node_filesystem_files_free{MOUNT}[6h], 24*60*60) < 0"
    ),
    "NodeFilesystemAlmostOutOfFiles": writable(f"{FILES} < 5"),
    **{
        f"NodeNetwork{way.capitalize()}Errs": (
            f"rate(node_network_{way}_errs_total{{{JOB}}}{WINDOW})"
            f" / rate(node_network_{way}_packets_total{{{JOB}}}{WINDOW}) > 0.01"
        )
        for way in ("receive", "transmit")
    },
    "NodeHighNumberConntrackEntriesUsed": (
        f"(node_nf_conntrack_entries{{{JOB}}} / node_nf_conntrack_entries_limit) > 0.75"
    ),
    "NodeFileDescriptorLimit": f"node_filefd_allocated{{{JOB}}} * 100 / node_filefd_maximum{{{JOB}}} > 70",
    "NodeCPUHighUsage": f"sum without (mode) (avg without (cpu) ({BUSY})) * 100 > 90",
    "NodeSystemSaturation": (
        f'node_load1{{{JOB}}} / count without (cpu, mode) (node_cpu_seconds_total{{{JOB},mode="idle"}}) > 2'
    ),
    "NodeMemoryMajorPagesFaults": f"rate(node_vmstat_pgmajfault{{{JOB}}}{WINDOW}) > 500",
    "NodeMemoryHighUtilization": (
        f"100 - (node_memory_MemAvailable_bytes{{{JOB}}} / node_memory_MemTotal_bytes{{{JOB}}} * 100) > 90"
    ),
    "NodeDiskIOSaturation": f"rate(node_disk_io_time_weighted_seconds_total{DISK}{WINDOW}) > 10",
}
#: What has no series of ours, each by a name that the alert needs, and why.
EXCUSED = {
    "NodeTextFileCollectorScrapeError": "node_textfile_scrape_error",  # There is no collector of text files.
    "NodeClockSkewDetected": "node_timex_offset_seconds",  # Needs adjtimex, which Python does not offer.
    "NodeClockNotSynchronising": "node_timex_sync_status",
    "NodeRAIDDegraded": "node_md_disks_required",  # Software RAID, bonding and units are node_exporter's business.
    "NodeRAIDDiskFailure": "node_md_disks",
    "NodeBondingDegraded": "node_bonding_slaves",
    "NodeSystemdServiceFailed": "node_systemd_unit_state",
    "NodeSystemdServiceCrashlooping": "node_systemd_service_restart_total",
}

_THRESHOLD = re.compile(r" (?:[<>]|==) [\d.]+")


def always(expression):
    """The alert without its thresholds: all series that it would compare with them."""
    return _THRESHOLD.sub("", expression)


@pytest.fixture(name="machines", scope="module")
def _machines(tmp_path_factory):
    """Prometheus with the mixin, and who is who: node_exporter here, ours here, ours on a machine with everything."""
    folder = tmp_path_factory.mktemp("mixin")
    rules = [{"record": name, "expr": expression} for name, expression in RECORDED.items()]
    rules += [{"alert": name, "expr": expression} for name, expression in ALERTS.items()]
    (folder / "mixin.yml").write_text(yaml.safe_dump({"groups": [{"name": "node", "rules": rules}]}))
    with node_exporter(folder) as theirs, exporter(folder) as ours, exporter(folder, f"{LINUX}/proc") as small:
        known = {f"127.0.0.1:{server.port}": name for server, name in ((theirs, "theirs"), (ours, "ours"))}
        known[f"127.0.0.1:{small.port}"] = "small"
        with servers.prometheus(
            folder, targets={"node": list(known)}, rules=[folder / "mixin.yml"], interval="2s"
        ) as prometheus:

            def evaluated():
                return len(servers.query(prometheus.url, list(RECORDED)[-1])) == len(known)

            servers.eventually(evaluated, what="two scrapes of three exporters", seconds=30.0)

            def ask(promql):
                """The labels of the answer's series, by machine."""
                found = {name: set() for name in known.values()}
                for series in servers.query(prometheus.url, promql):
                    labels = {key: value for key, value in series["metric"].items() if key != "__name__"}
                    found[known[labels.pop("instance")]].add(tuple(sorted(labels.items())))
                return found

            yield prometheus, ask


def exporter(folder, procfs="/proc"):
    port = servers.free_port()
    command = [sys.executable, "-m", "llmvitals_exporter", "--port", str(port), "--procfs", procfs]
    command += ["--without", "nvidia,amd,cgroup"]
    return servers.server(command, port=port, log=folder / f"{port}.log", ready="/-/ready")


def test_all_rules_evaluate(machines):
    """Prometheus takes every rule, and finds nothing wrong in evaluating it on our series."""
    prometheus, _ = machines
    groups = servers.request(f"{prometheus.url}/api/v1/rules").json()["data"]["groups"]
    health = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}

    assert dict.fromkeys((*RECORDED, *ALERTS), "ok") == health


EVERYTHING = {**{name: name for name in RECORDED}, **{name: always(expression) for name, expression in ALERTS.items()}}


@pytest.mark.parametrize("name", EVERYTHING)
def test_no_rule_is_empty(machines, name):
    """On a machine that has everything, each rule has series, and so has each side of an alert's conditions."""
    _, ask = machines

    assert ask(EVERYTHING[name])["small"]


@pytest.mark.parametrize("name", EVERYTHING)
def test_rules_find_what_they_find_on_node_exporter(machines, name):
    """On this machine each rule has the very series that it has on node_exporter."""
    _, ask = machines
    found = ask(EVERYTHING[name])

    assert found["theirs"] == found["ours"]


@pytest.mark.parametrize("name", EXCUSED)
def test_excuses_are_needed(machines, name):
    """What is excused is indeed not served: once it is, its rules belong to the others."""
    _, ask = machines

    assert set() == ask(EXCUSED[name])["small"] | ask(EXCUSED[name])["ours"]
