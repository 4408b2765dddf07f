import re
import subprocess

import pytest
from prometheus_client import CollectorRegistry
from tests.servers import program

from llmvitals import catalogue
from llmvitals._recording import Recorder
from llmvitals.exposition import encode

OTEL_DURATION = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)


@pytest.fixture(name="family", params=catalogue.FAMILIES, ids=lambda family: family.name)
def _family(request):
    return request.param


def test_names_are_unique():
    """No two families share a name."""
    names = [family.name for family in catalogue.FAMILIES]

    assert sorted(set(names)) == sorted(names)


def test_a_family_is_well_formed(family):
    """Names, suffixes, labels and buckets follow Prometheus' conventions, and nothing identifies a person."""
    assert re.fullmatch(r"[a-z][a-z0-9_]*", family.name)
    assert (family.type == "counter") == family.name.endswith("_total")
    assert (family.type == "histogram") == bool(family.buckets)
    assert sorted(family.buckets) == list(family.buckets)
    assert not {"le", "user", "user_id", "session_id", "request_id", "prompt"} & set(family.labels)
    assert family.help


def test_opentelemetrys_families_have_its_bounds():
    """Rules written for other people's instrumentations fit ours."""
    assert (*OTEL_DURATION, 163.84, 327.68, 655.36) == catalogue.CALL_DURATION.buckets
    assert (*OTEL_DURATION, 163.84, 327.68, 655.36) == catalogue.TIME_TO_FIRST_CHUNK.buckets
    assert (0.001, 0.0025, 0.005, *OTEL_DURATION) == catalogue.TIME_PER_OUTPUT_CHUNK.buckets
    assert tuple(4.0**n for n in range(14)) == catalogue.TOKEN_USAGE.buckets


def test_a_family_is_exposed_under_its_name_and_type(family):
    """What the catalogue says is what a scrape shows, and no ``le`` is written as an integer."""
    recorder = Recorder(CollectorRegistry())
    recorder.child(family, *("x" for _ in family.labels))

    text = encode(recorder.registry).decode()

    assert f"# TYPE {family.name} {family.type}\n" in text
    assert not re.search(r'le="\d+"', text)


@pytest.mark.stack
def test_promtool_has_nothing_to_say():
    """Names, types and help pass Prometheus' own check."""
    recorder = Recorder(CollectorRegistry())
    for family in catalogue.FAMILIES:
        recorder.child(family, *("x" for _ in family.labels))

    checked = subprocess.run(
        [program("promtool"), "check", "metrics"], input=encode(recorder.registry), capture_output=True, check=False
    )

    assert (0, b"", b"") == (checked.returncode, checked.stdout, checked.stderr)
