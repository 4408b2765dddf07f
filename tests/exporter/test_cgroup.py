"""Limits and use of control groups: version 1, version 2, containers with and without their own view."""

import os

import pytest
from tests.exporter.reading import plant, settings, values

from llmvitals_exporter._declaration import NothingToCollect
from llmvitals_exporter.collectors import cgroup

#: 16 GB, and four CPUs.
HOST = {
    "proc/meminfo": "MemTotal:       16384000 kB\n",
    "proc/stat": "cpu 4\ncpu0 1\ncpu1 1\ncpu2 1\ncpu3 1\nbtime 1\n",
}
V2_MOUNT = {"proc/self/mountinfo": "31 23 0:28 / {here}/sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"}
V1_MOUNTS = {
    "proc/self/mountinfo": "30 23 0:27 / / rw - ext4 /dev/vda rw\n"
    "32 31 0:29 {root} {here}/sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 {root} {here}/sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
}
V1_FILES = {
    "memory/{group}memory.usage_in_bytes": "1000\n",
    "memory/{group}memory.limit_in_bytes": "2000\n",
    "memory/{group}memory.stat": "inactive_file 1\nhierarchical_memory_limit 2000\ntotal_inactive_file 300\n",
    "memory/{group}memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
    "cpu,cpuacct/{group}cpuacct.usage": "2500000000\n",
    "cpu,cpuacct/{group}cpu.stat": "nr_periods 5\nnr_throttled 2\nthrottled_time 1500000000\n",
    "cpu,cpuacct/{group}cpu.cfs_quota_us": "150000\n",
    "cpu,cpuacct/{group}cpu.cfs_period_us": "100000\n",
}
ALL_V1 = {
    "llmvitals_cgroup_memory_usage_bytes": 1000.0,
    "llmvitals_cgroup_memory_working_set_bytes": 700.0,
    "llmvitals_cgroup_memory_limit_bytes": 2000.0,
    "llmvitals_cgroup_oom_events_total": 3.0,
    "llmvitals_cgroup_cpu_usage_seconds_total": 2.5,
    "llmvitals_cgroup_cpu_throttled_seconds_total": 1.5,
    "llmvitals_cgroup_cpu_periods_total": 5.0,
    "llmvitals_cgroup_cpu_throttled_periods_total": 2.0,
    "llmvitals_cgroup_cpu_limit_cores": 1.5,
}


def read(tmp_path, *trees):
    for tree in trees:
        plant(tmp_path, tree)
    return values(cgroup.COLLECTOR, cgroup.COLLECTOR.open(settings(tmp_path)))


def v1(group, root):
    files = {f"sys/fs/cgroup/{path.format(group=group)}": text for path, text in V1_FILES.items()}
    mounts = {path: text.replace("{root}", root) for path, text in V1_MOUNTS.items()}
    return {**files, **mounts}


def v2(group="", **files):
    return {f"sys/fs/cgroup/{group}{name.replace('_', '.', 1)}": text for name, text in files.items()}


def test_v2_container(tmp_path):
    """In a container of version 2 the group is the root of its own view."""
    files = v2(
        memory_current="1000\n",
        memory_max="2000\n",
        memory_stat="anon 500\nfile 500\ninactive_file 300\nactive_file 200\n",
        memory_events="low 0\nhigh 0\nmax 0\noom 4\noom_kill 3\n",
        cpu_stat="usage_usec 2500000\nuser_usec 1\nnr_periods 5\nnr_throttled 2\nthrottled_usec 1500000\n",
        cpu_max="150000 100000\n",
    )

    assert ALL_V1 == read(tmp_path, HOST, V2_MOUNT, {"proc/self/cgroup": "0::/\n"}, files)


def test_v2_strictest_parent_limits(tmp_path):
    """A limit of any parent counts, because it binds the group too."""
    found = read(
        tmp_path,
        HOST,
        V2_MOUNT,
        {"proc/self/cgroup": "0::/app.slice/app.service\n"},
        v2("app.slice/app.service/", memory_current="7\n", memory_max="9000\n", cpu_max="max 100000\n"),
        v2("app.slice/", memory_current="8\n", memory_max="5000\n", cpu_max="200000 100000\n"),
    )

    assert {
        "llmvitals_cgroup_memory_usage_bytes": 7.0,
        "llmvitals_cgroup_memory_limit_bytes": 5000.0,
        "llmvitals_cgroup_cpu_limit_cores": 2.0,
    } == found


def test_v2_unlimited_is_absent(tmp_path):
    """The word max is no number: the limit has no series, the use has."""
    files = v2(memory_current="1000\n", memory_max="max\n", cpu_max="max 100000\n", cpu_stat="usage_usec 1000000\n")

    assert {
        "llmvitals_cgroup_memory_usage_bytes": 1000.0,
        "llmvitals_cgroup_cpu_usage_seconds_total": 1.0,
    } == read(tmp_path, HOST, V2_MOUNT, {"proc/self/cgroup": "0::/\n"}, files)


def test_v2_root_of_the_host(tmp_path):
    """The root group of a host has no memory files; what it has is still served."""
    found = read(tmp_path, HOST, V2_MOUNT, {"proc/self/cgroup": "0::/\n"}, v2(cpu_stat="usage_usec 1000000\n"))

    assert {"llmvitals_cgroup_cpu_usage_seconds_total": 1.0} == found


@pytest.mark.parametrize(
    ("path", "root", "group"),
    [
        ("/docker/abc", "/docker/abc", ""),
        ("/docker/abc", "/", "docker/abc/"),
        ("/", "/", ""),
        ("/../other", "/docker/abc", ""),
    ],
    ids=["container that sees the host's path", "on the host", "container with its own view", "moved out of the view"],
)
def test_v1(tmp_path, path, root, group):
    """Version 1's files are found whatever view of them the process has."""
    membership = {"proc/self/cgroup": f"5:memory:{path}\n4:cpu,cpuacct:{path}\n1:name=systemd:{path}\n"}

    assert ALL_V1 == read(tmp_path, HOST, membership, v1(group, root))


@pytest.mark.parametrize("root", ["/", "/../.."], ids=["host's view", "own view"])
def test_host_mounted_in_a_container(tmp_path, root):
    """With the host's files mounted too, the container's own group is read, not the host's root group."""
    found = read(
        tmp_path,
        HOST,
        {"proc/self/cgroup": "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n"},
        v1("", "/docker/abc"),
        {
            "host/memory/memory.usage_in_bytes": "7\n",
            "host/memory/docker/abc/memory.usage_in_bytes": "1000\n",
            "host/memory/docker/abc/memory.limit_in_bytes": "2000\n",
            "host/memory/docker/abc/memory.stat": "total_inactive_file 300\n",
            "host/memory/docker/abc/memory.oom_control": "oom_kill 3\n",
            "proc/self/mountinfo": "40 23 0:32 {host} {here}/host/memory rw - cgroup cgroup rw,memory\n".replace(
                "{host}", root
            )
            + V1_MOUNTS["proc/self/mountinfo"].replace("{root}", "/docker/abc"),
        },
    )

    assert ALL_V1 == found


def test_v1_unlimited_is_absent(tmp_path):
    """Version 1 writes "unlimited" as a number near 2^63, or as -1: neither is served."""
    found = read(
        tmp_path,
        HOST,
        {"proc/self/cgroup": "5:memory:/\n4:cpu,cpuacct:/\n"},
        v1("", "/"),
        {
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/memory.stat": "hierarchical_memory_limit 9223372036854771712\n"
            "total_inactive_file 300\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
        },
    )

    assert ALL_V1.keys() - found.keys() == {"llmvitals_cgroup_memory_limit_bytes", "llmvitals_cgroup_cpu_limit_cores"}


def test_both_versions_mounted(tmp_path):
    """Where version 2 is mounted without controllers, version 1 is read."""
    found = read(
        tmp_path,
        HOST,
        {"proc/self/cgroup": "5:memory:/a\n4:cpu,cpuacct:/a\n0::/\n"},
        v1("a/", "/"),
        {"sys/fs/cgroup/unified/cgroup.procs": ""},
    )
    with (tmp_path / "proc/self/mountinfo").open("a") as mounts:
        mounts.write(f"41 31 0:38 / {tmp_path}/sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n")

    assert ALL_V1 == found == read(tmp_path)


STALLS = "some avg10=0.00 avg60=0.00 avg300=0.00 total={}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total={}\n"


def test_pressure(tmp_path):
    """A group's own stalls are told by resource, and a kernel that hides one of them costs that one only."""
    files = v2(
        cpu_stat="usage_usec 0\n",
        cpu_pressure=STALLS.format(2500000, 500000),
        memory_pressure=STALLS.format(1000000, 250000),
    )
    found = read(tmp_path, HOST, V2_MOUNT, {"proc/self/cgroup": "0::/\n"}, files)

    assert {
        "llmvitals_cgroup_cpu_usage_seconds_total": 0.0,
        "llmvitals_cgroup_pressure_cpu_waiting_seconds_total": 2.5,
        "llmvitals_cgroup_pressure_cpu_stalled_seconds_total": 0.5,
        "llmvitals_cgroup_pressure_memory_waiting_seconds_total": 1.0,
        "llmvitals_cgroup_pressure_memory_stalled_seconds_total": 0.25,
    } == found


def test_v1_limit_of_a_parent_out_of_sight(tmp_path):
    """A container of version 1 sees no parent; the kernel's word on the strictest of them counts."""
    found = read(
        tmp_path,
        HOST,
        {"proc/self/cgroup": "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n"},
        v1("", "/docker/abc"),
        {"sys/fs/cgroup/memory/memory.stat": "hierarchical_memory_limit 1500\ntotal_inactive_file 300\n"},
    )

    assert {**ALL_V1, "llmvitals_cgroup_memory_limit_bytes": 1500.0} == found


def test_limits_beyond_the_host_limit_nothing(tmp_path):
    """A limit above what the machine has is none; one of all that it has is still told."""
    group = {"proc/self/cgroup": "0::/a\n"}
    over = v2("a/", memory_current="7\n", memory_max="16777216001\n", cpu_max="800000 100000\n")
    all_of_it = v2("a/", memory_max="16777216000\n", cpu_max="400000 100000\n")

    assert {"llmvitals_cgroup_memory_usage_bytes": 7.0} == read(tmp_path, HOST, V2_MOUNT, group, over)
    assert {
        "llmvitals_cgroup_memory_usage_bytes": 7.0,
        "llmvitals_cgroup_memory_limit_bytes": 16777216000.0,
        "llmvitals_cgroup_cpu_limit_cores": 4.0,
    } == read(tmp_path, all_of_it)


def test_cache_beyond_the_use(tmp_path):
    """The cache is read after the use, and may have grown past it: no memory is in use then, not less than none."""
    files = v2(memory_current="1000\n", memory_stat="inactive_file 1500\n")

    assert {
        "llmvitals_cgroup_memory_usage_bytes": 1000.0,
        "llmvitals_cgroup_memory_working_set_bytes": 0.0,
    } == read(tmp_path, HOST, V2_MOUNT, {"proc/self/cgroup": "0::/\n"}, files)


@pytest.mark.parametrize("name", ["a b", "ü\u2028x\x0b", "\udcff"], ids=["space", "not a line's end", "not UTF-8"])
def test_hostile_names_of_groups(tmp_path, name):
    """A group may have any name that a file may have; it is found all the same, and its name is told nowhere."""
    place = tmp_path / "sys/fs/cgroup" / name
    place.mkdir(parents=True)
    (place / "memory.current").write_text("1000\n")
    plant(tmp_path, {**HOST, **V2_MOUNT})
    (tmp_path / "proc/self/cgroup").write_bytes(os.fsencode(f"0::/{name}\n"))

    assert {"llmvitals_cgroup_memory_usage_bytes": 1000.0} == read(tmp_path)


def test_no_control_group(tmp_path):
    """A machine without control groups has no such series, and that is no failure."""
    with pytest.raises(NothingToCollect):
        read(tmp_path, HOST, {"proc/self/cgroup": "", "proc/self/mountinfo": ""})
