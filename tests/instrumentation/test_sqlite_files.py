import sqlite3


def test_the_sizes_of_a_database_and_its_log(vitals, tmp_path):
    """A database that is not there yet is empty; the log grows with writes and goes with a checkpoint."""
    path = tmp_path / "notes.db"
    vitals.sqlite_file("notes", path)

    def sizes():
        return tuple(
            vitals.value("llmvitals_sqlite_bytes", database="notes", file=file) for file in ("database", "wal")
        )

    assert (0, 0) == sizes()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE notes (text TEXT)")
    with connection:
        connection.executemany("INSERT INTO notes VALUES (?)", [("x" * 1000,)] * 100)
    before, grown = sizes()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    assert grown > 100_000
    assert (True, 0) == (sizes()[0] > before, sizes()[1])
    connection.close()
