"""Groups of processes, real ones and a kernel's files written by hand."""

import os
import subprocess
import sys

import pytest
from tests.exporter.reading import plant, settings, until, values

from llmvitals_exporter import _process_table
from llmvitals_exporter._declaration import Settings
from llmvitals_exporter.collectors.processes import COLLECTOR, WATCH

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def group(name, found):
    """The readings of one group by their names' ends."""
    return {
        series.removeprefix("llmvitals_process_group_").partition("{")[0]: value
        for series, value in found.items()
        if f'group="{name}"' in series and "_states{" not in series
    }


class Machine:
    """A procfs with processes that come, work and go."""

    def __init__(self, root, *watches):
        self._root = root
        plant(root, {"proc/stat": "cpu 0\nbtime 1000000\n"})
        (root / "proc/self").symlink_to("999")
        self.source = COLLECTOR.open(settings(root, more={WATCH: WATCH.parse(watches)}))

    def run(
        self,
        pid,
        *,
        name="python3",
        command="",
        cpu=0.0,
        started=100.0,
        threads=1,
        pages=1,
        fds=(),
        io=(0, 0),
        state="S",
    ):
        fields = [state, *["0"] * 10, str(int(cpu * TICKS)), "0", "0", "0", "20", "0", str(threads), "0"]
        fields += [str(int(started * TICKS)), "0", str(pages), "0"]
        folder = f"proc/{pid}"
        files = {f"{folder}/stat": f"{pid} ({name}) {' '.join(fields)}\n", f"{folder}/cmdline": command}
        files[f"{folder}/io"] = f"rchar: 7\nread_bytes: {io[0]}\nwrite_bytes: {io[1]}\ncancelled_write_bytes: 5\n"
        plant(self._root, {**files, **{f"{folder}/fd/{fd}": "" for fd in fds}})
        (self._root / folder / "fd").mkdir(exist_ok=True)

    def end(self, pid):
        subprocess.run(["rm", "-r", str(self._root / f"proc/{pid}")], check=True)

    def read(self, name):
        return group(name, values(COLLECTOR, self.source))


@pytest.fixture(name="machine")
def _machine(tmp_path):
    return lambda *watches: Machine(tmp_path, *watches)


def test_group(machine):
    """A group's numbers are the sums over its processes, found by name or by command line."""
    machine = machine("app=my_app|worker")
    machine.run(1, name="init", command="/sbin/init\0", cpu=99)
    machine.run(20, command="python3\0-m\0my_app\0", cpu=1.5, started=50, threads=4, pages=10, fds=(0, 1, 2))
    machine.run(21, name="worker", cpu=0.5, started=70, pages=5, fds=(0,))

    assert {
        "processes": 2.0,
        "cpu_seconds_total": 2.0,
        "resident_memory_bytes": 15.0 * PAGE,
        "read_bytes_total": 0.0,
        "written_bytes_total": 0.0,
        "threads": 5.0,
        "open_fds": 4.0,
        "oldest_start_time_seconds": 1000050.0,
    } == machine.read("app")


def test_empty_group_is_shown(machine):
    """A group without a process says so: 0, and no start time."""
    assert {
        "processes": 0.0,
        "cpu_seconds_total": 0.0,
        "resident_memory_bytes": 0.0,
        "read_bytes_total": 0.0,
        "written_bytes_total": 0.0,
        "threads": 0.0,
        "open_fds": 0.0,
    } == machine("app=my_app").read("app")


def test_cpu_time_of_the_dead_stays(machine):
    """A group's CPU time is a counter: it does not fall when a process ends, and a new one adds to it."""
    machine = machine("app=app")
    machine.run(20, name="app", cpu=5.0)
    machine.run(21, name="app", cpu=3.0)
    first = machine.read("app")["cpu_seconds_total"]
    machine.run(20, name="app", cpu=6.0)
    machine.end(21)
    second = machine.read("app")["cpu_seconds_total"]
    machine.run(21, name="app", cpu=0.5, started=200.0)
    third = machine.read("app")["cpu_seconds_total"]

    assert (8.0, 9.0, 9.5) == (first, second, third)


def test_bytes_of_the_dead_stay(machine):
    """What a group read and wrote is counted on when a process ends and another takes its id."""
    machine = machine("app=app")
    machine.run(20, name="app", io=(1000, 50))
    machine.run(21, name="app", io=(500, 0))
    machine.read("app")
    machine.run(20, name="app", io=(1500, 60))
    machine.end(21)
    machine.read("app")
    machine.run(21, name="app", io=(10, 1), started=200.0)
    found = machine.read("app")

    assert (2010.0, 61.0) == (found["read_bytes_total"], found["written_bytes_total"])


def test_states(machine):
    """Each process is in one of process-exporter's states, and a state without a process is 0."""
    machine = machine("app=app")
    for pid, state in enumerate("RSDZTI", start=20):
        machine.run(pid, name="app", state=state)
    found = values(COLLECTOR, machine.source)

    assert {"running": 1.0, "sleeping": 2.0, "waiting": 1.0, "zombie": 1.0, "other": 1.0} == {
        series.split('"')[3]: value for series, value in found.items() if "_states{" in series
    }


def test_first_watch_that_fits_wins(machine):
    """A process is in one group only, so that sums over groups count it once."""
    machine = machine("specific=my_app", "all=python")
    machine.run(20, command="python3 my_app")
    machine.run(21, command="python3 other")

    assert 1.0 == machine.read("specific")["processes"]
    assert 1.0 == machine.read("all")["processes"]


@pytest.mark.parametrize(
    "name",
    ["a b", "x) S 1 2", "((", "}\n# HELP evil", 'quote"', "\\", ""],
    ids=["space", *["brace", "nest", "line", "quote", "back", "none"]],
)
def test_hostile_name(machine, name):
    """A process may call itself anything; its numbers are read all the same, and its name is served nowhere."""
    machine = machine("app=my_app")
    machine.run(20, name=name, command="my_app", threads=3)
    found = machine.read("app")

    assert 3.0 == found["threads"]


def test_itself_is_not_counted(machine):
    """The exporter's own command line holds every pattern, so it is left out."""
    machine = machine("app=my_app")
    machine.run(999, command="llmvitals-exporter --watch app=my_app")

    assert 0.0 == machine.read("app")["processes"]


def test_process_that_execs_changes_its_group(tmp_path):
    """Between fork and exec a process looks like its parent; it is matched anew until it has settled."""
    with subprocess.Popen(
        [sys.executable, "-c", "import sys, os; sys.stdin.read(1); os.execvp('sleep', ['sleep', '4242.5'])"],
        stdin=subprocess.PIPE,
    ) as process:
        try:
            source = COLLECTOR.open(
                Settings({WATCH: WATCH.parse(["sleeper=^sleep 4242[.]5$", "starter=read.1.; os.execvp"])})
            )
            until(lambda: group("starter", values(COLLECTOR, source))["processes"] == 1.0)
            process.stdin.write(b"x")
            process.stdin.close()
            until(lambda: group("sleeper", values(COLLECTOR, source))["processes"] == 1.0)
            found = values(COLLECTOR, source)

            assert 0.0 == group("starter", found)["processes"]
            assert 1.0 == group("sleeper", found)["threads"]
            assert group("sleeper", found)["resident_memory_bytes"] > 0
            assert group("sleeper", found)["open_fds"] >= 3
        finally:
            process.kill()


def test_forbidden_look_at_files(machine, monkeypatch):
    """When one process does not let us count its files, the group has no such number rather than a wrong one."""
    machine = machine("app=app")
    machine.run(20, name="app", fds=(0, 1))
    machine.run(21, name="app")
    listdir = os.listdir

    def forbidding(path):
        if "/21/" in str(path):
            raise PermissionError(13, "Permission denied")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", forbidding)
    found = machine.read("app")

    assert "open_fds" not in found
    assert 2.0 == found["processes"]


def test_process_that_ends_while_we_look(machine):
    """A process without files any more is left out, and the others are counted."""
    machine = machine("app=app")
    machine.run(20, name="app")
    machine.run(21, name="app")
    (machine._root / "proc/21/stat").unlink()

    assert 1.0 == machine.read("app")["processes"]


def test_zombie_hides_nothing(machine, monkeypatch):
    """A zombie's files are root's to see, but it has none: its group has all of its numbers."""
    machine = machine("app=app")
    machine.run(20, name="app", fds=(0, 1), io=(1000, 50))
    machine.run(21, name="app", state="Z", pages=0)
    listdir = os.listdir

    def forbidding(path):
        if "/21/" in str(path):
            raise PermissionError(13, "Permission denied")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", forbidding)
    found = machine.read("app")

    assert (2.0, 2.0, 1000.0) == (found["processes"], found["open_fds"], found["read_bytes_total"])


def test_what_is_known_is_not_read_again(machine, monkeypatch):
    """Of a process that has settled one file is read when nobody watches it, and no command line ever again."""
    machine = machine("app=app")
    machine.run(20, name="app")
    machine.run(21, name="other")
    machine.read("app")
    read = []
    read_text = _process_table.read_text
    monkeypatch.setattr(_process_table, "read_text", lambda path: read.append(path) or read_text(path))
    machine.read("app")

    assert ["20/io", "20/stat", "21/stat"] == sorted(path.partition("/proc/")[2] for path in read)
