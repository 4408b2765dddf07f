"""The exporter behind TLS, client certificates and passwords, as curl and Prometheus meet it."""

import base64
import http.client
import logging
import socket
import ssl
import threading
import time
from collections import Counter
from contextlib import contextmanager

import bcrypt
import pytest
import trustme
from prometheus_client import CollectorRegistry, Gauge
from tests.exporter.reading import until

from llmvitals.exposition import Limits, serve
from llmvitals.exposition._respond import Site
from llmvitals.exposition._server import Server
from llmvitals_exporter._security import Passwords, Tls
from llmvitals_exporter._web_config import TlsConfig, WebConfigError


@pytest.fixture(name="authority", scope="module")
def _authority():
    return trustme.CA()


@pytest.fixture(name="files")
def _files(tmp_path, authority):
    """A certificate of the server's, and the authority's own."""
    issue(authority, tmp_path)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    return tmp_path


def issue(authority, folder):
    made = authority.issue_cert("127.0.0.1")
    made.private_key_pem.write_to_path(str(folder / "server.key"))
    (folder / "server.crt").write_bytes(made.cert_chain_pems[0].bytes())
    return ssl.PEM_cert_to_DER_cert(made.cert_chain_pems[0].bytes().decode())


def config(files, **more):
    return TlsConfig(files / "server.crt", files / "server.key", **more)


@contextmanager
def served(tls=None, guard=None, limits=None):
    registry = CollectorRegistry()
    Gauge("test_up", "Up.", registry=registry).set(1)
    site = Site(registry, guard=guard, headers={"X-Frame-Options": "deny"})
    with Server(site, "127.0.0.1", 0, limits=limits or Limits(), security=tls) as server:
        yield server


def client(authority, identity=None):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if identity is not None:
        identity.configure_cert(context)
    return context


def get(server, context, headers=None):
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=5, context=context)
    try:
        connection.request("GET", "/metrics", headers=headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def said_to(server, words):
    """What the server answers to words that are not TLS; nothing when it hangs up."""
    with socket.create_connection(("127.0.0.1", server.port), 5) as plain:
        plain.sendall(words)
        try:
            return plain.recv(4096)
        except ConnectionResetError:
            return b""


def test_tls(files, authority):
    """A scrape through TLS is the same scrape, headers of the configuration included; plain HTTP gets nothing."""
    with served(Tls(config(files))) as server:
        status, body = get(server, client(authority))

        assert (200, b"test_up 1.0\n") == (status, body[-12:])
        assert server.url.startswith("https://127.0.0.1:")

        assert b"test_up" not in said_to(server, b"GET /metrics HTTP/1.1\r\n\r\n")


def test_old_tls_is_refused(files, authority):
    """The lowest version of the configuration holds."""
    with served(Tls(config(files, min_version="TLS13"))) as server:
        old = client(authority)
        old.maximum_version = ssl.TLSVersion.TLSv1_2

        with pytest.raises(ssl.SSLError):
            get(server, old)
        assert 200 == get(server, client(authority))[0]


@pytest.fixture(name="mutual")
def _mutual(files):
    more = {"client_ca_file": files / "ca.crt", "client_auth_type": "RequireAndVerifyClientCert"}
    with served(Tls(config(files, **more, client_allowed_sans=("prometheus.example",)))) as server:
        yield server


def test_client_certificate(mutual, authority):
    """Of clients with a certificate of the right authority, only those with an allowed name are answered."""
    allowed, other = (authority.issue_cert(name) for name in ("prometheus.example", "other.example"))

    assert 200 == get(mutual, client(authority, allowed))[0]
    with pytest.raises((OSError, http.client.HTTPException)):
        get(mutual, client(authority, other))


def test_stranger_is_refused(mutual, authority):
    """Without a certificate, or with one of another authority, nobody is answered."""
    stranger = trustme.CA().issue_cert("prometheus.example")
    for identity in (None, stranger):
        with pytest.raises((OSError, http.client.HTTPException)):
            get(mutual, client(authority, identity))


def serial(server, context):
    raw = socket.create_connection(("127.0.0.1", server.port), 5)
    with context.wrap_socket(raw, server_hostname="127.0.0.1") as tls:
        return tls.getpeercert(binary_form=True)


def test_certificate_is_renewed(files, authority, caplog):
    """A new certificate is used from the next connection on; a broken one leaves the old one at work, told once."""
    with served(Tls(config(files))) as server:
        first = serial(server, client(authority))
        renewed = issue(authority, files)

        assert renewed == serial(server, client(authority)) != first

        (files / "server.crt").write_text("broken")
        with caplog.at_level(logging.ERROR, "llmvitals_exporter"):
            assert [renewed] * 3 == [serial(server, client(authority)) for _ in range(3)]
        assert 1 == len(caplog.messages)
        assert str(files / "server.crt") in caplog.messages[0]


@pytest.mark.parametrize("broken", ["server.crt", "server.key", "ca.crt"])
def test_unusable_files_are_told_at_the_start(files, broken):
    """A file that cannot be used stops the start, by name."""
    (files / broken).write_text("nothing of the kind")
    with pytest.raises(WebConfigError, match=broken):
        Tls(config(files, client_ca_file=files / "ca.crt", client_auth_type="VerifyClientCertIfGiven"))


def client_threads():
    return [thread for thread in threading.enumerate() if thread.name == "llmvitals-metrics-client"]


def test_idle_and_slow_tls_clients_stop_nobody(files, authority):
    """Fifty clients that never shake hands, and one that sends its hello a byte a time, delay no scrape, and go."""
    with served(Tls(config(files)), limits=Limits(connections=60, header_seconds=1.0)) as server:
        before = len(client_threads())
        idle = [socket.create_connection(("127.0.0.1", server.port), 5) for _ in range(50)]
        slow = socket.create_connection(("127.0.0.1", server.port), 5)
        slow.sendall(b"\x16\x03\x01\x02")
        started = time.monotonic()
        statuses = {get(server, client(authority))[0] for _ in range(5)}

        assert {200} == statuses
        assert time.monotonic() - started < 1.0
        until(lambda: len(client_threads()) <= before)
        for connection in (*idle, slow):
            connection.close()


def test_too_many_are_told_through_tls(files, authority):
    """Who comes when all connections are being served reads why."""
    entered, go = threading.Event(), threading.Event()

    def held(_):
        entered.set()
        go.wait()

    with served(Tls(config(files)), guard=held, limits=Limits(connections=1)) as server:
        first = threading.Thread(target=get, args=(server, client(authority)))
        first.start()
        assert entered.wait(5)

        assert (503, b"All 1 connections are busy answering.\n") == get(server, client(authority))
        go.set()
        first.join()


def basic(name, password):
    return {"authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


@pytest.fixture(name="passwords", scope="module")
def _passwords():
    return Passwords({"prometheus": bcrypt.hashpw("pässword".encode(), bcrypt.gensalt(4)).decode()})


def test_password(passwords):
    """Who knows the password is let in, again without bcrypt's price."""
    assert passwords(basic("prometheus", "pässword")) is None
    started = time.monotonic()
    for _ in range(100):
        passwords(basic("prometheus", "pässword"))

    assert time.monotonic() - started < 0.05


@pytest.mark.parametrize(
    "headers",
    [
        {},
        basic("prometheus", "wrong"),
        basic("prometheus", ""),
        basic("", ""),
        basic("nobody", "pässword"),
        basic("prometheus", "pässword\0"),
        basic("prometheus", "x" * 100_000),
        {"authorization": "Bearer pässword"},
        {"authorization": "Basic !!!"},
        {"authorization": "Basic " + base64.b64encode(b"\xff\xfe:x").decode()},
        {"authorization": "Basic"},
    ],
    ids=range(11),
)
def test_wrong_password(passwords, headers):
    """Anything else is refused with the question for a password, and never with why."""
    page = passwords(headers)

    assert ("401 Unauthorized", "Unauthorized\n") == (page.status, page.body)
    assert 'Basic realm="llmvitals-exporter", charset="UTF-8"' == page.headers["WWW-Authenticate"]


def test_no_password_costs_nothing(passwords, monkeypatch):
    """Who gives no name and password, as a probe does, is refused without a comparison."""
    monkeypatch.setattr(passwords, "_check", None)

    assert ["401 Unauthorized"] * 2 == [passwords(headers).status for headers in ({}, {"authorization": "Bearer x"})]


def test_guessing_does_not_hold_up_who_knows(monkeypatch):
    """While fifty wrong passwords come at once, who knows his waits for one comparison; most guesses are refused."""
    guard = Passwords({"prometheus": "x"})
    begun, go = threading.Event(), threading.Semaphore(0)
    compared = []

    def check(password, _):
        compared.append(password)
        begun.set()
        go.acquire()
        return password == b"right"

    monkeypatch.setattr(guard, "_check", check)
    pages = {}
    guessers = [
        threading.Thread(target=lambda word=word: pages.update({word: guard(basic("prometheus", word))}))
        for word in map(str, range(50))
    ]
    for guesser in guessers:
        guesser.start()
    assert begun.wait(5)
    until(lambda: len(pages) == 50 - 1 - 8)
    knowing = threading.Thread(target=lambda: pages.update({"right": guard(basic("prometheus", "right"))}))
    knowing.start()
    until(lambda: len(pages) == 50 - 8)  # It took the place of the guess that had waited longest.
    go.release()
    go.release()
    knowing.join(5)

    assert pages["right"] is None
    assert b"right" == compared[1]
    for _ in guessers:
        go.release()
    for guesser in guessers:
        guesser.join(5)
    statuses = [page.status for word, page in pages.items() if word != "right"]
    assert {"503 Service Unavailable": 42, "401 Unauthorized": 8} == dict(Counter(statuses))


def test_refused_before_anything_is_read(passwords):
    """Without the password neither the metrics nor any other page is told."""
    site = Site(CollectorRegistry(), {"/": "secret"}, guard=passwords, headers={"X-Frame-Options": "deny"})

    for path in ("/", "/metrics", "/nowhere"):
        response = site.respond("GET", path, {})
        assert ("401 Unauthorized", b"Unauthorized\n") == (response.status, response.body)
        assert "deny" == response.headers["X-Frame-Options"]


def test_serve_takes_the_rules(files, authority, passwords):
    """`serve` puts all of it before a registry."""
    with serve(CollectorRegistry(), port=0, guard=passwords, security=Tls(config(files))) as server:
        assert 401 == get(server, client(authority))[0]
        assert 200 == get(server, client(authority), basic("prometheus", "pässword"))[0]
