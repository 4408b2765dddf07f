"""The supervisor, for real: programs start, change, and none is left behind."""

import sys
import time

import psutil
import pytest

from llmvitals_stack.programs import Program
from llmvitals_stack.supervision import Supervisor, configuration

SLEEPER = (sys.executable, "-c", "import time; print('100 % awake', flush=True); time.sleep(600)")


@pytest.fixture(name="run")
def _run(tmp_path):
    # Such as a person may have: with a space, a quote, and supervisord's own sign for expansion.
    folder = tmp_path / "it's 100 %s"
    (folder / "logs").mkdir(parents=True)
    return folder


@pytest.fixture(name="supervisor")
def _supervisor(run):
    supervisor = Supervisor(run, run / "s.sock")
    yield supervisor
    supervisor.stop()


def write(run, *programs):
    (run / "supervisord.conf").write_text(configuration(programs, root=run, run=run, socket=run / "s.sock"))


def until(condition, seconds=15):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


def test_programs_run_and_none_is_left_after_stop(run, supervisor):
    """After `stop`, neither supervisord nor any program's process is alive."""
    write(run, Program("one", SLEEPER), Program("two", SLEEPER))
    supervisor.start()
    until(lambda: supervisor.states() == {"one": "RUNNING", "two": "RUNNING"})
    pids = list(supervisor.pids().values())

    assert supervisor.stop()

    assert [] == [pid for pid in pids if psutil.pid_exists(pid)]
    assert {} == supervisor.states()
    assert "100 % awake" in (run / "logs" / "one.log").read_text()


def test_stop_ends_what_a_killed_supervisor_left(run, supervisor):
    """After `kill -9` of supervisord, its programs go on; they are told as orphans, and `stop` ends them."""
    write(run, Program("one", SLEEPER), Program("two", SLEEPER))
    supervisor.start()
    until(lambda: supervisor.states() == {"one": "RUNNING", "two": "RUNNING"})
    programs = [psutil.Process(pid) for pid in supervisor.pids().values()]
    assert not supervisor.orphaned()
    programs[0].parent().kill()
    until(lambda: not supervisor.running())

    assert supervisor.orphaned()
    assert supervisor.stop()

    assert [] == [process for process in programs if process.is_running()]
    assert not supervisor.orphaned()


def test_stop_ends_a_supervisor_whose_folder_was_removed(run, supervisor):
    """Without its socket and its pid file, what runs is still found and ended."""
    write(run, Program("one", SLEEPER))
    supervisor.start()
    until(lambda: supervisor.states() == {"one": "RUNNING"})
    (program,) = (psutil.Process(pid) for pid in supervisor.pids().values())
    family = [program, program.parent()]
    (run / "s.sock").unlink()
    (run / "supervisord.pid").unlink()

    assert supervisor.stop()

    assert [] == [process for process in family if process.is_running()]


def test_stop_says_when_nothing_ran(supervisor):
    """Stopping what does not run is no error."""
    assert not supervisor.stop()


def test_starting_again_replaces_only_what_changed(run, supervisor):
    """A second start keeps unchanged programs, restarts changed ones, adds new ones, removes old ones."""
    write(run, Program("kept", SLEEPER), Program("changed", SLEEPER), Program("gone", SLEEPER))
    supervisor.start()
    until(lambda: set(supervisor.states().values()) == {"RUNNING"})
    before = supervisor.pids()

    write(run, Program("kept", SLEEPER), Program("changed", (*SLEEPER, "x")), Program("new", SLEEPER))
    supervisor.start()
    until(lambda: supervisor.states() == {"kept": "RUNNING", "changed": "RUNNING", "new": "RUNNING"})

    after = supervisor.pids()
    assert before["kept"] == after["kept"]
    assert before["changed"] != after["changed"]


def test_starting_again_revives_what_ended(run, supervisor):
    """A program that nobody restarts is started by the next `make up`."""
    write(run, Program("once", SLEEPER, restart=False))
    supervisor.start()
    until(lambda: supervisor.states() == {"once": "RUNNING"})
    psutil.Process(supervisor.pids()["once"]).kill()
    until(lambda: supervisor.states() == {"once": "EXITED"})

    supervisor.start()

    until(lambda: supervisor.states() == {"once": "RUNNING"})


def test_an_old_pid_file_ends_nobody_else(run, supervisor):
    """A pid file whose number is another process's by now is not believed."""
    (run / "supervisord.pid").write_text(f"{psutil.Process().pid}\n")

    assert not supervisor.stop()
