import json
import os
import socket
import subprocess
import sys
import urllib.request

import pytest
from prometheus_client import CollectorRegistry, Counter

import llmvitals
from llmvitals import testing
from llmvitals.exposition import serve

VARIABLES = (
    "LLMVITALS_SERVICE",
    "LLMVITALS_METRICS_HOST",
    "LLMVITALS_METRICS_PORT",
    "LLMVITALS_REMEDIATION_URL",
    "LLMVITALS_AGENT_TOKEN_FILE",
    "LLMVITALS_PROFILE",
)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(name="registry")
def _registry():
    return CollectorRegistry()


def scrape(vitals):
    with urllib.request.urlopen(f"http://127.0.0.1:{vitals.metrics_port}/metrics", timeout=5) as response:
        return response.read().decode()


def test_it_serves_the_process_and_the_applications_own_metrics(registry):
    """One call, and a scrape shows who we are, how the process is, and what the application counts itself."""
    Counter("orders", "The application's own.", registry=registry).inc(3)
    with llmvitals.start("companion", port=0, registry=registry) as vitals:
        text = scrape(vitals)

    assert "companion" == vitals.service
    for expected in (
        "orders_total 3.0\n",
        "llmvitals_build_info{version=",
        "process_resident_memory_bytes ",
        "python_gc_collections_total{",
        "python_info{",
        "llmvitals_memory_peak_bytes ",
    ):
        assert expected in text


def test_the_environment_sets_what_the_call_does_not(registry, monkeypatch):
    """Arguments first, then variables, then defaults."""
    monkeypatch.setenv("LLMVITALS_SERVICE", "from-environment")
    monkeypatch.setenv("LLMVITALS_METRICS_PORT", "0")

    with llmvitals.start(registry=registry) as vitals:
        assert "from-environment" == vitals.service
        assert vitals.metrics_port not in (None, 0, 9464)


def test_a_taken_port_is_told_and_survived(registry, caplog):
    """Who holds it and what to set; the application goes on, and counts."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with llmvitals.start(port=port, registry=registry) as vitals:
            assert vitals.metrics_port is None
            with vitals.call(provider="primary", model="talker"):
                pass
            assert 1 == registry.get_sample_value("llmvitals_instrumentation_errors_total", {"component": "exposition"})

    (message,) = [record.message for record in caplog.records if "exposition" in record.message]
    assert f"127.0.0.1:{port}" in message
    assert f"pid {os.getpid()}" in message
    assert "LLMVITALS_METRICS_PORT" in message


def test_a_port_that_is_no_number_is_told(monkeypatch, registry, caplog):
    """The default is used instead; whether it is free is another matter."""
    monkeypatch.setenv("LLMVITALS_METRICS_PORT", "metrics")
    monkeypatch.setattr("llmvitals._start.PORT", 0)

    with llmvitals.start(registry=registry) as vitals:
        assert vitals.metrics_port

    assert "LLMVITALS_METRICS_PORT='metrics' is not a number" in caplog.text


def test_starting_twice_gives_the_first(registry, caplog):
    """One registry cannot hold two; after close, it may start anew."""
    with llmvitals.start(port=0, registry=registry) as first:
        assert first is llmvitals.start(port=0, registry=registry)
    with llmvitals.start(port=0, registry=registry) as second:
        assert first is not second
        assert "process_resident_memory_bytes" in scrape(second)

    assert "start() was called again" in caplog.text


def test_closing_leaves_the_registry_as_it_was(registry):
    """And the port free."""
    vitals = llmvitals.start(port=0, registry=registry)
    port = vitals.metrics_port
    vitals.breaker("llm")
    vitals.close()
    vitals.close()

    assert [] == list(registry.collect())
    socket.create_server(("127.0.0.1", port)).close()


def test_a_remediation_url_without_a_token_is_told(registry, caplog):
    """The agent stays off; everything else works."""
    with llmvitals.start(port=0, registry=registry, remediation_url="http://127.0.0.1:9/"):
        pass

    assert "set LLMVITALS_AGENT_TOKEN_FILE" in caplog.text


@pytest.mark.parametrize(
    ("host", "place"),
    [("127.0.0.1", "127.0.0.1"), ("localhost", "localhost"), ("0.0.0.0", "replica-2"), ("::", "replica-2")],
)
def test_replicas_that_listen_everywhere_have_ids_of_their_own(registry, tmp_path, monkeypatch, host, place):
    """Bound to a wildcard, each container says the same address; its host name tells it from the others."""
    monkeypatch.setattr("platform.node", lambda: "replica-2")
    # A test opens no port to the world.
    monkeypatch.setattr(
        "llmvitals.exposition.serve", lambda registry, _, port, **more: serve(registry, "127.0.0.1", port, **more)
    )
    token = tmp_path / "token"
    token.write_text("secret")
    nobody = "http://127.0.0.1:1/"

    with llmvitals.start(
        "shop", host=host, port=0, registry=registry, remediation_url=nobody, agent_token_file=token
    ) as vitals:
        assert f"shop@{place}:{vitals.metrics_port}" == vitals._agent.hello()["agent_id"]


@pytest.mark.parametrize("url", ["nonsense", "ftp://host/", "http://"], ids=["text", "scheme", "no host"])
def test_an_impossible_remediation_url_is_told(registry, tmp_path, caplog, url):
    """start() does not raise for it."""
    token = tmp_path / "token"
    token.write_text("secret")

    with llmvitals.start(port=0, registry=registry, remediation_url=url, agent_token_file=token):
        pass

    assert "fault in agent" in caplog.text


def test_a_registry_that_raises_does_not_stop_the_application():
    """Nothing is recorded, and everything can be called."""

    class Broken(CollectorRegistry):
        def register(self, collector):
            raise RuntimeError("full")

    with llmvitals.start(port=0, registry=Broken()) as vitals:
        with vitals.call(provider="primary", model="talker"), vitals.operation("talker", target_seconds=2):
            pass
        assert 2 == vitals.breaker("llm").call(lambda: 2)


def test_every_idea_is_offered(vitals, tmp_path):
    """The whole face works on vitals for tests: no thread, no server."""
    values = {"model": "thinker"}
    with vitals.operation("talker", target_seconds=2.0), vitals.call(provider="primary", model="talker") as call:
        assert ["a"] == list(call.stream(iter(["a"])))
    vitals.breaker("llm").fallback_used()
    cache = vitals.cache("responses", {})
    cache["question"] = "answer"
    assert "answer" == cache["question"]
    assert "profile" == vitals.users(max_active=2).get_or_create("somebody", lambda: "profile")
    with vitals.pool("websocket", max_size=100):
        assert 1 == vitals.value("llmvitals_pool_connections", pool="websocket", state="used")
    vitals.health_check("llm_primary", lambda: True)
    vitals.tunable("model", get=lambda: values["model"], set=lambda value: None, choices=("talker", "thinker"))
    vitals.profile("speed", {"model": "talker"})

    @vitals.action(effect="idempotent")
    def warm_response_cache() -> dict[str, int]:
        return {"entries": 1}

    names = {action["name"] for action in vitals._agent.hello()["actions"]}
    assert {"warm_response_cache", "drop_caches", "evict_users", "reset_breaker", "switch_profile"} <= names
    assert 1 == vitals.value("llmvitals_operations_total", operation="talker", level="excellent")
    assert 1 == vitals.value("llmvitals_cache_requests_total", result="hit")
    assert 1 == vitals.value("llmvitals_user_profiles_active")
    assert vitals.metrics_port is None


def test_the_summary_says_how_the_application_is(vitals):
    """Ready for JSON; a failing check or an open breaker makes it unhealthy, by name."""
    vitals.users(max_active=2).get_or_create("somebody", dict)
    check = vitals.health_check("database", lambda: False)
    assert {"service": "test", "healthy": True, "failing": []}.items() <= vitals.summary().items()

    check.run_once()
    vitals.breaker("llm").force_open()

    summary = json.loads(json.dumps(vitals.summary()))
    assert not summary["healthy"]
    assert ["database", "llm"] == summary["failing"]
    assert {"llm": "open"} == summary["breakers"]
    assert 1 == summary["users"]["active"]
    assert "caches" not in summary


def test_importing_is_light():
    """No SDK, no HTTP client and nothing for the host is imported before it is used."""
    program = (
        "import sys, json, llmvitals, llmvitals.testing;"
        "heavy = {'openai', 'requests', 'httpx', 'psutil', 'tenacity', 'pydantic'};"
        "print(json.dumps(sorted(heavy & set(sys.modules))))"
    )

    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

    assert [] == json.loads(output)


def test_a_program_that_never_closes_ends_by_itself():
    """No thread of ours keeps the interpreter, and nothing is printed at its end."""
    program = (
        "import llmvitals\n"
        "vitals = llmvitals.start(port=0)\n"
        "held = vitals.call(provider='p', model='m').stream(c for c in 'abc')\n"
        "next(held)\n"
    )

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=30, check=False
    )

    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)


def test_the_public_names_are_the_documented_ones():
    """What `__all__` says exists, sorted, and nothing private is in it."""
    assert sorted(llmvitals.__all__) == list(llmvitals.__all__)
    assert all(hasattr(llmvitals, name) and not name.startswith("_") for name in llmvitals.__all__)
    assert llmvitals.__version__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = llmvitals.nothing


def test_fresh_vitals_know_nothing_of_each_other():
    """Each has a registry of its own."""
    with testing.fresh() as one, testing.fresh("other") as other:
        with one.call(provider="primary", model="talker"):
            pass

        assert 1 == one.value("gen_ai_client_operation_duration_seconds_count")
        assert other.value("gen_ai_client_operation_duration_seconds_count") is None
