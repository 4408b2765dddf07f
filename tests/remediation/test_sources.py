"""The clients of Prometheus and Alertmanager: any answer that is not one is an error with the server's name."""

import json
import math
import socket

import pytest
from tests.remediation.world import _Quiet, http_server

from llmvitals_remediation.alertmanager import AlertmanagerClient
from llmvitals_remediation.errors import SourceError, UnreachableError
from llmvitals_remediation.promql import PrometheusClient


def answering(status, body, *, headers=()):
    class Handler(_Quiet):
        def do_POST(self):  # noqa: N802 -- the base class's name
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def do_GET(self):  # noqa: N802 -- the base class's name
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return http_server(Handler)


def vector(*rows):
    result = [{"metric": labels, "value": [1.0, value]} for labels, value in rows]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode()


def ask(url):
    client = PrometheusClient(url, timeout=1.0)
    try:
        return client.query("up")
    finally:
        client.close()


def test_a_vector_is_read_with_its_labels_and_odd_numbers():
    """NaN and infinity are values; what they mean is for whoever asked."""
    with answering(200, vector(({"job": "j"}, "1"), ({}, "NaN"), ({}, "+Inf"))) as url:
        told = ask(url)

    assert ({"job": "j"}, 1.0) == (told[0].labels, told[0].value)
    assert math.isnan(told[1].value)
    assert math.isinf(told[2].value)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"<html>"),
        (200, b"[]"),
        (200, b"{}"),
        (200, b'{"status": "success", "data": {"resultType": "matrix", "result": []}}'),
        (200, b'{"status": "success", "data": {"resultType": "vector", "result": [{"metric": 5}]}}'),
        (400, b'{"status": "error", "error": "parse error"}'),
        (500, b"{}"),
        (503, b"{}"),
        (302, b"{}"),
    ],
)
def test_any_other_answer_is_an_error(status, body):
    """Never an empty result: nobody may act on a guess."""
    with answering(status, body, headers=[("Location", "http://127.0.0.1:9/")]) as url, pytest.raises(SourceError):
        ask(url)


def test_no_answer_is_unreachable_and_names_the_server():
    """Refused, or too slow."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        with pytest.raises(UnreachableError, match=r"Prometheus at http://127\.0\.0\.1.*connection refused"):
            ask(url)
        probe.listen(1)
        with pytest.raises(UnreachableError, match="timed out"):
            ask(url)


def test_alertmanagers_answer_is_read_and_a_strange_one_is_an_error():
    """An alert that the inbox would set aside is left out; a shape that is not known is an error."""
    good = {
        "labels": {"alertname": "A"},
        "annotations": {},
        "startsAt": "2026-11-01T00:00:00.000Z",
        "receivers": [{"name": "remediation"}],
        "status": {"state": "active", "silencedBy": [], "inhibitedBy": []},
    }
    muted = {**good, "status": {"state": "suppressed", "silencedBy": ["s1"], "inhibitedBy": []}}
    nameless = {**good, "labels": {}}
    with answering(200, json.dumps([good, muted, nameless]).encode()) as url:
        told = AlertmanagerClient(url).alerts()
    assert [None, "silence s1"] == [alert.muted for alert in told]
    for strange in ({}, [{}], [{"labels": {"alertname": "A"}}], [5]):
        with answering(200, json.dumps(strange).encode()) as url, pytest.raises(SourceError):
            AlertmanagerClient(url).alerts()


def test_amiss_says_nothing_of_a_server_that_is_well():
    """And what is wrong with one that is not."""
    with answering(200, b"ok") as url:
        assert PrometheusClient(url).amiss() is None
    with answering(503, b"starting") as url:
        assert "HTTP 503" in AlertmanagerClient(url).amiss()
    assert "Prometheus at" in PrometheusClient(url).amiss()
