import asyncio
import sqlite3
import time

import pytest

import llmvitals

aiosqlite = pytest.importorskip("aiosqlite")


def operations(vitals):
    return {
        (dict(labels)["db_operation_name"], dict(labels)["error_type"]): value
        for labels, value in vitals.samples("db_client_operation_duration_seconds_count").items()
    }


def run(function):
    async def main():
        async with aiosqlite.connect(":memory:") as connection:
            return await function(connection)

    return asyncio.run(main())


def test_statements_by_their_first_word(vitals):
    """All ways of executing, fetching, committing; no statement's text."""

    async def use(connection):
        await connection.execute("CREATE TABLE notes (text TEXT)")
        await connection.executemany("insert into notes values (?)", [("secret",), ("b",)])
        await connection.commit()
        await connection.execute_insert("/* hint */ -- why\n INSERT INTO notes VALUES ('c')")
        await connection.rollback()
        async with connection.execute("SELECT * FROM notes") as cursor:
            assert isinstance(cursor, aiosqlite.Cursor)
            rows = [row async for row in cursor]
        assert len(rows) == len(await connection.execute_fetchall("WITH n AS (SELECT * FROM notes) SELECT * FROM n"))
        await connection.executescript("SELECT 1; SELECT 2;")
        return rows

    assert [("secret",), ("b",)] == run(use)
    assert {
        ("CREATE", ""): 1,
        ("INSERT", ""): 2,
        ("COMMIT", ""): 1,
        ("ROLLBACK", ""): 1,
        ("SELECT", ""): 1,
        ("FETCH", ""): 2,
        ("WITH", ""): 1,
        ("SCRIPT", ""): 1,
    } == operations(vitals)
    assert "secret" not in str(vitals.samples("db_client_operation_duration_seconds_count"))
    assert 10 == vitals.value("db_client_operation_duration_seconds_count", db_system_name="sqlite")


def test_errors_come_out_as_they_are(vitals):
    """And count by their class; what is no SQL is another."""

    async def use(connection):
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            await connection.execute("SELECT * FROM nowhere")
        with pytest.raises(sqlite3.OperationalError):
            await connection.execute("users own words")

    run(use)
    assert {("SELECT", "OperationalError"): 1, ("_OTHER", "OperationalError"): 1} == operations(vitals)


def test_the_wait_for_the_connections_thread(vitals):
    """What comes while another statement runs waits for it, and the wait is told by itself."""

    async def use(connection):
        await connection.create_function("nap", 1, lambda seconds: time.sleep(seconds) or 0)
        await asyncio.gather(*(connection.execute(f"SELECT nap({seconds})") for seconds in (0.05, 0, 0)))

    run(use)
    assert vitals.value("llmvitals_db_queue_wait_seconds_count", db_system_name="sqlite") >= 3
    assert 0.08 < vitals.value("llmvitals_db_queue_wait_seconds_sum", db_system_name="sqlite") < 2


def test_a_cancelled_statement_is_cancelled(vitals):
    """The task ends as cancelled, and the statement counts."""

    async def use(connection):
        task = asyncio.create_task(connection.execute("SELECT 1"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(use)
    assert {("SELECT", "CancelledError"): 1} == operations(vitals)


def test_uninstrument_restores_exactly():
    """The very same function."""
    before = vars(aiosqlite.Connection)["_execute"]
    assert "aiosqlite" in llmvitals.instrument()
    assert before is not vars(aiosqlite.Connection)["_execute"]
    llmvitals.uninstrument()

    assert before is vars(aiosqlite.Connection)["_execute"]
