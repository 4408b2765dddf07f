import asyncio
import contextlib
import gzip
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import pytest
from starlette.testclient import TestClient

from llmvitals_stack.viewer import Limits, create_app
from llmvitals_stack.viewer_metrics import RESULTS

LIMITS = Limits(request_bytes=200, response_bytes=1000, seconds=0.5, at_once=3)


class Upstream(ThreadingHTTPServer):
    """Stands where Prometheus is, and remembers what it was asked; the query says how it answers."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.over = threading.Event()
        self._lock = threading.Lock()
        self._here = 0
        self._all_here = threading.Event()
        self.most_here = 0

    def together(self):
        """Keeps the questions until as many are here as may be, so that one more would be seen."""
        with self._lock:
            self._here += 1
            self.most_here = max(self.most_here, self._here)
            if self._here >= LIMITS.at_once:
                self._all_here.set()
        self._all_here.wait(10)
        with self._lock:
            self._here -= 1


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self._answer("")

    def do_POST(self):
        # Whom an answer took too long is gone.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._answer(self.rfile.read(int(self.headers["Content-Length"])).decode())

    def _answer(self, body):
        self.server.asked.append((self.command, self.path, dict(self.headers)))
        query = parse_qs(body).get("query", [""])[0]
        if query == "slow":
            self.server.over.wait(10)
        if query == "drip":
            self._drip()
            return
        if query == "together":
            self.server.together()
        text = json.dumps({"status": "success", "data": "x" * (5000 if query == "large" else 1)}).encode()
        if query == "bomb":
            text = gzip.compress(b"0" * 10_000_000)
            self.send_response(200)
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)
            return
        self.send_response(302 if query == "redirect" else 200)
        self.send_header("Location", "http://127.0.0.1:1/")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _drip(self):
        self.send_response(200)
        self.send_header("Content-Length", "900")
        self.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(900):
                self.wfile.write(b" ")
                self.server.over.wait(0.05)

    def log_message(self, *_):
        pass


@pytest.fixture(name="upstream")
def _upstream():
    server = Upstream()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(name="client")
def _client(upstream, tmp_path):
    with client_of(upstream, tmp_path, LIMITS) as client:
        yield client


def client_of(upstream, tmp_path, limits):
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "index.html").write_text("<html>the page</html>")
    dashboards = tmp_path / "dashboards"
    dashboards.mkdir()
    (dashboards / "one.json").write_text('{"uid": "one", "title": "One", "tags": ["llmvitals"]}')
    (dashboards / "broken.json").write_text("{")
    (tmp_path / "secret.json").write_text('{"uid": "secret"}')
    app = create_app(f"http://127.0.0.1:{upstream.server_port}", dashboards, tmp_path / "dist", limits)
    return TestClient(app, base_url="http://127.0.0.1")


@pytest.mark.parametrize("path", ["query", "query_range", "series", "labels"])
def test_the_query_endpoints_pass(client, upstream, path):
    """GET and POST reach Prometheus with query and form as they were."""
    assert 200 == client.get(f"/api/v1/{path}?query=up").status_code
    assert 200 == client.post(f"/api/v1/{path}", data={"query": "up"}).status_code

    assert [("GET", f"/api/v1/{path}?query=up"), ("POST", f"/api/v1/{path}")] == [a[:2] for a in upstream.asked]


def test_label_values_pass_for_a_label_only(client, upstream):
    """What is no label's name is refused here; it could be a path."""
    assert 200 == client.get("/api/v1/label/job/values").status_code
    assert 400 == client.get("/api/v1/label/a%20b/values").status_code
    assert 404 == client.get("/api/v1/label/..%2f..%2fadmin/values").status_code

    assert 1 == len(upstream.asked)


@pytest.mark.parametrize(
    "path",
    ["/api/v1/admin/tsdb/delete_series", "/api/v1/status/config", "/-/reload", "/-/quit", "/federate", "/api/v1/write"],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_nothing_else_reaches_prometheus(client, upstream, path, method):
    """Administration, configuration and writing do not exist here."""
    assert client.request(method, path).status_code in {404, 405}

    assert [] == upstream.asked


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_only_reading_methods(client, upstream, method):
    """A query is asked by GET or POST."""
    assert 405 == client.request(method, "/api/v1/query").status_code

    assert [] == upstream.asked


def test_headers_of_the_browser_stay_here(client, upstream):
    """Cookies and credentials of other services on this host are not Prometheus' business."""
    client.get("/api/v1/query?query=up", headers={"Cookie": "session=1", "Authorization": "Bearer x"})

    headers = {name.lower() for name in upstream.asked[0][2]}
    assert not {"cookie", "authorization"} & headers


def test_a_large_question_is_refused(client, upstream):
    """Body and query have a bound."""
    assert 413 == client.post("/api/v1/query", data={"query": "x" * 300}).status_code
    assert 413 == client.get("/api/v1/query?query=" + "x" * 300).status_code

    assert [] == upstream.asked


def test_a_large_answer_is_cut_off_with_a_reason(client):
    """The page says what to do instead of growing without end."""
    response = client.post("/api/v1/query", data={"query": "large"})

    assert 502 == response.status_code
    assert "over 1000 bytes" in response.json()["error"]


def test_a_late_answer_is_given_up(client):
    """A query that Prometheus does not finish in time ends here, too."""
    response = client.post("/api/v1/query", data={"query": "slow"})

    assert 502 == response.status_code
    assert "0.5 s" in response.json()["error"]


def test_a_dripping_answer_is_given_up(client):
    """One byte after the other in time is still too late as a whole."""
    response = client.post("/api/v1/query", data={"query": "drip"})

    assert 502 == response.status_code
    assert "longer than 0.5 s" in response.json()["error"]


def test_a_compressed_answer_is_refused(client, upstream):
    """It is not asked for, and ten megabytes of it would fit below the bound."""
    response = client.post("/api/v1/query", data={"query": "bomb"})

    assert 502 == response.status_code
    assert "compressed" in response.json()["error"]
    assert "identity" == upstream.asked[0][2]["Accept-Encoding"]


@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)]
)
def test_a_page_of_another_site_gets_nothing(client, upstream, site, status):
    """It could not read the answer; it could keep Prometheus busy."""
    response = client.post("/api/v1/query", data={"query": "up"}, headers={"Sec-Fetch-Site": site})

    assert status == response.status_code
    assert (status == 200) == bool(upstream.asked)


def test_a_question_that_never_ends_is_given_up(tmp_path):
    """Who sends the body byte by byte gets an answer in time, and holds nothing."""
    app = create_app("http://127.0.0.1:1", tmp_path, tmp_path, LIMITS)
    headers = [(b"host", b"127.0.0.1"), (b"content-length", b"100")]
    scope = {"type": "http", "method": "POST", "path": "/api/v1/query", "headers": headers, "query_string": b""}
    sent = []

    async def receive():
        await asyncio.sleep(LIMITS.seconds / 5)
        return {"type": "http.request", "body": b"q", "more_body": True}

    async def send(message):
        sent.append(message)

    asyncio.run(app(scope | {"http_version": "1.1", "scheme": "http"}, receive, send))

    assert 408 == sent[0]["status"]


def test_so_many_questions_at_once_and_no_more(upstream, tmp_path):
    """The answers of all together have a bound, too."""
    with client_of(upstream, tmp_path, replace(LIMITS, seconds=30)) as client, ThreadPoolExecutor(9) as pool:
        answers = list(pool.map(lambda _: client.post("/api/v1/query", data={"query": "together"}), range(9)))

    assert {200} == {a.status_code for a in answers}
    assert LIMITS.at_once == upstream.most_here


def test_a_redirect_is_not_followed(client, upstream):
    """Prometheus cannot send the proxy elsewhere."""
    response = client.post("/api/v1/query", data={"query": "redirect"}, follow_redirects=False)

    assert 302 == response.status_code
    assert "location" not in response.headers


def test_no_prometheus_says_so(tmp_path):
    """Nobody listens: the answer names the address."""
    (tmp_path / "index.html").write_text("")
    app = create_app("http://127.0.0.1:1", tmp_path, tmp_path)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        response = client.get("/api/v1/query?query=up")

    assert 502 == response.status_code
    assert "http://127.0.0.1:1 does not answer" in response.json()["error"]


def count(client, name, **labels):
    """A counter's value on /metrics."""
    text = ",".join(f'{key}="{value}"' for key, value in labels.items())
    line = next(line for line in client.get("/metrics").text.splitlines() if line.startswith(f"{name}{{{text}}} "))
    return float(line.rpartition(" ")[2])


@pytest.mark.parametrize(
    ("query", "result"),
    [("up", "answered"), ("redirect", "error"), ("bomb", "error"), ("slow", "timeout"), ("large", "too_large")],
)
def test_each_question_is_counted_by_what_became_of_it(client, query, result):
    """Once, under one result, with its duration."""
    client.post("/api/v1/query", data={"query": query}, follow_redirects=False)

    counted = {name: count(client, "llmvitals_viewer_queries_total", result=name) for name in RESULTS}
    assert {name: float(name == result) for name in RESULTS} == counted
    assert "llmvitals_viewer_query_duration_seconds_count 1.0" in client.get("/metrics").text


def test_each_refusal_is_counted_by_its_reason(client):
    """What never reaches Prometheus is told apart from what it was asked."""
    client.post("/api/v1/query", data={"query": "x" * 300})
    client.get("/api/v1/admin/tsdb/snapshot")
    client.get("/api/v1/label/a%20b/values")
    client.get("/api/v1/query", headers={"Sec-Fetch-Site": "cross-site"})

    assert [1, 2, 1, 0] == [
        count(client, "llmvitals_viewer_refused_total", reason=reason) for reason in ("size", "path", "site", "time")
    ]
    assert 0 == sum(count(client, "llmvitals_viewer_queries_total", result=result) for result in RESULTS)


def test_another_host_gets_nothing(client):
    """A page that rebinds its name to 127.0.0.1 is refused by the Host header."""
    assert 400 == client.get("/api/v1/query?query=up", headers={"Host": "evil.example"}).status_code


def test_dashboards_are_listed_and_served_by_uid(client):
    """A file that is no JSON is left out; a uid is looked up, never a path."""
    assert [{"uid": "one", "title": "One", "description": "", "tags": ["llmvitals"]}] == client.get(
        "/api/dashboards"
    ).json()
    assert "One" == client.get("/api/dashboards/one").json()["title"]
    assert 404 == client.get("/api/dashboards/secret").status_code
    assert 404 == client.get("/api/dashboards/..%2fsecret").status_code


def test_dashboards_lead_to_the_console_that_the_viewer_was_told_of(tmp_path):
    """The address of the file is for whoever says no other."""
    variable = {"name": "console", "type": "constant", "query": "http://127.0.0.1:9466"}
    text = json.dumps({"uid": "one", "templating": {"list": [{"name": "job", "type": "query"}, variable]}})
    (tmp_path / "one.json").write_text(text)
    served = []
    for url in (None, "http://127.0.0.1:9876"):
        with TestClient(
            create_app("http://x", tmp_path, tmp_path, console_url=url), base_url="http://127.0.0.1"
        ) as client:
            served.append(client.get("/api/dashboards/one").json()["templating"]["list"][1]["query"])

    assert ["http://127.0.0.1:9466", "http://127.0.0.1:9876"] == served


@pytest.mark.parametrize("path", ["/", "/d/one", "/d/one/overview?from=now-1h"])
def test_the_page_answers_grafanas_addresses(client, path):
    """Links in alerts are made for Grafana; they open here as well."""
    response = client.get(path)

    assert "the page" in response.text
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]


def test_the_environments_proxy_is_not_used(client, monkeypatch):
    """A proxy for the outside must not see what is asked on loopback."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)

    assert 200 == client.get("/api/v1/query?query=up").status_code


def test_the_pages_script_is_sent_as_the_build_compressed_it(client, tmp_path):
    """To who reads gzip, as what it is, and to be kept for good; to others as it is."""
    assets = tmp_path / "dist" / "assets"
    assets.mkdir()
    (assets / "index-1.js").write_text("whole")
    (assets / "index-1.js.gz").write_bytes(gzip.compress(b"compressed"))
    (assets / "boot-1.js").write_text("small")

    found = [client.get(f"/assets/{name}") for name in ("index-1.js", "boot-1.js")]
    found.append(client.get("/assets/index-1.js", headers={"Accept-Encoding": "identity"}))

    assert ["compressed", "small", "whole"] == [r.text for r in found]
    assert ["gzip", None, None] == [r.headers.get("Content-Encoding") for r in found]
    assert {"text/javascript; charset=utf-8"} == {r.headers["Content-Type"] for r in found}
    assert {"public, max-age=31536000, immutable"} == {r.headers["Cache-Control"] for r in found}
