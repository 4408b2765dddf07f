"""What is answered to a request, whoever serves it."""

import gzip
from http.client import HTTPConnection

import pytest
from prometheus_client import CollectorRegistry, Gauge

from llmvitals.exposition import Page, encode, encode_openmetrics, serve
from llmvitals.exposition._respond import GZIP_FROM_BYTES, Site


@pytest.fixture(name="registry")
def _registry():
    registry = CollectorRegistry()
    gauge = Gauge("answer", "The answer.", ["to"], registry=registry)
    for number in range(100):
        gauge.labels(f"question {number}").set(42)
    return registry


def coding(site, accepted):
    headers = {} if accepted is None else {"accept-encoding": accepted}
    return site.respond("GET", "/metrics", headers).headers.get("Content-Encoding")


@pytest.mark.parametrize(
    "accepted",
    [
        "gzip",
        "gzip, deflate, br",
        "GZIP;q=0.5",
        "x-gzip",
        "*",
        "identity;q=0.5, gzip",
        "gzip;q=0.5, identity;q=0.5",
        "br;q=1.0, gzip;q=0.001, *;q=0",
    ],
)
def test_who_takes_gzip_gets_it(registry, accepted):
    """By its name or by the wildcard, as long as it is not liked less than the plain body."""
    assert "gzip" == coding(Site(registry), accepted)


@pytest.mark.parametrize(
    "accepted",
    [
        None,
        "",
        "identity",
        "deflate, br",
        "gzip;q=0",
        "gzip; q=0.000",
        "gzip;q=0, *;q=1",
        "*;q=0",
        "gzip;q=0.5, identity",
        "gzip;q=nonsense",
        "gzip;q=nan",
        "gzip;q=-1",
        "gzip;q=2",
        "gzippy",
        ";;,=",
    ],
)
def test_who_does_not_take_gzip_gets_the_plain_body(registry, accepted):
    """A quality of 0 is a no, and so is what cannot be understood."""
    response = Site(registry).respond("GET", "/metrics", {} if accepted is None else {"accept-encoding": accepted})

    assert (None, encode(registry)) == (response.headers.get("Content-Encoding"), response.body)


@pytest.mark.parametrize(
    ("accept", "write"), [("", encode), ("application/openmetrics-text", encode_openmetrics)], ids=["text", "open"]
)
def test_the_zipped_body_is_the_plain_one(registry, accept, write):
    """Byte for byte, with the length of what is sent, and with a word for the caches between."""
    response = Site(registry).respond("GET", "/metrics", {"accept": accept, "accept-encoding": "gzip"})

    assert write(registry) == gzip.decompress(response.body)
    assert str(len(response.body)) == response.headers["Content-Length"]
    assert "Accept, Accept-Encoding" == response.headers["Vary"]
    assert len(response.body) < len(write(registry)) / 3


def test_a_small_body_is_left_alone():
    """Up to a packet's worth, zipping costs more than it saves."""
    site = Site(CollectorRegistry(), {"/small": "x" * (GZIP_FROM_BYTES - 1), "/large": "x" * GZIP_FROM_BYTES})

    codings = [
        site.respond("GET", path, {"accept-encoding": "gzip"}).headers.get("Content-Encoding")
        for path in ("/small", "/large")
    ]

    assert [None, "gzip"] == codings


@pytest.mark.parametrize("accepted", ["gzip", "identity"])
def test_head_has_the_headers_of_get(registry, accepted):
    """And no body."""
    site, headers = Site(registry), {"accept-encoding": accepted}

    head, get = (site.respond(method, "/metrics", headers) for method in ("HEAD", "GET"))

    assert (get.status, get.headers, b"") == (head.status, head.headers, head.body)


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        ("*/*", False),
        ("text/*, application/openmetrics-text", True),
        ("application/*", True),
        ("application/*;q=0.5, text/plain;q=0.4", True),
        ("application/openmetrics-text;q=0.5, */*;q=0.6", False),
        ("application/openmetrics-text;q=0, */*", False),
        ("text/plain;q=0, */*;q=0.1", True),
        ('application/openmetrics-text;version="1.0.0";q="0.9", text/plain;q=0.8', True),
        ("application/openmetrics-text;version=1.0.0;q=0.4, text/plain;version=1.0.0;q=0.5, text/plain;q=0.3", True),
        ("application/openmetrics-text;q=nan", False),
        ("image/png", False),
    ],
)
def test_the_most_specific_range_decides_the_format(accept, openmetrics):
    """Whatever the order; and who takes anything, or nothing that there is, gets plain text."""
    response = Site(CollectorRegistry()).respond("GET", "/metrics", {"accept": accept})

    assert openmetrics == response.headers["Content-Type"].startswith("application/openmetrics-text")


def test_a_page_that_raises_is_a_500_and_never_an_exception(caplog):
    """The host server goes on, and the log has the traceback."""

    def broken(headers):
        raise ZeroDivisionError("secret")

    response = Site(CollectorRegistry(), {"/broken": broken}).respond("GET", "/broken", {})

    assert ("500 Internal Server Error", b"ZeroDivisionError; the log says more.\n") == (response.status, response.body)
    assert "ZeroDivisionError: secret" in caplog.text


def test_a_page_is_asked_with_the_requests_headers():
    """What it says of status, kind and headers is sent."""
    page = Page("gone", kind="text/html", status="410 Gone", headers={"Cache-Control": "no-store"})
    asked = []
    site = Site(CollectorRegistry(), {"/page": lambda headers: asked.append(headers) or page})

    response = site.respond("GET", "/page", {"accept": "text/html"})

    assert [{"accept": "text/html"}] == asked
    assert ("410 Gone", b"gone") == (response.status, response.body)
    assert ("text/html", "no-store") == (response.headers["Content-Type"], response.headers["Cache-Control"])


def test_the_server_zips(registry):
    """Over a kept connection, mixed with plain answers."""
    with serve(registry, "127.0.0.1", 0) as server:
        client = HTTPConnection(server.host, server.port, timeout=5)
        bodies = []
        for accepted in ("gzip", "identity", "gzip"):
            client.request("GET", "/metrics", headers={"Accept-Encoding": accepted})
            answer = client.getresponse()
            body = answer.read()
            bodies.append(gzip.decompress(body) if answer.headers["Content-Encoding"] else body)
        client.close()

    assert [encode(registry)] * 3 == bodies
