import json
import urllib.error
import urllib.request

import pytest
from prometheus_client import CollectorRegistry

import llmvitals
from llmvitals._concerns import colour_of, concerns
from llmvitals._performance import Performance, Performances


def told(summary):
    return [(concern["colour"], concern["part"], concern["name"]) for concern in concerns(summary)]


def ask(vitals, path="/healthz", accept="*/*", method="GET"):
    url = f"http://127.0.0.1:{vitals.metrics_port}{path}"
    request = urllib.request.Request(url, headers={"accept": accept}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as answer:
        with answer:
            return answer.code, answer.headers, answer.read().decode()


@pytest.fixture(name="served")
def _served():
    with llmvitals.start("shop", port=0, registry=CollectorRegistry()) as vitals:
        yield vitals


def test_programs_get_json_and_browsers_a_page(served):
    """By what they accept, from the address of the metrics."""
    with served.operation("talker", target_seconds=2.0):
        served.cache("responses", {}).get("a")
    served.users()
    served.startup("models").ready()

    status, headers, text = ask(served)
    summary = json.loads(text)
    _, page_headers, page = ask(served, accept="text/html,application/xhtml+xml,*/*;q=0.8")

    assert (200, "application/json") == (status, headers["content-type"])
    assert ("shop", "green", []) == (summary["service"], summary["status"], summary["concerns"])
    assert {"runs": 1, "error_ratio": 0.0, "target_seconds": 2.0}.items() <= summary["operations"]["talker"].items()
    assert {"hits": 0, "misses": 1, "hit_ratio": 0.0}.items() <= summary["caches"]["responses"].items()
    assert {"operations", "users", "caches", "memory"} <= set(summary)
    assert "text/html; charset=utf-8" == page_headers["content-type"]
    assert "default-src 'none'" in page_headers["content-security-policy"]
    assert "shop is green" in page
    assert "talker" in page
    assert "models: state: waiting, seconds: -" in page
    assert "<script" not in page


def test_it_is_unavailable_only_while_a_check_fails(served):
    """An open breaker is a concern, and no reason to take the application out of service."""
    served.breaker("llm").force_open()
    assert (200, "yellow") == (ask(served)[0], served.summary()["status"])

    check = served.health_check("database", lambda: False, interval_seconds=60)
    check.run_once()

    assert (503, "red") == (ask(served)[0], served.summary()["status"])
    assert ["database", "llm"] == [concern["name"] for concern in served.summary()["concerns"]]
    assert (503, "") == ask(served, method="HEAD")[::2]
    assert (200, "llmvitals is alive\n") == ask(served, "/-/healthy")[::2]


def test_what_the_application_says_is_text_on_the_page(served):
    """No name and no error becomes markup."""
    evil = "<script>alert(1)</script>"

    def check():
        raise OSError(evil)

    served.health_check(evil, check, interval_seconds=60).run_once()
    served.history().record(evil, evil)

    assert evil not in ask(served, accept="text/html")[2]
    assert "&lt;script&gt;" in ask(served, accept="text/html")[2]


def test_a_part_that_raises_is_a_fault_of_the_page_alone(served):
    """The metrics go on, and the fault is counted."""

    class Broken(dict):
        def __len__(self):
            raise OSError("gone")

    served.cache("broken", Broken())

    assert (500, "no summary: OSError\n") == ask(served)[::2]
    assert 'llmvitals_instrumentation_errors_total{component="health_page"} 1.0' in ask(served, "/metrics")[2]


@pytest.mark.parametrize(
    ("part", "concern"),
    [
        ({"checks": {"db": {"healthy": False, "error": None}}}, ("red", "checks", "db")),
        ({"checks": {"db": {"healthy": None, "error": None}}}, None),
        ({"breakers": {"llm": "half_open"}}, ("yellow", "breakers", "llm")),
        ({"users": {"active": 11, "limit": 10}}, ("yellow", "users", "profiles")),
        ({"users": {"active": 10, "limit": 10}}, None),
        ({"memory": {"baseline_ratio": 1.51}}, ("yellow", "memory", "resident")),
        ({"memory": {"baseline_ratio": None}}, None),
        ({"pools": {"ws": {"used": 81, "max_size": 100}}}, ("yellow", "pools", "ws")),
        ({"pools": {"ws": {"used": 80, "max_size": 100}}}, None),
        ({"caches": {"c": {"hits": 69, "misses": 31, "hit_ratio": 0.69}}}, ("yellow", "caches", "c")),
        ({"caches": {"c": {"hits": 1, "misses": 9, "hit_ratio": 0.1}}}, None),
        (
            {"operations": {"talker": {"runs": 5, "p95_seconds": 2.1, "target_seconds": 2.0}}},
            ("yellow", "operations", "talker"),
        ),
        ({"operations": {"talker": {"runs": 4, "p95_seconds": 2.1, "target_seconds": 2.0}}}, None),
        ({"limits": {"l": {"headroom_ratio": 0.09}}}, ("yellow", "limits", "l")),
        ({"limits": {"l": {"headroom_ratio": None}}}, None),
        (
            {"voices": {"v": {"recent": 5, "success_ratio": 0.98, "target_ratio": 0.99}}},
            ("yellow", "voices", "v"),
        ),
        ({"voices": {"v": {"recent": 4, "success_ratio": 0.5, "target_ratio": 0.99}}}, None),
        ({"startup": {"total_seconds": None, "progress_ratio": 0.5}}, ("yellow", "startup", "phases")),
        ({"startup": {"total_seconds": 1.0, "progress_ratio": 1.0}}, None),
        (
            {"semantic_memories": {"j": {"searches": 5, "search_p95_seconds": 2.1, "search_target_seconds": 2.0}}},
            ("yellow", "semantic_memories", "j"),
        ),
        (
            {"semantic_memories": {"j": {"searches": 0, "search_p95_seconds": None, "search_target_seconds": 2.0}}},
            None,
        ),
        ({"modules": {"m": {"overdue": 1}}}, ("yellow", "modules", "m")),
        ({"cleanups": {"c": {"error": "OSError: gone"}}}, ("yellow", "cleanups", "c")),
    ],
)
def test_what_is_a_concern(part, concern):
    """Just above each limit, and not at it."""
    assert ([] if concern is None else [concern]) == told(part)


def test_the_worst_colour_counts_and_comes_first():
    """Red before yellow."""
    found = concerns({"breakers": {"llm": "open"}, "checks": {"db": {"healthy": False, "error": "x"}}})

    assert ["red", "yellow"] == [concern["colour"] for concern in found]
    assert ("red", "yellow", "green") == (colour_of(found), colour_of(found[1:]), colour_of([]))


def test_performance_is_that_of_the_last_minutes():
    """Old runs say nothing about now; the percentile is one of the runs."""
    now = [0.0]
    performance = Performance(clock=lambda: now[0])
    assert performance.summary()["p95_seconds"] is None
    performance.add(99.0, failed=True)
    now[0] = 301.0
    for seconds in range(1, 101):
        performance.add(float(seconds), failed=seconds > 90)

    assert {"runs": 100, "mean_seconds": 50.5, "p95_seconds": 96.0, "error_ratio": 0.1}.items() <= (
        performance.summary().items()
    )


def test_no_more_names_are_kept_than_can_be_looked_at():
    """An application that makes names up costs no memory."""
    performances = Performances()
    for number in range(1000):
        performances.of(f"operation {number}", None).add(1.0, failed=False)

    assert 200 == len(performances.summary())
