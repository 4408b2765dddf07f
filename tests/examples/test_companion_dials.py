"""The companion made worse on purpose: what each dial does is real, and shows."""

import contextlib
import os
import sqlite3

import psutil
from tests.examples.companions import companion
from tests.servers import eventually


def test_a_database_that_was_overwritten_is_told(faulty, tmp_path):
    """The health check looks at the file, not at what the open connection remembers of it."""
    path = tmp_path / "data" / "companion.db"
    with companion(faulty, tmp_path / "data") as running:

        def status():
            return running.value("llmvitals_health_check_status", check="database")

        assert 200 == running.say("hello").status
        eventually(lambda: 1 == status(), what="a database that is well")
        with contextlib.closing(sqlite3.connect(path, timeout=60)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        path.write_bytes(os.urandom(path.stat().st_size))

        eventually(lambda: 0 == status(), what="a database that is told to be none")


def test_what_piles_up_can_be_seen(faulty, tmp_path):
    """Documents, threads that wait for ever, and connections that nobody closes are what they are said to be."""
    with companion(faulty, tmp_path / "data") as running:
        threads = running.value("llmvitals_python_threads")
        for what, count in {"documents": 300, "threads": 30, "connections": 25}.items():
            assert 200 == running.demo(what, count=count).status

        assert 300 == running.value("llmvitals_semantic_memory_documents")
        assert running.value("llmvitals_python_threads") >= threads + 30
        process = psutil.Process(running.server.process.pid)

        def unclosed():
            return sum(one.status == psutil.CONN_CLOSE_WAIT for one in process.net_connections("tcp"))

        eventually(lambda: unclosed() >= 25, what="25 unclosed connections")


def test_mistakes_of_the_application_are_told(faulty, tmp_path):
    """An operation for each request, a gauge whose callback fails, and answers that do not tell their usage."""
    faulty.turn(usage_missing_ratio=1)
    with companion(faulty, tmp_path / "data", "--requests-per-second=1000", "--requests-burst=1000") as running:
        running.demo("dials", numbered_operations=1, size_error_ratio=1)
        for _ in range(3):
            assert 200 == running.say("hello").status

        assert 1 == running.value("llmvitals_operation_duration_seconds_count", operation="talker_3")
        assert running.value("llmvitals_usage_missing_total") >= 1
        eventually(
            lambda: (
                running.value("llmvitals_instrumentation_errors_total", component="llmvitals_semantic_memory_documents")
                >= 1
            ),
            what="a fault that is counted",
        )


def test_the_next_start_is_late_once(faulty, tmp_path):
    """A start that was told to be late says so in its phase, and the one after it is as ever."""
    with companion(faulty, tmp_path / "data") as before:
        assert 200 == before.demo("next-start", seconds=1.5).status
    with companion(faulty, tmp_path / "data") as late:
        assert late.value("llmvitals_startup_phase_duration_seconds", phase="models") >= 1.5

    assert not (tmp_path / "data" / "next-start-seconds").exists()
