"""A million values thrown at the labels: memory and series stay bounded, sums stay exact, and the drop is told."""

import json
import logging
import subprocess
import sys

from prometheus_client import CollectorRegistry

from llmvitals import catalogue, testing
from llmvitals._recording import Recorder

# In a process of its own, whose memory is its own.
THROW = """
import json, logging, sys, time
from prometheus_client import CollectorRegistry
from llmvitals import catalogue
from llmvitals._recording import Recorder
from llmvitals._resident import resident_bytes

lines = []
handler = logging.Handler()
handler.emit = lambda record: lines.append(record.getMessage())
logging.getLogger("llmvitals").addHandler(handler)
families = [family for family in catalogue.FAMILIES if family.name in sys.argv[2:]]
recorder = Recorder(CollectorRegistry())
each = int(sys.argv[1]) // sum(len(family.labels) for family in families)
before, thrown = resident_bytes(), {}
for family in families:
    histogram = family.type == "histogram"
    thrown[family.name] = each * len(family.labels)
    for place in range(len(family.labels)):
        values = ["the same"] * len(family.labels)
        for number in range(each):
            values[place] = f"value {number} of many"
            child = recorder.child(family, *values)
            child.observe(2.0) if histogram else child.inc(2.0)
grown = resident_bytes() - before
summed, sets = dict.fromkeys(thrown, 0.0), dict.fromkeys(thrown, 0)
dropped = {}
for metric in recorder.registry.collect():
    for sample in metric.samples:
        name = sample.name.removesuffix("_sum")
        if sample.name == "llmvitals_label_values_dropped_total":
            dropped[sample.labels["metric"]] = sample.value
        elif name in thrown:
            summed[name] += sample.value
            sets[name] += 1
print(json.dumps({"grown": grown, "thrown": thrown, "summed": summed, "sets": sets, "dropped": dropped,
                  "lines": lines}))
"""

# Of each kind, with many labels and with one, open and closed ones, and the one that counts the drops.
FAMILIES = (
    catalogue.CALL_DURATION,
    catalogue.TOKEN_USAGE,
    catalogue.CALLS_IN_FLIGHT,
    catalogue.STREAM_ENDS,
    catalogue.ATTEMPTS,
    catalogue.OPERATION_DURATION,
    catalogue.BREAKER_FALLBACKS,
    catalogue.HTTP_CLIENT_DURATION,
)
# The cap, the folded sets, and the last resort.
MOST_SETS = 500 + 32 + 1


def test_a_million_values_cost_no_memory_and_no_sum():
    """Within 20 MB and the cap; every sum is what was thrown; each family's drops are counted and logged once."""
    names = [family.name for family in FAMILIES]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", THROW, "1000000", *names], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)

    assert found["grown"] <= 20 * 2**20
    assert {name: 2.0 * count for name, count in found["thrown"].items()} == found["summed"]
    assert max(found["sets"].values()) <= MOST_SETS
    assert set(names) == set(found["dropped"])
    assert sum(found["dropped"].values()) >= sum(found["thrown"].values()) - len(names) * MOST_SETS * 7
    assert sorted(names) == sorted(line.split()[1] for line in found["lines"])


def test_every_family_keeps_to_its_cap():
    """Whichever of its labels has too many values; the one that counts the drops, too."""
    recorder = Recorder(CollectorRegistry(), label_sets=20)
    families = [family for family in catalogue.FAMILIES if family.labels]
    thrown = {}
    for family in families:
        for place in range(len(family.labels)):
            values = ["the same"] * len(family.labels)
            for number in range(60):
                values[place] = f"value {number}"
                child = recorder.child(family, *values)
                child.observe(1) if family.type == "histogram" else child.inc()
        thrown[family.name] = 60 * len(family.labels)
    drops = catalogue.LABEL_VALUES_DROPPED.name
    summed = dict.fromkeys(thrown, 0.0)
    for metric in recorder.registry.collect():
        for sample in metric.samples:
            name = sample.name.removesuffix("_sum")
            if name in thrown:
                summed[name] += sample.value
    sets = {metric.family.name: len(metric.series()) for metric in recorder.own_metrics()}

    del thrown[drops], summed[drops]
    assert thrown == summed
    assert max(sets.values()) <= 20 + 32 + 1


def test_the_public_api_keeps_to_the_cap(caplog):
    """Names of users as names of operations: a mistake that costs its names, and nothing else."""
    with testing.fresh() as vitals, caplog.at_level(logging.WARNING):
        for number in range(3_000):
            with vitals.call(provider="local", model=f"model of user {number}") as call:
                call.usage(input_tokens=3, output_tokens=1)
            with vitals.operation(f"talk to user {number}"):
                pass

        assert 3_000 == vitals.value("gen_ai_client_operation_duration_seconds_count")
        assert 9_000 == vitals.value("gen_ai_client_token_usage_sum", gen_ai_token_type="input")
        assert 3_000 == vitals.value("llmvitals_operation_duration_seconds_count")
        assert 0 == vitals.value("llmvitals_calls_in_flight")
        assert len(vitals.samples("llmvitals_operation_duration_seconds_count")) <= MOST_SETS
        told = [line for line in caplog.messages if "llmvitals_operation_duration_seconds has 500 label sets" in line]
        assert 1 == len(told)
