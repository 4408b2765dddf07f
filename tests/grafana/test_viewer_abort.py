"""A question that nobody waits for any more ends in Prometheus, too."""

import http.client
import re
import sys
from urllib.parse import urlencode

import pytest
from tests.servers import eventually, free_port, program, request, server

pytestmark = pytest.mark.stack

# A thousand parts of some ten milliseconds each: between two of them Prometheus looks whether somebody still waits.
SLOW = " + ".join(["sum(sum_over_time(vector(1)[200s:1ms]))"] * 1000)


@pytest.fixture(name="prometheus")
def _prometheus(tmp_path):
    port = free_port()
    (tmp_path / "prometheus.yml").write_text("global: {}\n", encoding="utf-8")
    command = [
        program("prometheus"),
        f"--config.file={tmp_path / 'prometheus.yml'}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with server(command, port=port, log=tmp_path / "prometheus.log", ready="/-/ready") as started:
        yield started


@pytest.fixture(name="viewer")
def _viewer(tmp_path, prometheus):
    port = free_port()
    (tmp_path / "index.html").write_text("", encoding="utf-8")
    command = [sys.executable, "-m", "llmvitals_stack.viewer", f"--port={port}", f"--prometheus-url={prometheus.url}"]
    command += [f"--dashboards={tmp_path}", f"--dist={tmp_path}"]
    with server(command, port=port, log=tmp_path / "viewer.log", ready="/healthz") as started:
        yield started


def sample(server, name):
    """One sample of a server's metrics."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", request(f"{server.url}/metrics").text, re.MULTILINE)
    return float(found[1])


def test_prometheus_stops_working_on_a_question_whose_page_was_left(viewer, prometheus):
    """The browser closes its connection, the viewer closes its own, and the evaluation ends long before it is done."""
    browser = http.client.HTTPConnection("127.0.0.1", viewer.port)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    browser.request("POST", "/api/v1/query", urlencode({"query": SLOW}), form)
    eventually(lambda: sample(prometheus, "prometheus_engine_queries") == 1, what="the evaluation")
    assert 1 == sample(viewer, "llmvitals_viewer_queries_in_flight")

    browser.close()

    eventually(lambda: sample(prometheus, "prometheus_engine_queries") == 0, seconds=3, what="the end of it")
    eventually(lambda: sample(viewer, 'llmvitals_viewer_queries_total{result="aborted"}') == 1, what="the count")
    assert 0 == sample(viewer, "llmvitals_viewer_queries_in_flight")
    assert 0 == sample(viewer, 'llmvitals_viewer_queries_total{result="answered"}')
