"""The intake over real sockets: what is taken, what is refused, and that a refused one costs the next nothing."""

import gzip
import http.client
import json
import os
import socket
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.remediation.web_service import INGEST, build, listening, open_store, services
from tests.servers import eventually, request

from llmvitals_remediation.errors import StoreUnavailableError
from llmvitals_remediation.web import patience

CAP = 16 * 1024 * 1024


class Engine:
    """Counts how often it was woken; nothing else of an engine is asked here."""

    def __init__(self):
        self.woken = 0

    def wake(self):
        self.woken += 1


@pytest.fixture(name="store")
def _store(tmp_path):
    store = open_store(tmp_path)
    yield store
    store.close()


@pytest.fixture(name="service")
def _service(tmp_path, store):
    return services(tmp_path, engine=Engine(), store=store)


@pytest.fixture(name="url")
def _url(service):
    with listening(build(service, body_seconds=1.0)) as url:
        yield f"{url}/api/v1/alerts"


def webhook(*, fingerprint="a" * 16, **labels):
    alert = {
        "status": "firing",
        "labels": {"alertname": "LLMLatencyHigh", "job": "shop", "instance": "127.0.0.1:9464", **labels},
        "annotations": {},
        "startsAt": "2026-11-21T14:00:00.123456789Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "fingerprint": fingerprint,
    }
    return json.dumps({"version": "4", "status": "firing", "alerts": [alert]}).encode()


def post(url, body, *, token=INGEST, **headers):
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return request(url, method="POST", body=body, token=token, headers=sent)


def raw(url, head, *, body=b"", finish=True):
    """Bytes as they are on a socket of their own; returns what came back until the server closed, or 5 s passed."""
    host, _, port = url.removeprefix("http://").partition("/")[0].partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(head + body)
        if finish:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        while b"\r\n\r\n" not in answer and (chunk := connection.recv(65536)):
            answer += chunk
    return answer.partition(b"\r\n")[0].decode()


def test_a_delivery_is_answered_202_when_it_is_in_the_database(url, service, tmp_path):
    """Another connection to the file sees the rows by the time the sender has the answer."""
    answer = post(url, webhook())

    assert 202 == answer.status
    assert "accepted" == answer.json()["result"]
    with sqlite3.connect(tmp_path / "remediation.db") as other:
        rows = other.execute("SELECT alertname FROM alert_events").fetchall()
    other.close()
    assert [("LLMLatencyHigh",)] == rows
    assert 1 == service.engine.woken


def test_the_same_delivery_again_is_a_duplicate(url):
    """Alertmanager delivers at least once; the inbox keeps it once."""
    first, second = post(url, webhook()), post(url, webhook())

    assert ("accepted", "duplicate") == (first.json()["result"], second.json()["result"])
    assert (202, 202) == (first.status, second.status)


def test_a_hundred_at_once_are_one_accepted_and_ninety_nine_duplicates(url):
    """Concurrent copies share commits, and still only one of them is news."""
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: post(url, webhook()), range(100)))

    results = sorted(answer.json()["result"] for answer in answers)
    assert ["accepted", *["duplicate"] * 99] == results


def test_the_trailing_slash_is_taken_too_and_never_a_redirect(url):
    """A 302 would turn Alertmanager's POST into a GET, and the alert would be lost."""
    assert 202 == post(f"{url}/", webhook()).status


@pytest.mark.parametrize(
    ("body", "status", "result"),
    [
        (b"", 400, None),
        (b"alerts: []", 400, None),
        (b'{"version": "4", "alerts": [', 400, None),
        (b"\xff\xfe{}", 400, None),
        (b'{"version": "4", "alerts": [NaN]}', 400, None),
        (b"[1, 2]", 202, "quarantined"),
        (b'{"text": "a custom payload"}', 202, "quarantined"),
        (json.dumps({"version": "5", "alerts": []}).encode(), 202, "quarantined"),
        (b'{"version": "4", "alerts": [{"status": "firing"}]}', 202, "quarantined"),
        (b"[" * 100_000, 202, "quarantined"),
        (b'{"version": "4", "version": "4", "alerts": []}', 202, "quarantined"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_can_never_be_right_is_refused_what_is_merely_odd_is_set_aside_and_the_next_good_one_works(
    url, body, status, result
):
    """A 4xx for odd input would come again at every group interval, for ever."""
    answer = post(url, body)

    assert status == answer.status
    assert result == answer.json().get("result")
    assert "accepted" == post(url, webhook()).json()["result"]


@pytest.mark.parametrize("token", [None, "wrong-token-0123456789", "", INGEST[:-1], f"{INGEST}x", "é" * 20])
def test_without_the_token_nothing_is_stored_and_the_answer_does_not_tell_it(url, tmp_path, token):
    """401, no row, and no echo of what was sent."""
    answer = post(url, webhook(), token=None if token is None else token.encode().decode("latin-1"))

    assert 401 == answer.status
    assert INGEST not in answer.text
    with sqlite3.connect(tmp_path / "remediation.db") as other:
        rows = other.execute("SELECT count(*) FROM deliveries").fetchone()
    other.close()
    assert (0,) == rows


def test_rotation_loses_no_delivery(url, service):
    """Two lines are two valid tokens; the file is read again when it changes."""
    file = service.tokens.ingest.path
    file.write_text(f"{INGEST}\nnew-token-0123456789\n", encoding="utf-8")
    during = [post(url, webhook()).status, post(url, webhook(), token="new-token-0123456789").status]
    file.write_text("new-token-0123456789\n", encoding="utf-8")
    after = [post(url, webhook()).status, post(url, webhook(), token="new-token-0123456789").status]

    assert [202, 202] == during
    assert [401, 202] == after


@pytest.mark.parametrize("text", [None, "", "\n", "short\n"])
def test_an_unusable_token_file_is_503_so_that_alertmanager_comes_back(url, service, text):
    """In the moment of a rotation the file may be empty or gone: that is not the sender's mistake."""
    file = service.tokens.ingest.path
    if text is None:
        file.unlink()
    else:
        file.write_text(text, encoding="utf-8")

    answer = post(url, webhook())

    assert 503 == answer.status
    assert str(file) in answer.json()["error"]


def test_sixteen_mebibytes_pass_and_one_byte_more_is_413(url):
    """The cap is exact, and the over-long sender hears the answer."""
    padding = webhook(note="")
    exact = padding.replace(b'"note": ""', b'"note": "' + b"x" * (CAP - len(padding)) + b'"')

    assert CAP == len(exact)
    assert 202 == post(url, exact).status  # set aside: a label of 16 MiB is no label
    over = post(url, exact + b" ")
    assert 413 == over.status
    assert str(CAP) in over.json()["error"]
    assert "accepted" == post(url, webhook()).json()["result"]


def test_a_chunked_body_over_the_cap_is_413_and_is_not_kept_in_memory(url):
    """No Content-Length to go by: the cap is enforced while it streams."""
    before = _resident()
    connection = http.client.HTTPConnection(url.removeprefix("http://").partition("/")[0], timeout=20)
    connection.request(
        "POST",
        "/api/v1/alerts",
        body=(b"x" * 65_536 for _ in range(600)),
        headers={"Authorization": f"Bearer {INGEST}"},
        encode_chunked=True,
    )
    status = connection.getresponse().status
    connection.close()

    assert 413 == status
    assert _resident() - before < 40 * 1024 * 1024


@pytest.mark.parametrize("framing", ["Content-Length: 5000", "Transfer-Encoding: chunked"])
def test_a_body_that_does_not_come_is_503_after_the_time_limit(url, framing):
    """A slow sender, or a Content-Length that lies, holds one connection for a moment, and nothing else."""
    head = f"POST /api/v1/alerts HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {INGEST}\r\n{framing}\r\n\r\n"

    status = raw(url, head.encode(), body=b"5\r\nhello\r\n", finish=False)

    assert "HTTP/1.1 503 Service Unavailable" == status
    assert "accepted" == post(url, webhook()).json()["result"]


def test_connections_that_never_say_what_they_want_are_closed(url, monkeypatch):
    """Silent and dripping clients give their descriptors back; one whose request is served is left alone."""
    monkeypatch.setattr(patience, "HEAD_SECONDS", 0.5)
    address = ("127.0.0.1", int(url.split(":")[2].partition("/")[0]))
    with socket.create_connection(address) as silent, socket.create_connection(address) as dripping:
        silent.settimeout(5)
        dripping.settimeout(5)
        dripping.sendall(b"POST /api/v1/alerts HTTP/1.1\r\nHost: 127")
        closed = [silent.recv(1), dripping.recv(1)]

    assert [b"", b""] == closed
    assert "accepted" == post(url, webhook()).json()["result"]


def test_a_sender_that_hangs_up_in_the_middle_leaves_nothing_behind(url, service):
    """Half a body is no delivery."""
    head = f"POST /api/v1/alerts HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {INGEST}\r\n"

    raw(url, f"{head}Content-Length: 900\r\n\r\n".encode(), body=webhook()[:100])

    assert "accepted" == post(url, webhook()).json()["result"]
    assert 1 == service.engine.woken


def test_a_compressed_body_is_refused_in_words(url):
    """Alertmanager never compresses; whoever does learns what to send instead."""
    answer = post(url, gzip.compress(webhook()), Content_Encoding="gzip")

    assert 415 == answer.status
    assert "plain JSON" in answer.json()["error"]


def test_a_store_that_cannot_write_is_503_with_the_reason(url, service, monkeypatch):
    """Push back, and Alertmanager delivers again."""

    def refuse(*_args, **_kwargs):
        raise StoreUnavailableError("the disk is full")

    monkeypatch.setattr(type(service.store), "accept", refuse)
    answer = post(url, webhook())

    assert 503 == answer.status
    assert "the disk is full" in answer.json()["error"]
    assert 0 == service.engine.woken


def test_a_draining_service_pushes_back_and_is_not_ready(url, service):
    """On SIGTERM the next process gets the alert instead."""
    service.lifecycle.draining = True

    assert 503 == post(url, webhook()).status
    ready = request(url.replace("/api/v1/alerts", "/readyz"))
    assert (503, "is stopping") == (ready.status, ready.json()["service"])


def test_a_slow_commit_does_not_stop_the_others(url, service, monkeypatch):
    """Blocking calls live in threads: /healthz answers while a commit hangs."""
    gate = threading.Event()
    accept = type(service.store).accept

    def slow(*args, **kwargs):
        gate.wait(10)
        return accept(*args, **kwargs)

    monkeypatch.setattr(type(service.store), "accept", slow)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(post, url, webhook())
        health = request(url.replace("/api/v1/alerts", "/healthz"), timeout=5)
        gate.set()
        answer = waiting.result(10)

    assert (200, 202) == (health.status, answer.status)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9466", "localhost.evil.example", ""])
def test_a_foreign_host_name_is_refused(url, host):
    """A page of another site may point its own name at this port (DNS rebinding)."""
    head = f"GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"

    assert "HTTP/1.1 421 Misdirected Request" == raw(url, head.encode())


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9466", "[::1]:9466", "LOCALHOST:1", "10.0.0.7:9466"])
def test_our_names_and_bare_addresses_are_answered(url, host):
    """Nobody can rebind a bare address."""
    head = f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"

    assert "HTTP/1.1 200 OK" == raw(url, head.encode())


def test_refusals_are_counted(url):
    """`rejected` is what an operator sees of a wrong token."""
    post(url, webhook(), token="wrong-token-0123456789")
    post(url, b"not json")

    def rejected():
        text = request(url.replace("/api/v1/alerts", "/metrics")).text
        return 'llmvitals_remediation_deliveries_total{result="rejected"} 2.0' in text

    eventually(rejected, what="the count of two")


def _resident():
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
