import functools
from pathlib import Path

from llmvitals import _work_families as families
from llmvitals._recording import Recorder


def show_sqlite_files(recorder: Recorder, name: str, path: str | Path) -> None:
    """Show the size of the database at *path*, and of its write-ahead log, whenever somebody scrapes: 2 µs each."""
    for file, suffix in (("database", ""), ("wal", "-wal")):
        recorder.read_at_scrape(families.SQLITE_BYTES, name, file, read=functools.partial(_size, f"{path}{suffix}"))


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except FileNotFoundError:  # Not made yet, or, of a log, removed by the last one to close the database.
        return 0
