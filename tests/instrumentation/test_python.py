import asyncio
import gc
import socket
import sys
import threading
import time
import types

import pytest

from llmvitals._gc_pauses import GCPauses
from llmvitals._paced import Paced
from llmvitals._python import Python


@pytest.fixture(name="python")
def _python(vitals):
    python = Python(vitals.recorder)
    python.start()
    yield python
    python.stop()


class StandInCuda:
    """The public surface of `torch.cuda` that is read, with what it tells; no torch and no device is needed for it."""

    def __init__(self):
        self.initialized = True
        self.asked = []
        self.ooms = 0

    def is_initialized(self):
        return self.initialized

    def device_count(self):
        return 2

    def memory_stats(self, device):
        self.asked.append(device)
        kinds = {"allocated": 1 + device, "reserved": 3 + device, "inactive_split": 0}
        return {
            f"{kind}_bytes.all.{what}": 2**30 * size for kind, size in kinds.items() for what in ("current", "peak")
        } | {
            "num_alloc_retries": 5,
            "num_ooms": self.ooms,
        }


@pytest.fixture(name="cuda")
def _cuda(monkeypatch):
    """An application that has imported torch."""
    torch = types.ModuleType("torch")
    torch.cuda = StandInCuda()
    monkeypatch.setitem(sys.modules, "torch", torch)
    return torch.cuda


def test_the_pause_of_each_collection(vitals, python):
    """Every collection counts once, by its generation, with its time."""
    vitals.value("llmvitals_python_gc_pause_seconds_count")
    gc.disable()
    try:
        before = vitals.value("llmvitals_python_gc_pause_seconds_count", generation="2")
        gc.collect()
        gc.collect(0)
        gc.collect()
        after = vitals.value("llmvitals_python_gc_pause_seconds_count", generation="2")
    finally:
        gc.enable()

    assert 2 == after - before
    assert 0 < vitals.value("llmvitals_python_gc_pause_seconds_sum", generation="2") < 30


def test_it_leaves_no_call_back(vitals):
    """Stopped, it is out of Python's own list; stopped again, nothing happens."""
    before = list(gc.callbacks)
    pauses = GCPauses(vitals.recorder)
    pauses.start()
    assert len(before) + 1 == len(gc.callbacks)
    pauses.stop()
    pauses.stop()

    assert before == gc.callbacks


def test_collections_while_metrics_are_recorded(vitals, python):
    """A collection in the middle of recording and of scraping waits for nobody, and is counted."""
    done = threading.Event()

    def record():
        while not done.is_set():
            vitals.recorder.child(catalogue.RETRIES, "llm", "timeout", "1").inc()
            gc.collect(0)

    from llmvitals import catalogue

    threads = [threading.Thread(target=record) for _ in range(4)]
    for thread in threads:
        thread.start()
    counts = [vitals.value("llmvitals_python_gc_pause_seconds_count", generation="0") for _ in range(30)]
    done.set()
    for thread in threads:
        thread.join(10)

    assert sorted(counts) == counts
    assert not any(thread.is_alive() for thread in threads)


def test_threads_and_heap(vitals, python):
    """A thread more is one more; what C code is given is in the heap."""
    before = vitals.value("llmvitals_python_threads")
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    thread.start()
    assert before + 1 == vitals.value("llmvitals_python_threads")
    release.set()
    thread.join()

    kinds = {dict(labels)["kind"]: size for labels, size in vitals.samples("llmvitals_native_heap_bytes").items()}
    assert {"used", "mmap"} <= set(kinds)
    kept = bytes(64 * 2**20)
    fresh = Python(vitals.recorder)
    fresh._show_heap()
    assert vitals.value("llmvitals_native_heap_bytes", kind="mmap") >= kinds["mmap"] + len(kept)


def test_connections_by_their_state(vitals, python):
    """One that listens shows, and one whose state nobody has any more is zero."""
    with socket.create_server(("127.0.0.1", 0)):
        python._show_connections()
        assert vitals.value("llmvitals_process_connections", state="listen") >= 1
        listening = vitals.value("llmvitals_process_connections", state="listen")
    python._show_connections()

    assert listening - 1 == vitals.value("llmvitals_process_connections", state="listen")


def test_torch_is_never_imported(vitals, python):
    """An application without it shows nothing of it."""
    assert vitals.value("llmvitals_torch_memory_bytes") is None
    assert "torch" not in sys.modules


def test_torch_without_a_device_is_left_alone(vitals, python, cuda):
    """An application that has imported torch, and uses no device, is not made to."""
    cuda.initialized = False

    assert vitals.value("llmvitals_torch_memory_bytes") is None
    assert [] == cuda.asked


def test_cuda_memory_of_torch(vitals, python, cuda):
    """Of each device what is allocated and reserved, the peaks, and how often it did not suffice."""
    assert 2 * 2**30 == vitals.value("llmvitals_torch_memory_bytes", device="1", kind="allocated")
    assert 4 * 2**30 == vitals.value("llmvitals_torch_memory_peak_bytes", device="1", kind="reserved")
    cuda.ooms = 3
    vitals.value("llmvitals_torch_ooms_total")
    cuda.ooms = 1

    assert 5 == vitals.value("llmvitals_torch_alloc_retries_total", device="0")
    assert 4 == vitals.value("llmvitals_torch_ooms_total", device="0")


def test_a_torch_that_raises_spoils_no_scrape(vitals, python, cuda):
    """A device that is lost is a fault of the look, and the rest is shown."""
    cuda.memory_stats = lambda device: {}["lost"]

    assert vitals.value("llmvitals_python_threads") >= 1
    assert vitals.value("llmvitals_instrumentation_errors_total", component="look") >= 1


def test_what_takes_long_is_done_seldom():
    """Fifteen seconds lie between two looks at least, and a thousand times the time that one took."""
    now = [0.0]
    looks = []

    def work():
        looks.append(now[0])
        now[0] += 0.05

    look = Paced(work, clock=lambda: now[0])
    for second in range(120):
        now[0] = float(second)
        look()

    assert [0.0, 51.0, 102.0] == looks
    quick = []
    look = Paced(lambda: quick.append(now[0]), clock=lambda: now[0])
    for second in range(40):
        now[0] = float(second)
        look()
    assert [0.0, 15.0, 30.0] == quick


def test_the_processor_time_of_a_loop(vitals):
    """A loop that computes uses processor time; one that waits, next to none."""

    async def work():
        watch = vitals.watch_loop()
        await asyncio.sleep(0.25)
        waited = vitals.value("llmvitals_asyncio_loop_cpu_seconds_total", loop="main")
        for _ in range(20):
            until = time.thread_time() + 0.01
            while time.thread_time() < until:
                pass
            await asyncio.sleep(0)
        await asyncio.sleep(0.15)
        watch.stop()
        return waited, vitals.value("llmvitals_asyncio_loop_cpu_seconds_total", loop="main")

    waited, worked = asyncio.run(work())

    assert waited < 0.1
    assert 0.15 < worked < 1
