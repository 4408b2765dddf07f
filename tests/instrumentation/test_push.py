"""Pushing to a Pushgateway: to the real one, and to such as misbehave."""

import base64
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import GaugeMetricFamily
from tests import servers

from llmvitals import catalogue
from llmvitals.exposition import PushError, encode, push


def registry_of(**gauges):
    registry = CollectorRegistry()
    for name, value in gauges.items():
        Gauge(name, f"The {name}.", registry=registry).set(value)
    return registry


# --- The real one -----------------------------------------------------------------------------------------------------


@pytest.fixture(name="gateway", scope="module")
def _gateway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pushgateway")
    port = servers.free_port()
    command = [
        servers.program("pushgateway", "prometheus-pushgateway"),
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with servers.server(command, port=port, log=folder / "pushgateway.log", ready="/-/ready") as started:
        yield started.url


def groups(gateway):
    """What the Pushgateway has: the gauges' values, by job and the rest of the group's labels."""
    answer = servers.request(f"{gateway}/api/v1/metrics").json()["data"]
    return {
        tuple(sorted(group["labels"].items())): {
            name: float(family["metrics"][0]["value"])
            for name, family in group.items()
            if isinstance(family, dict) and family.get("type") == "GAUGE" and not name.startswith("push_")
        }
        for group in answer
    }


@pytest.mark.stack
def test_a_push_replaces_its_group_and_no_other(gateway):
    """With PUT what was there before is gone; with POST only families of the same names are."""
    push(registry_of(rows=1, left=7), gateway, job="replaced")
    push(registry_of(rows=5), gateway, job="replaced", grouping={"shard": "1"})
    push(registry_of(rows=2), gateway, job="replaced")
    put = groups(gateway)
    push(registry_of(left=8), gateway, job="replaced", replace=False)

    first, second = (("job", "replaced"),), (("job", "replaced"), ("shard", "1"))
    assert ({"rows": 2.0}, {"rows": 5.0}) == (put[first], put[second])
    assert {"rows": 2.0, "left": 8.0} == groups(gateway)[first]


@pytest.mark.stack
@pytest.mark.parametrize(
    "value", ["a/b", "", ".", "..", "a b", "ä😀", "50%25", "?x=1#y", "=", "a//", "plain-1.0_~", "\n", "a@base64"]
)
def test_any_value_groups(gateway, value):
    """With slashes, empty, or not fit for a path: the Pushgateway reads it back as it was."""
    push(registry_of(rows=1), gateway, job="grouped", grouping={"first": value, "last": "x"})

    told = {labels for labels in groups(gateway) if dict(labels)["job"] == "grouped"}
    expected = {"job": "grouped", "first": value, "last": "x"}
    # It leaves an empty label out: to Prometheus that is the same.
    assert tuple(sorted(expected.items())) in {tuple(sorted({"first": "", **dict(labels)}.items())) for labels in told}


@pytest.mark.stack
def test_a_job_with_a_slash_is_one(gateway):
    """Not two segments of a path."""
    push(registry_of(rows=1), gateway, job="nightly/rows")

    assert (("job", "nightly/rows"),) in groups(gateway)


@pytest.mark.stack
def test_what_the_pushgateway_refuses_is_told_with_its_reason(gateway):
    """It takes no timestamps, and says so; trying again would not help."""
    family = GaugeMetricFamily("stamped", "With a time.", labels=[])
    family.add_metric([], 1, timestamp=1234.5)
    registry = CollectorRegistry()
    registry.register(type("Stamped", (), {"collect": lambda self: [family], "describe": lambda self: []})())

    with pytest.raises(PushError, match=r"did not take job 'stamped': it answered 400: .*timestamp"):
        push(registry, gateway, job="stamped")


@pytest.mark.stack
def test_a_short_job_is_pushed_when_it_ends(gateway):
    """All of it, Python's own numbers too, by one variable; the import of requests is spared."""
    program = """
import sys
import llmvitals
vitals = llmvitals.start(service="nightly", port=0)
with vitals.call(provider="local", model="talker"):
    pass
assert "requests" not in sys.modules
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LLMVITALS_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=environment | {"LLMVITALS_PUSHGATEWAY_URL": gateway},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)
    text = servers.request(f"{gateway}/metrics").text
    assert 'llmvitals_build_info{instance="",job="nightly"' in text
    assert 'gen_ai_client_operation_duration_seconds_count{error_type="",' in text


@pytest.mark.stack
def test_a_job_of_many_processes_pushes_what_all_of_them_did(gateway):
    """Once, when the first of them ends: a push of each would replace that of the others."""
    program = """
import multiprocessing
import llmvitals

vitals = llmvitals.start(service="many", port=0)

def work():
    with vitals.call(provider="local", model="talker"):
        pass

workers = [multiprocessing.get_context("fork").Process(target=work) for _ in range(3)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
work()
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LLMVITALS_")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment | {"LLMVITALS_PUSHGATEWAY_URL": gateway},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (0, "") == (done.returncode, done.stderr)
    counts = [line for line in servers.request(f"{gateway}/metrics").text.splitlines() if 'job="many"' in line]
    assert ["4"] == [line.rpartition(" ")[2] for line in counts if "operation_duration_seconds_count{" in line]


# --- Such as misbehave ------------------------------------------------------------------------------------------------


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
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    assert (0, "") == (done.returncode, done.stderr)
    assert ["/metrics/job/parent"] == [urllib.parse.unquote(path) for _, path, _, _ in server.seen]
