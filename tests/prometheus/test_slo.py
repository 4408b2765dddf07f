"""slo.yml is read whole, and each mistake in it is told; what it asks for is what the rules watch."""

import copy
import subprocess
import sys

import pytest
import yaml
from prometheus.builder import recording, slo
from prometheus.builder.__main__ import SLOS
from prometheus.builder.spec import BOUNDS, SpecError, load
from tests.prometheus.known_metrics import PROMETHEUS

from llmvitals.catalogue import FAMILIES

RECORDED = {rule["record"] for file in recording.files() for group in file.groups for rule in group.rules}
GOOD = {
    "period_days": 30,
    "slos": [
        {
            "name": "availability",
            "description": "Calls that do not fail.",
            "objective": 99.5,
            "sli": {"errors": "llm:job_errors:rate1m", "total": "llm:job_requests:rate1m", "match": {"src": "client"}},
            "services": "all",
            "minimum_events": 100,
            "alert": {"name": "Burn", "component": "llm", "trouble": "Calls fail.", "first_check": "the errors"},
        }
    ],
}


@pytest.fixture(name="read")
def _read(tmp_path):
    """Reads a specification from a file, after *change* was made to a good one."""

    def read(change=lambda content: None):
        content = copy.deepcopy(GOOD)
        change(content)
        path = tmp_path / "slo.yml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return load(path, recorded=RECORDED)

    return read


def rules_of(spec):
    return [rule for file in slo.files(spec) for group in file.groups for rule in group.rules]


def test_all_mistakes_are_told_at_once(read):
    """A person mends the file once, not ten times."""

    def spoil(content):
        content["perod_days"] = content.pop("period_days")
        first = content["slos"][0]
        first["objective"] = 100
        first["colour"] = "red"
        first["minimum_events"] = 0
        first["services"] = ["a", 'b"} or vector(1)']
        first["sli"] = {
            "buckets": "llm:job_requests:rate1m",
            "threshold_seconds": 2,
            "errors": "llm:nobody:rate1m",
            "match": {"src": "client", "le": "1"},
        }
        first["alert"] = {"name": "burn", "component": "moon", "trouble": "{{ $value }}", "page": "loud"}

    with pytest.raises(SpecError) as caught:
        read(spoil)

    where = "slo.yml: slos[0] (availability)"
    assert [
        "slo.yml: perod_days: is unknown; there are period_days, slos",
        "slo.yml: period_days: None must be a whole number from 7 to 90",
        f"slo.yml: slos[0].colour: is unknown; there are {', '.join(sorted([*GOOD['slos'][0], 'except']))}",
        f"{where}.objective: 100 must be a number between 0 and 100",
        f"{where}.services: must be `all`, or a list of jobs' names",
        f"{where}.sli.match.le: is unknown; there are model, operation, provider, src, voice",
        f"{where}.sli.errors: does not go with buckets",
        f"{where}.sli.buckets: llm:job_requests:rate1m has no buckets",
        f"{where}.sli.threshold_seconds: 2 is no bucket's bound; there are {', '.join(f'{b:g}' for b in BOUNDS)}",
        f"{where}.minimum_events: 0 must be a whole number from 1 to 1e+09",
        f"{where}.alert.name: 'burn' must be CamelCase",
        f"{where}.alert.component: 'moon' must be one of llm, app, gpu, exporter, stack",
        f"{where}.alert.page: 'loud' must be one of critical, warning, info",
        f"{where}.alert.trouble: must be a text on one line, without templates",
        f"{where}.alert.first_check: must be a text on one line, without templates",
    ] == caught.value.problems


@pytest.mark.parametrize("objective", [0, 100, -1, 100.1, "99", True, None, float("nan"), float("inf")])
def test_an_objective_is_between_none_and_all(read, objective):
    """At 100 % there is no budget to burn, at 0 % nothing to promise."""
    with pytest.raises(SpecError, match=r"objective: .* must be a number between 0 and 100"):
        read(lambda content: content["slos"][0].update(objective=objective))


def test_a_series_that_nobody_records_is_told(read):
    """It would give an objective that is silently without data."""
    with pytest.raises(SpecError, match="llm:errors:rate5m is recorded by no rule in rules/recording"):
        read(lambda content: content["slos"][0]["sli"].update(errors="llm:errors:rate5m"))


@pytest.mark.parametrize("match", [{}, {"src": ["client", "engine"]}, {"src": "all"}])
def test_an_objective_has_one_view_of_the_calls(read, match):
    """Client, gateway and engine tell of the same calls: together they would count each of them several times."""
    with pytest.raises(SpecError, match=r"sli\.match\.src: must be one of client, gateway, engine"):
        read(lambda content: content["slos"][0]["sli"].update(match=match))


@pytest.mark.parametrize("text", ["two\nlines", "a\u2028line", "a\0", "a\x85"])
def test_a_text_stays_on_its_line(read, text):
    """It goes into a comment and an annotation of the rules."""
    with pytest.raises(SpecError, match="must be a text on one line"):
        read(lambda content: content["slos"][0].update(description=text))


def test_two_objectives_do_not_share_a_name_or_an_alert(read):
    """Two rules with the same labels would resolve one another's alert."""
    with pytest.raises(SpecError) as caught:
        read(lambda content: content["slos"].append(copy.deepcopy(content["slos"][0])))

    assert [
        "slo.yml: slos: name 'availability' is there twice",
        "slo.yml: slos: alert.name 'Burn' is there twice",
    ] == caught.value.problems


HOSTILE = {
    "empty": b"",
    "not YAML": b"slos: [",
    "a list": b"- 1",
    "no objectives": b"period_days: 30\nslos: []",
    "not UTF-8": b"\xff\xfe",
    "a date that is none": b"period_days: 2026-13-45",
    "a number of 400 digits": b"period_days: 1" + b"0" * 400,
    "a number of 5000 digits": b"period_days: 1" + b"0" * 5000,
    "nested": b"slos: " + b"[" * 1200 + b"]" * 1200,
    "a key that is there twice": b"period_days: 30\nperiod_days: 7",
    "a billion laughs": b"a: &a [x, x]\n"
    + b"".join(b"%c: &%c [%s]\n" % (i + 1, i + 1, b", ".join([b"*%c" % i] * 9)) for i in range(97, 106))
    + b"period_days: *j\n",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_list_of_objectives_is_refused_in_words(tmp_path, text):
    """Never with a traceback, and never without end."""
    path = tmp_path / "slo.yml"
    path.write_bytes(text)

    with pytest.raises(SpecError, match=r"^slo\.yml: "):
        load(path, recorded=RECORDED)


def test_the_command_tells_the_mistakes_and_writes_nothing(tmp_path):
    """Exit status 1, a line each."""
    folder = tmp_path / "prometheus"
    (folder / "builder").mkdir(parents=True)
    for path in (PROMETHEUS / "builder").glob("*.py"):
        (folder / "builder" / path.name).write_bytes(path.read_bytes())
    (folder / "slo.yml").write_text("period_days: 30\nslos: []\n", encoding="utf-8")

    finished = subprocess.run(
        [sys.executable, "-m", "prometheus.builder"], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert (1, "", "slo.yml: slos: must be a list of at least one objective\n") == (
        finished.returncode,
        finished.stdout,
        finished.stderr,
    )
    assert not (folder / "rules").exists()


def test_bounds_that_an_objective_may_have_are_those_of_our_histograms():
    """And none is an integer, which Prometheus 2 and 3 write differently."""
    for name in ("gen_ai_client_operation_duration_seconds", "gen_ai_client_operation_time_to_first_chunk_seconds"):
        (ours,) = (family.buckets for family in FAMILIES if family.name == name)
        assert set(BOUNDS) <= set(ours)
    assert [] == [bound for bound in BOUNDS if bound == int(bound)]


def test_named_services_are_the_only_ones_and_excepted_ones_are_not(read):
    """A list watches these; `except` leaves out those, which may have an objective of their own."""
    listed = read(lambda content: content["slos"][0].update(services=["a", "b.c"]))
    others = read(lambda content: content["slos"][0].update({"except": ["a"]}))

    assert 'job=~"a|b[.]c"' in rules_of(listed)[0]["expr"]
    assert 'job!="a"' in rules_of(others)[0]["expr"]


def test_burn_rates_follow_the_period(read):
    """2 % of 30 days' budget in an hour is 14.4 times the even pace; of 28 days' it is 13.44 times."""
    month = [rule["expr"] for rule in rules_of(read()) if "alert" in rule]
    weeks = [rule["expr"] for rule in rules_of(read(lambda content: content.update(period_days=28))) if "alert" in rule]

    assert ["(14.4 * 0.005)", "(6 * 0.005)", "(3 * 0.005)", "(1 * 0.005)"] == _limits(month)
    assert ["(13.44 * 0.005)", "(5.6 * 0.005)", "(2.8 * 0.005)", "(0.9333 * 0.005)"] == _limits(weeks)


def _limits(expressions):
    found = [line.partition(" > ")[2].removesuffix(")") for text in expressions for line in text.splitlines()]
    return list(dict.fromkeys(limit for limit in found if limit))


def test_the_committed_objectives_are_sound():
    """What `make generate` reads."""
    assert ["availability", "latency", "time-to-first-chunk", "voice"] == [
        each.name for each in load(SLOS, recorded=RECORDED).slos
    ]
