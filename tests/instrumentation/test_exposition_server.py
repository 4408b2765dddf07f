import http.client
import os
import socket
import threading
import time
import urllib.request
from contextlib import ExitStack

import pytest
from prometheus_client import CollectorRegistry, Gauge

from llmvitals.exposition import Limits, ServeError, encode, serve

REQUEST = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


def until(condition, seconds=5.0):
    """Poll *condition* with a deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.005)


def read_all(client):
    received = b""
    while data := client.recv(65536):
        received += data
    return received


class Blocking:
    """A collector that waits for its release."""

    def __init__(self):
        self.entered = threading.Semaphore(0)
        self.release = threading.Event()

    def describe(self):
        return ()

    def collect(self):
        self.entered.release()
        self.release.wait(20)
        return ()


@pytest.fixture(name="registry")
def _registry():
    registry = CollectorRegistry()
    Gauge("answer", "The answer.", registry=registry).set(42)
    return registry


@pytest.fixture(name="start")
def _start(registry):
    with ExitStack() as stack:
        yield lambda **limits: stack.enter_context(serve(registry, "127.0.0.1", 0, limits=Limits(**limits)))


@pytest.fixture(name="connect")
def _connect():
    with ExitStack() as stack:
        yield lambda server: stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10))


def scrape(server, accept="*/*"):
    request = urllib.request.Request(server.url, headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=5) as response:
        return response.headers["Content-Type"], response.read()


def client_threads():
    return sum(thread.name == "llmvitals-metrics-client" for thread in threading.enumerate())


def test_it_serves_the_registry(start, registry):
    """What is scraped is what the encoder writes."""
    assert ("text/plain; version=0.0.4; charset=utf-8", encode(registry)) == scrape(start())


def test_idle_and_slow_clients_do_not_stop_a_scrape(start, connect):
    """With 50 clients that say nothing and one that says it byte by byte, a scrape takes less than a second."""
    server = start()
    for _ in range(50):
        connect(server)
    loris = connect(server)
    stop = threading.Event()

    def drip():
        for byte in REQUEST:
            if stop.wait(0.05):
                return
            loris.send(bytes([byte]))

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        started = time.monotonic()
        _, body = scrape(server)

        assert b"answer 42.0" in body
        assert time.monotonic() - started < 1
    finally:
        stop.set()
        dripping.join()


def test_threads_of_silent_clients_are_reclaimed(start, connect):
    """A connection that never asks costs a thread for the header's time, no longer."""
    server = start(header_seconds=0.2)
    silent = [connect(server) for _ in range(20)]
    until(lambda: client_threads() == 20)

    until(lambda: client_threads() == 0)

    assert [b""] * 20 == [read_all(client) for client in silent]


def test_a_head_has_a_deadline_as_a_whole(start, connect):
    """Sending it byte by byte does not prolong it: 408, and the connection is closed."""
    server = start(header_seconds=0.3)
    loris = connect(server)
    started = time.monotonic()

    answered = threading.Event()

    def drip():
        while not answered.wait(0.02):
            try:
                loris.send(b"x")
            except OSError:
                return

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        assert loris.recv(100).startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - started < 3
    finally:
        answered.set()
        dripping.join()


def test_a_connection_is_kept_for_the_next_scrape(start):
    """Prometheus scrapes over one connection; HEAD, errors and all."""
    server = start()
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    used = set()
    for method, path, status in (
        ("GET", "/metrics", 200),
        ("HEAD", "/metrics", 200),
        ("GET", "/", 404),
        ("POST", "/metrics", 405),
        ("GET", "/metrics?name=x", 200),
    ):
        client.request(method, path, headers={} if method != "POST" else {"Content-Length": "0"})
        response = client.getresponse()
        response.read()
        used.add(client.sock.getsockname())
        assert status == response.status
    client.close()

    assert 1 == len(used)


def test_pipelined_requests_are_answered_in_order(start, connect):
    """Two heads in one packet are two requests."""
    client = connect(start())
    client.sendall(REQUEST + b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")

    received = read_all(client)

    assert 1 == received.count(b"HTTP/1.1 200 OK")
    assert received.index(b"200 OK") < received.index(b"404 Not Found")


def test_at_the_cap_the_longest_idle_connection_makes_room(start, connect):
    """Connections that nobody uses cannot lock out the one that scrapes."""
    server = start(connections=3)
    idle = [connect(server) for _ in range(3)]
    until(lambda: client_threads() == 3)

    _, body = scrape(server)

    assert b"answer" in body
    assert b"" == idle[0].recv(1)


def test_address_of_the_sixth_version(registry):
    """The URL of an address with colons is one that a client can use."""
    try:
        server = serve(registry, "::1", 0)
    except ServeError:
        pytest.skip("this machine has no IPv6")
    with server:
        assert f"http://[::1]:{server.port}/metrics" == server.url
        with urllib.request.urlopen(server.url, timeout=5) as response:
            assert 200 == response.status


def test_503_when_all_connections_are_being_answered(start, connect, registry):
    """It pushes back instead of piling up threads, and recovers by itself."""
    blocking = Blocking()
    registry.register(blocking)
    server = start(connections=2)
    busy = [connect(server) for _ in range(2)]
    for client in busy:
        client.sendall(REQUEST)
        blocking.entered.acquire()

    refused = [connect(server) for _ in range(8)]
    for client in refused:
        assert client.recv(13).startswith(b"HTTP/1.1 503 ")
    # They have not asked yet, and are waited for; so many are enough.
    assert b"" == connect(server).recv(1)
    for client in refused:
        client.sendall(REQUEST)
        assert read_all(client).endswith(b"All 2 connections are busy answering.\n")
    blocking.release.set()
    assert all(client.recv(100).startswith(b"HTTP/1.1 200 ") for client in busy)
    assert b"answer" in scrape(server)[1]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\nno colon\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/2.0\r\n\r\n", b"505"),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 20_000, b"431"),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", b"400"),
    ],
    ids=["first line", "header line", "version", "too large", "tls"],
)
def test_a_bad_head_is_answered_and_hung_up_on(start, connect, head, status):
    """The client learns what is wrong; nothing is logged as an error of ours."""
    client = connect(start())
    client.sendall(head)

    assert read_all(client).startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", True),
        ("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;q=0.3,*/*;q=0.2", True),
        ("application/openmetrics-text;version=1.0.0;q=0.1,text/plain;version=0.0.4;q=0.9", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;version=0.0.1", False),
        ("text/plain", False),
        ("nonsense;;q=x,", False),
        ("", False),
    ],
    ids=["prometheus 2", "prometheus 3", "prefers text", "refuses", "old", "text", "nonsense", "none"],
)
def test_the_format_is_the_one_asked_for(start, accept, openmetrics):
    """Quality values are heeded."""
    kind, body = scrape(start(), accept)

    assert openmetrics == kind.startswith("application/openmetrics-text; version=1.0.0")
    assert openmetrics == body.endswith(b"# EOF\n")


def test_a_taken_port_is_told_with_its_holder(start):
    """The error names address, reason and the process in the way."""
    server = start()

    with pytest.raises(ServeError, match=rf"127.0.0.1:{server.port}: Address already in use.*pid {os.getpid()}\)"):
        serve(CollectorRegistry(), "127.0.0.1", server.port)


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70_000), ("no.such.host.invalid", 0)])
def test_an_impossible_address_is_a_clear_error(host, port):
    """Also one that no socket can have."""
    with pytest.raises(ServeError, match="cannot listen on"):
        serve(CollectorRegistry(), host, port)


def test_what_cannot_be_started_leaves_its_port_free(registry, monkeypatch):
    """Out of descriptors after the first one: no address stays taken that nobody answers on."""

    def no_more():
        raise OSError(24, "Too many open files")

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with monkeypatch.context() as patched:
        patched.setattr(socket, "socketpair", no_more)
        with pytest.raises(OSError, match="Too many open files"):
            serve(registry, "127.0.0.1", port)

    with serve(registry, "127.0.0.1", port) as server:
        assert port == server.port


def test_closing_frees_the_port_and_hangs_up(start, connect):
    """No thread stays, and the port can be taken at once."""
    server = start()
    idle = connect(server)
    until(lambda: client_threads() == 1)

    server.close()

    assert b"" == idle.recv(1)
    assert 0 == client_threads()
    serve(CollectorRegistry(), "127.0.0.1", server.port).close()


def test_a_forked_child_lets_go_of_the_port(start):
    """When the parent goes, a new one can listen although the child lives on."""
    server = start()
    born, wait = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.write(born[1], b"x")
        os.read(wait[0], 1)
        os._exit(0)
    try:
        os.read(born[0], 1)
        server.close()

        serve(CollectorRegistry(), "127.0.0.1", server.port).close()
    finally:
        os.write(wait[1], b"x")
        os.waitpid(child, 0)
        for end in (*born, *wait):
            os.close(end)


def test_many_scrapers_at_once_all_get_everything(start, registry):
    """Concurrent scrapes share what is kept between them."""
    gauge = Gauge("many", "Many.", ["n"], registry=registry)
    for number in range(300):
        gauge.labels(str(number)).set(number)
    server = start()
    bodies = []
    threads = [threading.Thread(target=lambda: bodies.append(scrape(server)[1])) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [encode(registry)] * 20 == bodies
