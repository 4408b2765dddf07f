"""The host as it should not be: odd names, no permission, full disks, missing files."""

import errno
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import hypothesis
import pytest
from hypothesis import strategies
from prometheus_client.parser import text_string_to_metric_families
from tests import servers
from tests.exporter.reading import LINUX, settings, values

from llmvitals.exposition import encode
from llmvitals_exporter import _places
from llmvitals_exporter._declaration import NothingToCollect
from llmvitals_exporter._places import ROOTFS
from llmvitals_exporter._runner import Runner, State
from llmvitals_exporter._scrape import Scrape
from llmvitals_exporter._site import Site
from llmvitals_exporter.collectors import COLLECTORS, filesystem, network, pressure

HOST = ("cpu", "memory", "disk", "filesystem", "network", "load", "pressure", "vmstat", "system")
HOSTS = [collector for collector in COLLECTORS if collector.name in HOST]


@pytest.fixture(name="machine")
def _machine(tmp_path):
    """A copy of the small machine, to be spoilt."""
    shutil.copytree(LINUX, tmp_path, dirs_exist_ok=True)
    return tmp_path


def exposed(machine, **more):
    """What is served of the machine's host: parsed again, by name."""
    chosen = settings(machine, {ROOTFS: str(machine), **more})
    runner = Runner(HOSTS, chosen, timeout=20.0)
    text = encode(Site(Scrape(runner), runner.collectors).registry).decode()
    runner.close()
    return {metric.name: metric for metric in text_string_to_metric_families(text)}


def states(machine):
    runner = Runner(HOSTS, settings(machine, {ROOTFS: str(machine)}), timeout=20.0)
    outcomes = {outcome.collector: outcome for outcome in runner.collect()}
    runner.close()
    return outcomes


# --- Names ------------------------------------------------------------------------------------------------------------

#: As a directory may be called, as the kernel writes it in its list of mounts, and as it is served.
NAMES = {
    "newline": (b"a\n# HELP evil\nb", rb"a\012#\040HELP\040evil\012b", "a\n# HELP evil\nb"),
    "quote": (b'"} 1\\', rb'"}\0401\134', '"} 1\\'),
    "no Unicode": (b"\xff\xfe", b"\xff\xfe", "\\xff\\xfe"),
    "ends of lines elsewhere": ("\u2028\x0b\x1c\x85".encode(), "\u2028\x0b\x1c\x85".encode(), "\u2028\x0b\x1c\x85"),
    "like an escape": (rb"\040", rb"\134040", r"\040"),
    "accents": ("mémoire".encode(), "mémoire".encode(), "mémoire"),
}


@pytest.mark.parametrize("name", NAMES)
def test_mount_points(machine, name):
    """Whatever a mount point is called, it is measured, and its name comes through the exposition as it is."""
    directory, written, served = NAMES[name]
    (machine / os.fsdecode(directory)).mkdir()
    (machine / "proc/1/mounts").write_bytes(b"/dev/vda /%s ext4 rw 0 0\n/dev/vdb / ext4 rw 0 0\n" % written)
    sizes = exposed(machine)["node_filesystem_size_bytes"].samples

    assert [f"/{served}", "/"] == [sample.labels["mountpoint"] for sample in sizes]


#: What the kernel writes as a number in a list of mounts (mangle, in fs/proc_namespace.c).
MANGLED = {ord(sign): rb"\%03o" % ord(sign) for sign in " \t\n\\#"}


@hypothesis.given(name=strategies.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name))
def test_any_mount_point(name):
    """Any bytes that a path may have are found again, for the system to be asked and for the label to be read."""
    mangled = b"".join(MANGLED.get(byte, bytes([byte])) for byte in name)
    (mount,) = filesystem.mounts(os.fsdecode(b"/dev/vda /%s ext4 rw 0 0\n" % mangled))

    assert b"/" + name == os.fsencode(mount.mountpoint)
    assert (b"/" + name).decode("utf-8", "backslashreplace") == mount.labels[2]


def test_two_mounts_that_read_alike(machine):
    """Names that differ in bytes that are no text stay two; one that comes twice is told once."""
    (machine / "proc/1/mounts").write_bytes(b"a\xff / ext4 rw 0 0\na\xfe / ext4 rw 0 0\na\xfe / ext4 rw 0 0\n")
    sizes = exposed(machine)["node_filesystem_size_bytes"].samples

    assert ["a\\xff", "a\\xfe"] == [sample.labels["device"] for sample in sizes]


def test_network_devices(machine):
    """A device may have any name without a space, a slash and a colon."""
    numbers = b": 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n"
    names = [b'  "}\\', b" \xff", " \u2028".encode(), b"\x1c"]
    (machine / "proc/net/dev").write_bytes(b"Inter-|\n face |\n" + b"".join(name + numbers for name in names))
    (machine / "proc/1/net/dev").write_bytes((machine / "proc/net/dev").read_bytes())
    received = exposed(machine)["node_network_receive_bytes"].samples

    assert ['"}\\', "\\xff", "\u2028", "\x1c"] == [sample.labels["device"] for sample in received]
    assert {1.0} == {sample.value for sample in received}


def test_machine_without_a_proper_name(machine, monkeypatch):
    """A host's name that is no text is told in characters that are."""
    names = {"machine": "x", "release": "x", "sysname": "x", "version": "x"}
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(nodename="h\udcff", **names))
    (uname,) = exposed(machine)["node_uname_info"].samples

    assert "h\\xff" == uname.labels["nodename"]


# --- Files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ("stat", {"cpu": State.FAILED, "system": State.FAILED}),
        ("meminfo", {"memory": State.FAILED}),
        ("loadavg", {"load": State.FAILED}),
        ("diskstats", {"disk": State.ABSENT}),
        ("1/net/dev", {"network": State.ABSENT}),
        ("vmstat", {"vmstat": State.ABSENT}),
        ("pressure", {"pressure": State.ABSENT}),
        ("sys", {}),
    ],
)
def test_missing_files(machine, missing, expected):
    """A file that is not there costs its own collector: a failure where every kernel has it, and none where not."""
    place = machine / "proc" / missing
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    outcomes = states(machine)

    assert {**dict.fromkeys(HOST, State.OK), **expected} == {name: outcome.state for name, outcome in outcomes.items()}
    assert all(missing in outcomes[name].error for name in expected)


def test_no_sysctl(machine):
    """A sandbox that hides the kernel's settings costs their series only."""
    shutil.rmtree(machine / "proc/sys")
    found = exposed(machine)

    assert "node_boot_time_seconds" in found
    assert not {"node_filefd_allocated", "node_nf_conntrack_entries"} & found.keys()
    assert "(none)" == found["node_uname_info"].samples[0].labels["domainname"]


def test_first_process_out_of_sight(machine):
    """Where procfs hides the others' processes, our own list of mounts is read."""
    (machine / "proc/self").mkdir(exist_ok=True)
    (machine / "proc/1/mounts").rename(machine / "proc/self/mounts")

    assert "/" in {sample.labels["mountpoint"] for sample in exposed(machine)["node_filesystem_size_bytes"].samples}


def test_pressure_switched_off(machine, monkeypatch):
    """A kernel that was started without pressure information answers that it does not support it: no failure."""

    def refuse(path):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), path)

    monkeypatch.setattr(_places, "read_bytes", refuse)
    with pytest.raises(NothingToCollect, match="no pressure information"):
        values(pressure.COLLECTOR, pressure.COLLECTOR.open(settings(machine)))


def test_pressure_of_interrupts_switched_off(machine, monkeypatch):
    """One resource without pressure information costs that one."""
    read_bytes = _places.read_bytes

    def refuse(path):
        if path.endswith("/irq"):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), path)
        return read_bytes(path)

    monkeypatch.setattr(_places, "read_bytes", refuse)
    found = values(pressure.COLLECTOR, pressure.COLLECTOR.open(settings(machine)))

    assert 5 == len(found)
    assert "node_pressure_irq_stalled_seconds_total" not in found


def test_network_in_a_container(machine):
    """With the host's procfs mounted elsewhere, the network is that of the host's first process, not ours."""
    (machine / "proc/net/dev").unlink()

    assert values(network.COLLECTOR, network.COLLECTOR.open(settings(machine)))


# --- Disks and permissions --------------------------------------------------------------------------------------------


def test_full_disk(machine, monkeypatch):
    """A filesystem with nothing left is told as it is: 0, which is no missing number."""
    full = SimpleNamespace(f_blocks=1000, f_frsize=4096, f_bfree=0, f_bavail=0, f_files=90, f_ffree=0)
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    found = values(filesystem.COLLECTOR, filesystem.COLLECTOR.open(settings(machine)))
    root = '{device="/dev/nvme0n1p1",fstype="ext4",mountpoint="/"}'

    assert (4096000.0, 0.0, 0.0) == (
        found[f"node_filesystem_size_bytes{root}"],
        found[f"node_filesystem_avail_bytes{root}"],
        found[f"node_filesystem_files_free{root}"],
    )


full_device = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")  # noqa: PTH110


@full_device
def test_log_on_a_full_disk():
    """When the log cannot be written, all is served."""
    port = servers.free_port()
    command = [sys.executable, "-m", "llmvitals_exporter", "--port", str(port), "--only", "cpu,koboldcpp"]
    # A server that is not there makes a line for the log.
    command += ["--koboldcpp", f"http://127.0.0.1:{servers.free_port()}"]
    with open("/dev/full", "wb") as log, subprocess.Popen(command, stderr=log) as process:  # noqa: PTH123
        try:
            url = f"http://127.0.0.1:{port}/metrics"
            servers.eventually(lambda: servers.answers(url), what="the exporter's start")

            assert 'node_cpu_seconds_total{cpu="0",mode="idle"}' in servers.request(url).text
        finally:
            process.kill()


@full_device
def test_output_on_a_full_disk():
    """What cannot be printed is told in one line, and is a failure."""
    command = [sys.executable, "-m", "llmvitals_exporter", "--once", "--only", "cpu"]
    with open("/dev/full", "wb") as output:  # noqa: PTH123
        done = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, timeout=30, check=False)

    assert 1 == done.returncode
    assert "llmvitals-exporter: standard output takes the metrics no further: No space left on device\n" == done.stderr


#: Gives root up after the modules are loaded: a checkout need not be readable to everybody.
NOBODY = """
import os, sys
from llmvitals_exporter.__main__ import main
if os.getuid() == 0:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux' files")
def test_without_permission():
    """Without any right the host is served whole; of others' processes, what everybody may know."""
    command = [sys.executable, "-c", NOBODY, "--once", "--nvidia", "off", "--watch", "all=.*"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found = {metric.name: metric for metric in text_string_to_metric_families(done.stdout)}
    success = {
        sample.labels["collector"]: sample.value for sample in found["llmvitals_scrape_collector_success"].samples
    }
    group = {name.removeprefix("llmvitals_process_group_") for name in found if "_process_group_" in name}

    assert {1.0} == set(success.values())
    assert {"cpu", "memory", "disk", "filesystem", "network", "load", "system", "processes"} <= success.keys()
    assert {"processes", "cpu_seconds", "resident_memory_bytes", "threads", "states"} <= group
    assert not {"open_fds", "read_bytes", "written_bytes"} & group
