import gc
import time
from typing import Any, Literal

from llmvitals._resident import resident_bytes

Trim = Literal["done", "nothing", "unsupported"]


def trim() -> Trim:
    """Give freed memory back to the system. glibc keeps it otherwise: freeing alone often lowers nothing."""
    import ctypes  # noqa: PLC0415 -- what only a command needs must not cost each start

    try:
        malloc_trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        # musl, macOS and Windows have no such function.
        return "unsupported"
    malloc_trim.argtypes = [ctypes.c_size_t]
    malloc_trim.restype = ctypes.c_int
    return "done" if malloc_trim(0) else "nothing"


def collect_garbage() -> dict[str, Any]:
    """Collect all generations, then trim. Stops other threads for the collection: some 60 ms per million containers."""
    before, started = resident_bytes(), time.monotonic()
    collected = gc.collect()
    trimmed = trim()
    return {
        "collected_objects": collected,
        "trim": trimmed,
        "resident_bytes_before": before,
        "resident_bytes_after": resident_bytes(),
        "seconds": round(time.monotonic() - started, 4),
    }
