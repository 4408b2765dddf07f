"""Python itself, and the process that it runs in: what the metrics of prometheus_client leave out."""

import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping

from llmvitals import _python_families as families
from llmvitals._gc_pauses import GCPauses
from llmvitals._paced import Paced
from llmvitals._recording import Recorder


class Python:
    """Shown when somebody scrapes, with no thread. What may take long is looked at every 15 s at most.

    What that costs depends on the process: connections take 0.1 ms and more, and the C allocator, asked for its heap,
    goes through all the blocks that it keeps, which takes 1 µs, or 8 ms for 250,000 of them.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._pauses = GCPauses(recorder)
        self._states: set[str] = set()
        self._counted: dict[tuple[str, str], int] = {}
        self._heap: Callable[[], dict[str, int]] | None = None

    def start(self) -> None:
        recorder = self._recorder
        self._pauses.start()
        recorder.read_at_scrape(families.PYTHON_THREADS, read=threading.active_count)
        recorder.look_at_scrape(Paced(self._show_heap))
        recorder.look_at_scrape(Paced(self._show_connections))
        recorder.look_at_scrape(self._show_torch)

    def stop(self) -> None:
        self._pauses.stop()

    def _show_heap(self) -> None:
        if self._heap is None:
            self._heap = _heap_reader()
        for kind, size in self._heap().items():
            self._recorder.child(families.NATIVE_HEAP, kind).set(size)

    def _show_connections(self) -> None:
        import psutil  # noqa: PLC0415 -- 10 ms that a start need not take

        try:
            connections = psutil.Process().net_connections(kind="inet")
        except psutil.AccessDenied:  # macOS, without rights.
            return
        counted = Counter(connection.status.lower() for connection in connections)
        self._states |= set(counted)
        for state in self._states:
            self._recorder.child(families.CONNECTIONS, state).set(counted[state])

    def _show_torch(self) -> None:
        # Never imported here, nor made to take a device: that alone costs seconds and hundreds of megabytes.
        torch = sys.modules.get("torch")
        cuda = getattr(torch, "cuda", None)
        if cuda is None or not hasattr(cuda, "is_initialized") or not cuda.is_initialized():
            return  # Or it is just being imported.
        for device in range(cuda.device_count()):
            self._show_device(str(device), cuda.memory_stats(device))

    def _show_device(self, device: str, stats: Mapping[str, int]) -> None:
        child = self._recorder.child
        for kind in ("allocated", "reserved", "inactive_split"):
            if f"{kind}_bytes.all.current" in stats:
                child(families.TORCH_MEMORY, device, kind).set(stats[f"{kind}_bytes.all.current"])
                child(families.TORCH_MEMORY_PEAK, device, kind).set(stats[f"{kind}_bytes.all.peak"])
        for family, name in ((families.TORCH_RETRIES, "num_alloc_retries"), (families.TORCH_OOMS, "num_ooms")):
            if name in stats:
                before = self._counted.get((device, name), 0)
                self._counted[device, name] = stats[name]
                # Less than before: somebody has set torch's own counts back.
                child(family, device).inc(stats[name] - before if stats[name] >= before else stats[name])


def _heap_reader() -> Callable[[], dict[str, int]]:
    """How to ask the C allocator: glibc tells most, psutil what others tell, and some tell nothing."""
    import ctypes  # noqa: PLC0415 -- 4 ms that a start need not take

    class Mallinfo2(ctypes.Structure):
        _fields_ = tuple(
            (name, ctypes.c_size_t)
            for name in (
                "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks",
                "keepcost",
            )
        )  # fmt: skip

    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows, an older glibc.
        import psutil  # noqa: PLC0415 -- like ctypes

        heap_info = getattr(psutil, "heap_info", None)
        if heap_info is None:
            return dict

        def from_psutil() -> dict[str, int]:
            told = heap_info()
            return {"used": told.heap_used, "mmap": told.mmap_used}

        return from_psutil
    mallinfo2.restype = Mallinfo2

    def from_glibc() -> dict[str, int]:
        told = mallinfo2()
        return {"used": told.uordblks, "free": told.fordblks, "mmap": told.hblkhd}

    return from_glibc
