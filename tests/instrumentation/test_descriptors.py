import json
import subprocess
import sys
import textwrap

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, ProcessCollector

import llmvitals
from llmvitals._descriptors import Process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="without /proc nobody tells of descriptors")

OUT_OF_THEM = textwrap.dedent("""
    import http.client, json, os, resource
    import llmvitals

    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    vitals = llmvitals.start(port=0)
    connection = http.client.HTTPConnection("127.0.0.1", vitals.metrics_port)

    def told():
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
        return {name: float(line.split()[1]) for name in ("process_open_fds", "process_max_fds")
                for line in lines if line.startswith(name + " ")}

    before, taken = told(), []
    try:
        while True:
            taken.append(os.dup(0))
    except OSError:
        spent = told()
    for descriptor in taken:
        os.close(descriptor)
    print(json.dumps([before, spent, told()]))
""")


def test_a_process_without_a_descriptor_left_tells_that_all_are_used():
    """Counting takes one, so that the count is missing just then; but what is missing can only be all of them."""
    finished = subprocess.run([sys.executable, "-c", OUT_OF_THEM], capture_output=True, text=True, check=True)

    before, spent, after = json.loads(finished.stdout)
    assert {"process_open_fds": 64.0, "process_max_fds": 64.0} == spent
    assert 64 == before["process_max_fds"]
    assert before["process_open_fds"] < 40
    assert after["process_open_fds"] < 40


def test_prometheus_clients_own_collector_comes_back():
    """It is what other registries of the application expect to be there after we are gone."""
    registry = prometheus_client.REGISTRY
    vitals = llmvitals.start(registry=registry, port=0)
    ours = [each for each in registry._collector_to_names if isinstance(each, ProcessCollector)]
    vitals.close()
    theirs = [each for each in registry._collector_to_names if isinstance(each, ProcessCollector)]

    assert [Process] == [type(each) for each in ours]
    assert [prometheus_client.PROCESS_COLLECTOR] == theirs


def test_an_applications_own_collector_stays():
    """There is one of each metric, and its is the first."""
    registry = CollectorRegistry(auto_describe=True)
    theirs = ProcessCollector(registry=registry)
    with llmvitals.start(registry=registry, port=0) as vitals:
        found = [each for each in registry._collector_to_names if isinstance(each, ProcessCollector)]
        faults = vitals.recorder._told

    assert [theirs] == found
    assert set() == faults
