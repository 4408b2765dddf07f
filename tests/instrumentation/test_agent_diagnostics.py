import threading
import time
import tracemalloc

import pytest

from llmvitals.agent._memory_trace import trace_memory
from llmvitals.agent._profiler import profile_cpu
from llmvitals.agent._stacks import dump_stacks


@pytest.fixture(name="running")
def _running():
    stop = threading.Event()
    threads = []

    def start(target, name):
        thread = threading.Thread(target=target, args=(stop,), name=name)
        threads.append(thread)
        thread.start()

    yield start
    stop.set()
    for thread in threads:
        thread.join()


def busy_loop(stop):
    while not stop.is_set():
        sum(range(1000))


def waiting_loop(stop):
    stop.wait(60)


KEPT = []


def leaking_loop(stop):
    while not stop.wait(0.01):
        KEPT.append(bytearray(10_000))


def test_stacks_show_what_each_thread_does(running):
    """Names, files and functions of all threads."""
    running(waiting_loop, "waiter")

    told = dump_stacks()

    [waiter] = [stack for stack in told["stacks"] if stack["thread"] == "waiter"]
    assert "waiting_loop" in waiter["stack"]
    assert told["threads"] >= 2


def test_the_profile_tells_work_from_waiting(running):
    """The busy thread's function leads; one that waits costs nothing, where the kernel can tell."""
    running(busy_loop, "busy")
    running(waiting_loop, "waiter")

    told = profile_cpu(0.5, threading.Event())

    assert "busy_loop" == told["functions"][0]["function"]
    assert told["samples"] >= 3
    assert any("busy_loop" in stack["stack"] for stack in told["stacks"])
    if told["clock"] == "cpu":
        assert 0 < sum(stack["seconds"] for stack in told["stacks"]) < 2
        waited = [entry for entry in told["functions"] if entry["function"] == "waiting_loop"]
        assert not waited or waited[0]["total_seconds"] < 0.05


def test_the_line_that_keeps_memory_is_found(running):
    """It grows in each window, and tracing has stopped afterwards."""
    running(leaking_loop, "leak")

    told = trace_memory(0.6, threading.Event())
    KEPT.clear()

    top = told["sites"][0]
    assert __file__ == top["file"]
    assert 3 == len(top["grown_bytes_by_window"])
    assert all(grown > 0 for grown in top["grown_bytes_by_window"])
    assert not tracemalloc.is_tracing()


def test_an_application_that_traces_goes_on_tracing():
    """What it started is not ours to stop."""
    tracemalloc.start(1)
    try:
        trace_memory(0.1, threading.Event())

        assert tracemalloc.is_tracing()
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("diagnose", [profile_cpu, trace_memory])
def test_closing_ends_a_diagnosis_at_once(diagnose):
    """A minute of looking must not become a minute of shutdown."""
    stop = threading.Event()
    stop.set()
    started = time.monotonic()

    diagnose(60, stop)

    assert time.monotonic() - started < 5
    assert not tracemalloc.is_tracing()
