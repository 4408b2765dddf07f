"""Pushing to the real Pushgateway."""

import os
import subprocess
import sys

import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import GaugeMetricFamily
from tests import servers

from llmvitals.exposition import PushError, push

pytestmark = pytest.mark.stack


def registry_of(**gauges):
    registry = CollectorRegistry()
    for name, value in gauges.items():
        Gauge(name, f"The {name}.", registry=registry).set(value)
    return registry


@pytest.fixture(name="gateway", scope="module")
def _gateway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pushgateway")
    port = servers.free_port()
    command = [
        servers.program("pushgateway", "prometheus-pushgateway"),
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with servers.server(command, port=port, log=folder / "pushgateway.log", ready="/-/ready") as started:
        yield started.url


def groups(gateway):
    """What the Pushgateway has: the gauges' values, by job and the rest of the group's labels."""
    answer = servers.request(f"{gateway}/api/v1/metrics").json()["data"]
    return {
        tuple(sorted(group["labels"].items())): {
            name: float(family["metrics"][0]["value"])
            for name, family in group.items()
            if isinstance(family, dict) and family.get("type") == "GAUGE" and not name.startswith("push_")
        }
        for group in answer
    }


def test_a_push_replaces_its_group_and_no_other(gateway):
    """With PUT what was there before is gone; with POST only families of the same names are."""
    push(registry_of(rows=1, left=7), gateway, job="replaced")
    push(registry_of(rows=5), gateway, job="replaced", grouping={"shard": "1"})
    push(registry_of(rows=2), gateway, job="replaced")
    put = groups(gateway)
    push(registry_of(left=8), gateway, job="replaced", replace=False)

    first, second = (("job", "replaced"),), (("job", "replaced"), ("shard", "1"))
    assert ({"rows": 2.0}, {"rows": 5.0}) == (put[first], put[second])
    assert {"rows": 2.0, "left": 8.0} == groups(gateway)[first]


@pytest.mark.parametrize(
    "value", ["a/b", "", ".", "..", "a b", "ä😀", "50%25", "?x=1#y", "=", "a//", "plain-1.0_~", "\n", "a@base64"]
)
def test_any_value_groups(gateway, value):
    """With slashes, empty, or not fit for a path: the Pushgateway reads it back as it was."""
    push(registry_of(rows=1), gateway, job="grouped", grouping={"first": value, "last": "x"})

    told = {labels for labels in groups(gateway) if dict(labels)["job"] == "grouped"}
    expected = {"job": "grouped", "first": value, "last": "x"}
    # It leaves an empty label out: to Prometheus that is the same.
    assert tuple(sorted(expected.items())) in {tuple(sorted({"first": "", **dict(labels)}.items())) for labels in told}


def test_a_job_with_a_slash_is_one(gateway):
    """Not two segments of a path."""
    push(registry_of(rows=1), gateway, job="nightly/rows")

    assert (("job", "nightly/rows"),) in groups(gateway)


def test_what_the_pushgateway_refuses_is_told_with_its_reason(gateway):
    """It takes no timestamps, and says so; trying again would not help."""
    family = GaugeMetricFamily("stamped", "With a time.", labels=[])
    family.add_metric([], 1, timestamp=1234.5)
    registry = CollectorRegistry()
    registry.register(type("Stamped", (), {"collect": lambda self: [family], "describe": lambda self: []})())

    with pytest.raises(PushError, match=r"did not take job 'stamped': it answered 400: .*timestamp"):
        push(registry, gateway, job="stamped")


def test_a_short_job_is_pushed_when_it_ends(gateway):
    """All of it, Python's own numbers too, by one variable; the import of requests is spared."""
    program = """
import sys
import llmvitals
vitals = llmvitals.start(service="nightly", port=0)
with vitals.call(provider="local", model="talker"):
    pass
assert "requests" not in sys.modules
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LLMVITALS_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=environment | {"LLMVITALS_PUSHGATEWAY_URL": gateway},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)
    text = servers.request(f"{gateway}/metrics").text
    assert 'llmvitals_build_info{instance="",job="nightly"' in text
    assert 'gen_ai_client_operation_duration_seconds_count{error_type="",' in text


def test_a_job_of_many_processes_pushes_what_all_of_them_did(gateway):
    """Once, when the first of them ends: a push of each would replace that of the others."""
    program = """
import multiprocessing
import llmvitals

vitals = llmvitals.start(service="many", port=0)

def work():
    with vitals.call(provider="local", model="talker"):
        pass

workers = [multiprocessing.get_context("fork").Process(target=work) for _ in range(3)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
work()
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LLMVITALS_")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment | {"LLMVITALS_PUSHGATEWAY_URL": gateway},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (0, "") == (done.returncode, done.stderr)
    counts = [line for line in servers.request(f"{gateway}/metrics").text.splitlines() if 'job="many"' in line]
    assert ["4"] == [line.rpartition(" ")[2] for line in counts if "operation_duration_seconds_count{" in line]
