"""Pushing to a Pushgateway: what is sent, and to such as misbehave. To the real one: test_push_gateway.py."""

import base64
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import trustme
from prometheus_client import CollectorRegistry, Gauge
from tests import servers

from llmvitals import catalogue
from llmvitals.exposition import PushError, encode, push


def registry_of(**gauges):
    registry = CollectorRegistry()
    for name, value in gauges.items():
        Gauge(name, f"The {name}.", registry=registry).set(value)
    return registry


class Fake(ThreadingHTTPServer):
    """Answers with *statuses*, one after the other, and notes what it was sent."""

    daemon_threads = True

    def __init__(self, statuses):
        self.statuses = list(statuses)
        self.seen = []
        super().__init__(("127.0.0.1", 0), Answer)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.command, self.path, dict(self.headers), body))
        self.send_response(self.server.statuses.pop(0))
        self.send_header("Location", f"{self.server.url}/elsewhere")
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"why\n")

    def log_message(self, *args): ...


@contextmanager
def fake(*statuses):
    with Fake(statuses) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(10)


@pytest.fixture(name="no_pauses")
def _no_pauses(monkeypatch):
    monkeypatch.setattr("llmvitals.exposition._push._PAUSES", (0.0, 0.0, 0.0))


def test_what_is_sent():
    """One PUT to the group's path with the text format; nothing of gzip or proxies."""
    registry = registry_of(rows=3)
    with fake(200) as server:
        push(registry, f"{server.url}/below/", job="nightly", grouping={"shard": "a/b"})

    ((method, path, headers, body),) = server.seen
    assert ("PUT", "/below/metrics/job/nightly/shard@base64/YS9i") == (method, path)
    assert (encode(registry), "text/plain; version=0.0.4; charset=utf-8") == (body, headers["Content-Type"])
    assert "Authorization" not in headers


@pytest.mark.parametrize(
    ("statuses", "tries", "taken"),
    [
        ((500, 503, 202), 3, True),
        ((502, 502, 502), 3, False),
        ((400,), 1, False),
        ((401,), 1, False),
        ((307,), 1, False),
    ],
)
def test_only_what_may_pass_is_tried_again(no_pauses, statuses, tries, taken):
    """5xx three times in all; a refusal or a redirect once, and nobody is sent elsewhere."""
    with fake(*statuses) as server:
        try:
            push(registry_of(rows=1), server.url, job="j")
            told = ""
        except PushError as error:
            told = str(error)

    assert (tries, taken) == (len(server.seen), not told)
    assert ["/metrics/job/j"] * tries == [path for _, path, _, _ in server.seen]
    assert taken or f"it answered {statuses[-1]}" in told


def test_a_proxy_of_the_environment_is_not_used(monkeypatch):
    """It would see the credentials."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with fake(200) as server:
        push(registry_of(rows=1), server.url, job="j")

    assert 1 == len(server.seen)


@pytest.mark.parametrize(
    ("content", "header"),
    [
        ("ann:pa:ss wörd\n", "Basic " + base64.b64encode("ann:pa:ss wörd".encode()).decode()),
        ("s3cr3t-token\n", "Bearer s3cr3t-token"),
    ],
)
def test_credentials_come_from_a_file(tmp_path, content, header):
    """A user and a password, or a token."""
    file = tmp_path / "credentials"
    file.write_text(content, encoding="utf-8")
    with fake(200) as server:
        push(registry_of(rows=1), server.url, job="j", credentials_file=file)

    assert header == server.seen[0][2]["Authorization"]


def test_credentials_in_the_clear_are_told(tmp_path, caplog, monkeypatch):
    """Beyond this machine somebody may listen."""
    file = tmp_path / "credentials"
    file.write_text("ann:s3cr3t")
    with fake(200, 200) as server:
        here, there = server.url, f"http://gateway.example:{server.server_port}"
        monkeypatch.setattr(
            "http.client.HTTPConnection.connect", lambda self: setattr(self, "sock", socket.create_connection(address))
        )
        address = server.server_address
        for url in (here, there):
            push(registry_of(rows=1), url, job="j", credentials_file=file)

    assert ["unencrypted to gateway.example"] == re.findall(r"unencrypted to [\w.]+", caplog.text)
    assert "s3cr3t" not in caplog.text


def test_a_certificate_is_looked_at(tmp_path, monkeypatch):
    """One that nobody vouches for is refused, at once; the CA of ``SSL_CERT_FILE`` is believed."""
    ca = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    with fake(200) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        url = server.url.replace("http:", "https:")
        with pytest.raises(PushError, match="SSLCertVerificationError"):
            push(registry_of(rows=1), url, job="j", timeout_seconds=5)
        refused = len(server.seen)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        push(registry_of(rows=1), url, job="j", timeout_seconds=5)

    assert (0, 1) == (refused, len(server.seen))


@pytest.mark.parametrize("content", ["", "two words", "line\nline", "a:b\nX-Evil: 1", None])
def test_credentials_that_cannot_be_are_told_without_a_word_of_them(tmp_path, vitals, caplog, content):
    """The file is named; its content is not."""
    file = tmp_path / "credentials"
    if content is not None:
        file.write_text(content)
    with fake(200) as server:
        assert False is vitals.push(server.url, credentials_file=file)

    assert [] == server.seen
    assert str(file) in caplog.text
    assert content in (None, "") or content not in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        "http://ann:s3cr3t@127.0.0.1:9091",
        "http://ann:s3/cr3t@127.0.0.1",
        "http://127.0.0.1:s3cr3t",
        "http://127.0.0.1:9091/?token=s3cr3t",
        "ftp://s3cr3t",
        "s3cr3t",
        "http://[s3cr3t",
        "http://",
        "",
    ],
)
def test_a_url_that_cannot_be_is_told_without_a_word_of_it(vitals, caplog, url):
    """There may be a password in it."""
    assert False is vitals.push(url)

    assert "a Pushgateway's URL is http://host:port" in caplog.text
    assert "s3" not in caplog.text


@pytest.mark.parametrize("grouping", [{"job": "x"}, {"__name__": "x"}, {"a-b": "x"}, {"": "x"}, {"a/b": "x"}])
def test_a_label_that_cannot_group_is_a_mistake(grouping):
    """Told before anything is sent."""
    with pytest.raises(ValueError, match="no labels to group by"):
        push(registry_of(rows=1), "http://127.0.0.1:9", job="j", grouping=grouping)


def test_a_failed_push_is_counted_and_logged_once(vitals, caplog, no_pauses):
    """And nothing reaches the application but False."""
    url = f"http://127.0.0.1:{servers.free_port()}"

    assert [False, False] == [vitals.push(url), vitals.push(url)]
    assert 2 == vitals.value(catalogue.INSTRUMENTATION_ERRORS.name, component="push")
    assert 1 == caplog.text.count("ConnectionRefusedError")


def test_a_gateway_that_drips_takes_no_longer_than_it_may():
    """The deadline is for all together, not for each byte."""
    stop = threading.Event()

    def drip(listener):
        client, _ = listener.accept()
        with client:
            for byte in b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000:
                if stop.wait(0.05):
                    return
                client.send(bytes([byte]))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        dripping = threading.Thread(target=drip, args=(listener,))
        dripping.start()
        started = time.monotonic()
        try:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            with pytest.raises(PushError, match="TimeoutError"):
                push(registry_of(rows=1), url, job="j", timeout_seconds=0.4)
            took = time.monotonic() - started
        finally:
            stop.set()
            dripping.join(10)

    assert took < 2


def test_a_forked_child_does_not_push_at_its_end():
    """It has its parent's numbers, and would put them in the place of the real ones."""
    program = """
import os, sys
import llmvitals
vitals = llmvitals.start(service="parent", port=0)
child = os.fork()
if child == 0:
    vitals.close()
    os._exit(0)
os.waitpid(child, 0)
"""
    with fake(200, 200) as server:
        environment = os.environ | {"LLMVITALS_PUSHGATEWAY_URL": server.url}
        done = subprocess.run(
            # Of forks beside threads: Python's own warning, which it says of any.
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert (0, "") == (done.returncode, done.stderr)
    assert ["/metrics/job/parent"] == [urllib.parse.unquote(path) for _, path, _, _ in server.seen]
