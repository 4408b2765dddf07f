"""Which lines allocate memory that stays, for some seconds.

Three windows of equal length: a leak adds about as much in the last as in the first, while caches that fill and work in
flight slow down. `tracemalloc` makes allocations slower while it runs, so it is always stopped again.
"""

import threading
import time
import tracemalloc
from itertools import pairwise
from typing import Any

WINDOWS = 3
TOP_SITES = 15


def trace_memory(seconds: float, stop: threading.Event) -> dict[str, Any]:
    """Trace for *seconds*, or until *stop* is set. An application that traces already goes on tracing."""
    ours = not tracemalloc.is_tracing()
    if ours:
        tracemalloc.start(1)
    started = time.monotonic()
    try:
        snapshots = [_snapshot()]
        for _ in range(WINDOWS):
            stop.wait(seconds / WINDOWS)
            snapshots.append(_snapshot())
            if stop.is_set():
                break
        overhead = tracemalloc.get_tracemalloc_memory()
    finally:
        if ours:
            tracemalloc.stop()
    growth = [_growth(before, after) for before, after in pairwise(snapshots)]
    total = {site: sum(window.get(site, 0) for window in growth) for window in growth for site in window}
    top = sorted(total, key=lambda site: total[site], reverse=True)[:TOP_SITES]
    return {
        "seconds": round(time.monotonic() - started, 3),
        "windows": len(growth),
        "tracing_bytes": overhead,
        "sites": [
            {
                "file": site[0],
                "line": site[1],
                "grown_bytes": total[site],
                "grown_bytes_by_window": [window.get(site, 0) for window in growth],
            }
            for site in top
            if total[site] > 0
        ],
    }


def _snapshot() -> tracemalloc.Snapshot:
    return tracemalloc.take_snapshot().filter_traces(
        (
            tracemalloc.Filter(inclusive=False, filename_pattern=tracemalloc.__file__),
            tracemalloc.Filter(inclusive=False, filename_pattern=__file__),
        )
    )


def _growth(before: tracemalloc.Snapshot, after: tracemalloc.Snapshot) -> dict[tuple[str, int], int]:
    return {
        (difference.traceback[0].filename, difference.traceback[0].lineno): difference.size_diff
        for difference in after.compare_to(before, "lineno")
        if difference.size_diff
    }
