import json
import subprocess
import sys
import textwrap
import threading

import pytest
from prometheus_client import CollectorRegistry
from tests.servers import eventually

import llmvitals
from llmvitals._history import History, read_history
from llmvitals._performance import Performance
from llmvitals._recording import Recorder


@pytest.fixture(name="recorder")
def _recorder():
    return Recorder(CollectorRegistry())


@pytest.fixture(name="history")
def _history(recorder):
    history = History(recorder, threads=False)
    yield history
    history.close()


def names(events):
    return [event["name"] for event in events]


def test_the_latest_events_are_kept(recorder, history):
    """So many, oldest first, by level where asked."""
    for number in range(1001):
        history.record("swap", str(number), level="warning" if number % 2 else "info", reason="memory")

    assert 1000 == len(json.loads(history.export()))
    assert ["999", "1000"] == names(history.recent(2))
    assert ["997", "999"] == names(history.recent(2, least_level="warning"))
    assert [] == history.recent(0)
    assert {"event": "swap", "level": "info", "reason": "memory"}.items() <= history.recent(1)[0].items()
    assert 500 == recorder.registry.get_sample_value(
        "llmvitals_history_events_total", {"event": "swap", "level": "warning"}
    )


def test_a_file_gets_what_was_kept_and_what_comes(history, tmp_path):
    """As lines that are read back."""
    path = tmp_path / "new" / "history.jsonl"
    history.record("swap", "before")
    history.write_to(path)
    history.record("swap", "after", reason=object())
    history.deliver()

    assert ["before", "after"] == names(read_history(path))
    assert 0o600 == path.stat().st_mode & 0o777


def test_files_rotate_and_the_oldest_go(history, tmp_path):
    """No more is kept than was asked for, and it is read in order."""
    path = tmp_path / "history.jsonl"
    history.write_to(path, max_bytes=300, files=2)
    for number in range(20):
        history.record("swap", str(number))
    history.deliver()

    read = names(read_history(path))

    assert {"history.jsonl", "history.jsonl.1"} == {file.name for file in tmp_path.iterdir()}
    assert all(file.stat().st_size <= 300 for file in tmp_path.iterdir())
    assert [str(number) for number in range(20 - len(read), 20)] == read
    assert len(read) >= 4


def test_a_single_file_starts_anew(history, tmp_path):
    """Where no older one is wanted."""
    path = tmp_path / "history.jsonl"
    history.write_to(path, max_bytes=100, files=1)
    for number in range(5):
        history.record("swap", str(number))
    history.deliver()

    assert ["4"] == names(read_history(path))
    assert [path] == list(tmp_path.iterdir())


def test_a_line_that_a_crash_has_cut_off_spoils_no_other(history, tmp_path):
    """Neither of the process that crashed nor of the one that comes after it."""
    path = tmp_path / "history.jsonl"
    path.write_text('{"name": "whole"}\n[1]\n{"name": "cut o')
    history.write_to(path)
    history.record("swap", "after")
    history.deliver()

    assert ["whole", "after"] == names(read_history(path))
    assert [] == read_history(tmp_path / "none.jsonl")


def test_a_huge_event_is_cut(history, tmp_path):
    """What and when is kept."""
    path = tmp_path / "history.jsonl"
    history.write_to(path)
    history.record("swap", "huge", reason="x" * 100_000)
    history.deliver()

    assert path.stat().st_size < 4096
    assert {"name": "huge", "cut": True}.items() <= read_history(path)[0].items()


def test_a_disk_that_fails_is_counted_and_tried_again(recorder, history, tmp_path, caplog):
    """The application does not notice."""
    path = tmp_path / "folder" / "history.jsonl"
    (tmp_path / "folder").write_text("in the way")
    history.write_to(path)
    history.record("swap", "lost")
    history.record("swap", "lost, too")
    history.deliver()
    (tmp_path / "folder").unlink()
    history.record("swap", "written")
    history.deliver()

    assert ["written"] == names(read_history(path))
    assert 2 == recorder.registry.get_sample_value(
        "llmvitals_instrumentation_errors_total", {"component": "history_file"}
    )
    assert 1 == caplog.text.count("fault in history_file")


def test_listeners_hear_of_what_is_bad_enough(recorder, caplog):
    """In a thread of the history's; what one raises does not keep it from the others."""
    heard = []
    history = History(recorder)
    history.listen(lambda _: 1 / 0)
    history.listen(lambda event: heard.append((event["name"], threading.current_thread().name)), least_level="critical")
    for level in ("info", "warning", "critical", "emergency", "no level"):
        history.record("swap", level, level=level)
    eventually(lambda: len(heard) == 2)
    history.close()

    assert [("critical", "llmvitals-history"), ("emergency", "llmvitals-history")] == heard
    with pytest.raises(ValueError, match="info, warning, critical, emergency"):
        history.listen(print, least_level="bad")


def test_closing_writes_what_waits(recorder, tmp_path):
    """And what comes later is kept in memory only."""
    path = tmp_path / "history.jsonl"
    history = History(recorder)
    history.write_to(path)
    for number in range(100):
        history.record("swap", str(number))
    history.close()
    history.record("swap", "late")

    assert [str(number) for number in range(100)] == names(read_history(path))
    assert ["late"] == names(history.recent(1))


def test_it_survives_kill_9(tmp_path):
    """What was on its way for a moment is there."""
    path = tmp_path / "history.jsonl"
    program = """
        import os, signal, sys, time
        import llmvitals
        from llmvitals import testing

        vitals = testing.fresh()
        history = llmvitals.History(vitals.recorder)
        history.write_to(sys.argv[1])
        for number in range(500):
            history.record("swap", str(number))
        while len(llmvitals.read_history(sys.argv[1])) < 500:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    """

    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program), path], timeout=30, check=False)

    assert -9 == done.returncode
    assert [str(number) for number in range(500)] == names(read_history(path))


def test_the_library_tells_what_it_sees(vitals, caplog):
    """Breakers, checks, critical runs, clean-ups and the shutdown."""
    answers = iter([OSError("gone"), OSError("gone"), True])

    def check():
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer

    breaker = vitals.breaker("llm")
    breaker.force_open()
    breaker.reset()
    database = vitals.health_check("database", check, interval_seconds=60)
    for _ in range(3):
        database.run_once()
    with vitals.operation("talker", target_seconds=1e-9):
        pass
    cleanup = vitals.cleanup("old_rows", lambda: 1 / 0)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            cleanup.run_once()
    vitals.shutdown().run()

    assert [
        ("breaker", "llm", "warning"),
        ("breaker", "llm", "info"),
        ("health_check", "database", "critical"),
        ("health_check", "database", "info"),
        ("critical_operation", "talker", "critical"),
        ("cleanup", "old_rows", "warning"),
        ("shutdown", "application", "info"),
    ] == [(event["event"], event["name"], event["level"]) for event in vitals.history().recent()]
    assert "shutdown" == vitals.summary()["history"][-1]["event"]


def test_a_change_of_level_is_of_many_runs():
    """One slow run is none; the median of ten says when it is."""
    performance = Performance()

    def run(seconds):
        performance.add(seconds, failed=False)
        return performance.new_level("slow" if seconds > 1 else "good", lambda took: "slow" if took > 1 else "good")

    assert [None] * 12 == [run(0.5) for _ in range(12)]
    changes = [run(2.0) for _ in range(10)]

    assert [("good", "slow")] == [change for change in changes if change]
    assert 5 == changes.index(("good", "slow"))


def test_start_takes_the_file_from_its_variable(tmp_path, monkeypatch):
    """Nothing else is needed for a history that survives."""
    path = tmp_path / "history.jsonl"
    monkeypatch.setenv("LLMVITALS_HISTORY_FILE", str(path))

    with llmvitals.start(port=0, registry=CollectorRegistry()) as vitals:
        vitals.breaker("llm").force_open()

    assert ["llm"] == names(read_history(path))
