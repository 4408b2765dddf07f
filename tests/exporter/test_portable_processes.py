"""Groups of processes through psutil, as macOS and Windows would answer (see `systems`)."""

import os

import psutil
import pytest
from tests.exporter import systems
from tests.exporter.reading import values

from llmvitals_exporter._process_table import Portable
from llmvitals_exporter.collectors import processes
from llmvitals_exporter.collectors.processes import WATCH, Processes


def groups(system_, found, *, windows=False, watch="app=my_app"):
    source = Processes(Portable(systems.with_processes(system_, found), windows=windows), WATCH.parse([watch]))
    read = values(processes.COLLECTOR, source)
    return {name.removeprefix("llmvitals_process_group_").replace('group="app"', ""): n for name, n in read.items()}


DENIED, GONE, ZOMBIE = psutil.AccessDenied(7), psutil.NoSuchProcess(7), psutil.ZombieProcess(7)
#: One ordinary process, as its group is told.
ONE = {
    "processes{}": 1.0,
    "cpu_seconds_total{}": 1.5,
    **{f'states{{,state="{state}"}}': 0.0 for state in ("running", "sleeping", "waiting", "zombie", "other")},
    'states{,state="running"}': 1.0,
    "resident_memory_bytes{}": 1_000.0,
    "threads{}": 2.0,
    "open_fds{}": 3.0,
    "oldest_start_time_seconds{}": 1_000_000.0,
}


def test_group_on_macos():
    """A group has its numbers, but for storage, which macOS does not count; kernel and exporter are not in it."""
    found = {0: DENIED, os.getpid(): systems.process(), 20: systems.process()}

    assert ONE == groups(systems.MACOS, found)


def test_group_on_windows():
    """On Windows open files are handles, and there is no word on what a process does, nor on storage."""
    found = groups(systems.WINDOWS, {20: systems.process()}, windows=True)

    assert {**{name: n for name, n in ONE.items() if "states" not in name}, "open_fds{}": 30.0} == found


QUESTIONS = ("create_time", "name", "status", "cpu_times", "num_threads", "memory_info", "num_fds", "cmdline")


@pytest.mark.parametrize("question", [*QUESTIONS, "everything"])
def test_process_that_ends_at_any_question(question):
    """Whichever question meets its end, the others' numbers are told, and nothing fails."""
    ending = GONE if question == "everything" else systems.process(**{question: GONE})
    found = groups(systems.MACOS, {20: systems.process(), 21: ending})

    expected = ONE
    if question == "num_fds":  # All else was told before.
        expected = {**ONE, "processes{}": 2.0, "cpu_seconds_total{}": 3.0, "threads{}": 4.0}
        expected |= {"resident_memory_bytes{}": 2_000.0, 'states{,state="running"}': 2.0}
    assert expected == found


@pytest.mark.parametrize("question", [*QUESTIONS, "everything"])
def test_process_that_hides_at_any_question(question):
    """What one process does not let us see, its group has no number for; all else is told."""
    hiding = DENIED if question == "everything" else systems.process(**{question: DENIED, "rss": 1_000})
    found = groups(systems.MACOS, {20: systems.process(), 21: hiding}, watch="app=my_app|python")

    if question in ("create_time", "name", "status", "everything"):
        assert ONE == found
    else:
        hidden = {"num_fds": {"open_fds{}"}, "cmdline": set()}
        used = {"cpu_seconds_total{}", "threads{}", "resident_memory_bytes{}"}
        assert hidden.get(question, used) == ONE.keys() - found.keys()
        assert 2.0 == found["processes{}"]


@pytest.mark.parametrize("question", ["status", "cpu_times", "num_threads", "memory_info"])
def test_zombie(question):
    """A zombie is counted as one, holds nothing, and hides nothing of its group."""
    found = groups(systems.MACOS, {20: systems.process(), 21: systems.process(**{question: ZOMBIE})})

    assert {**ONE, "processes{}": 2.0, 'states{,state="zombie"}': 1.0} == found


def test_strange_error():
    """An error of the system that psutil passes on is one process's, not the collector's."""
    half_gone = systems.process(cmdline=OSError(22, "Invalid argument"))

    assert ONE == groups(systems.MACOS, {20: systems.process(), 21: {**half_gone, "name": "other"}})


def test_start_that_moves_with_the_clock():
    """A start is corrected when the clock is set, by macOS: it is the same process, and its time is counted once."""
    found = {20: systems.process(cpu=(5.0, 0.0))}
    source = Processes(Portable(systems.with_processes(systems.MACOS, found), windows=False), WATCH.parse(["app=app"]))
    values(processes.COLLECTOR, source)
    found[20] = systems.process(cpu=(6.0, 0.0), born=1_000_000.4)
    moved = values(processes.COLLECTOR, source)
    found[20] = systems.process(cpu=(2.0, 0.0), born=1_000_500.0)
    another = values(processes.COLLECTOR, source)
    name = 'llmvitals_process_group_cpu_seconds_total{group="app"}'

    assert (6.0, 8.0) == (moved[name], another[name])
