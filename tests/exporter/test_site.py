"""What a request can ask of the exporter."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.exporter.test_isolation import declare

from llmvitals.exposition import Page
from llmvitals.exposition._respond import Site as Server
from llmvitals_exporter._declaration import Settings
from llmvitals_exporter._family import Family
from llmvitals_exporter._runner import Runner
from llmvitals_exporter._scrape import Scrape
from llmvitals_exporter._site import Site

NAMES = ("cpu", "disk", "nvidia")


def family(name):
    return Family(f"test_{name}_bytes", "gauge", "A reading.")


def declared(name, read=None):
    made = family(name)
    return declare(name, read or (lambda: [(made, (), 1.0)]), families=(made,), waits=True)


@pytest.fixture(name="site", scope="module")
def _site():
    runner = Runner([declared(name) for name in NAMES], Settings(), timeout=30)
    return Site(Scrape(runner), runner.collectors)


def ask(site, query="", headers=None):
    server = Server(site.registry, {"/": site.landing}, None, site.select)
    return server.respond("GET", "/metrics", headers or {}, query)


def read_by(response):
    """The collectors whose success the answer tells."""
    lines = response.body.decode().splitlines()
    return [line.split('"')[1] for line in lines if line.startswith("llmvitals_scrape_collector_success{")]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", NAMES),
        ("collect[]=cpu", ("cpu",)),
        ("collect[]=nvidia&collect[]=cpu", ("cpu", "nvidia")),
        ("collect%5B%5D=disk", ("disk",)),
        ("exclude[]=disk", ("cpu", "nvidia")),
        ("other=1", NAMES),
    ],
)
def test_some_collectors(site, query, names):
    """A request names the collectors that it wants, or those that it does not want."""
    assert list(names) == read_by(ask(site, query))


def test_whole_scrape_tells_of_the_exporter_itself(site):
    """Only a request for everything is told how the exporter itself is, as with node_exporter."""
    assert b"llmvitals_exporter_build_info{" in ask(site).body
    assert b"process_resident_memory_bytes " in ask(site).body
    assert b"llmvitals_exporter_build_info{" not in ask(site, "collect[]=cpu").body


def test_collectors_share_a_family():
    """A family of two collectors is told once, with the series of both; where both give one, the first counts."""
    shared = Family("test_shared_bytes", "gauge", "A reading.", ("card",))

    def collector(name, *readings):
        return declare(name, lambda: [(shared, (card,), value) for card, value in readings], families=(shared,))

    cards = collector("amd", ("a", 1.0), ("both", 2.0)), collector("nvidia", ("both", 9.0), ("n", 3.0))
    runner = Runner(cards, Settings(), timeout=30)
    site = Site(Scrape(runner), runner.collectors)
    lines = ask(site).body.decode().splitlines()
    told = [line for line in lines if "test_shared_bytes" in line]

    assert ["# HELP test_shared_bytes A reading.", "# TYPE test_shared_bytes gauge"] == told[:2]
    assert {"a": "1.0", "both": "2.0", "n": "3.0"} == {line.split('"')[1]: line.split()[-1] for line in told[2:]}
    assert 1 == len([line for line in ask(site, "collect[]=nvidia").body.decode().splitlines() if 'card="n"' in line])


@pytest.mark.parametrize(
    ("query", "part"),
    [
        ("collect[]=cpu&exclude[]=disk", "not both"),
        ("collect[]=gpu", "There is no collector 'gpu'; there are cpu, disk, nvidia."),
        ("exclude[]=", "There is no collector ''"),
        ("collect[]=%0d%0aSet-Cookie:x", r"There is no collector '\r\nSet-Cookie:x'"),
    ],
)
def test_refused(site, query, part):
    """What cannot be meant is refused with what can be, and what is wrong is not repeated as it came."""
    response = ask(site, query)

    assert "400 Bad Request" == response.status
    assert part in response.body.decode()


@given(st.text())
def test_any_query(query):
    """Whatever stands in a query, there is an answer."""
    runner = Runner([declared("cpu")], Settings())
    made = Site(Scrape(runner), runner.collectors).select(query, {})

    assert isinstance(made, Page) or hasattr(made, "collect")


def test_scrape_is_over_in_time():
    """The answer is there half a second before Prometheus' patience ends, whatever the collectors' own time is."""
    gate = threading.Event()
    runner = Runner([declared("cpu"), declared("disk", lambda: gate.wait() and [])], Settings(), timeout=30)
    started = time.monotonic()
    response = ask(Site(Scrape(runner), runner.collectors), headers={"x-prometheus-scrape-timeout-seconds": "1"})
    seconds = time.monotonic() - started
    gate.set()

    assert 0.4 < seconds < 1.0
    assert b'llmvitals_scrape_collector_success{collector="disk"} 0.0' in response.body
    assert b'llmvitals_scrape_collector_success{collector="cpu"} 1.0' in response.body


@pytest.mark.parametrize("header", ["", "soon", "-1", "0", "nan", "inf", "1e400", "0.001"])
def test_strange_patience(site, header):
    """A patience that is none changes nothing; one that is too short still gets an answer."""
    response = ask(site, headers={"x-prometheus-scrape-timeout-seconds": header})

    assert list(NAMES) == read_by(response)


def test_landing_page(site):
    """The address itself tells a person what this is and where the metrics are."""
    response = Server(site.registry, {"/": site.landing}).respond("GET", "/", {})

    assert ("200 OK", "text/html; charset=utf-8") == (response.status, response.headers["Content-Type"])
    assert b'<a href="/metrics?collect[]=nvidia">nvidia</a>' in response.body
