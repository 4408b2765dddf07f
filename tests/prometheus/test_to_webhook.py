"""The committed configuration and rules, in a real Prometheus and Alertmanager: from a gauge to the webhook."""

import contextlib
import shutil
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from statistics import median

import pytest
import yaml
from tests.alertmanager.sinks import http_sink
from tests.prometheus.known_metrics import PROMETHEUS
from tests.servers import eventually, free_port, program, query, request, server

from llmvitals_stack.alertmanager import BASE, render

pytestmark = pytest.mark.stack

INSTANCES = 10
FROM_FAULT_TO_WEBHOOK_SECONDS = 10


class App:
    """A target that shows two gauges."""

    def __init__(self):
        self.profiles = 10
        app = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                body = f"llmvitals_user_profiles_active {app.profiles}\nllmvitals_user_profiles_limit 10\n".encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments):
                """Not on the terminal."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def stop(self):
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


@contextlib.contextmanager
def apps(number):
    running = [App() for _ in range(number)]
    try:
        yield running
    finally:
        for app in running:
            app.stop()


@contextlib.contextmanager
def monitoring(folder, targets, sink):
    """Prometheus and Alertmanager as `make up` starts them; only the addresses are this test's own."""
    configuration = folder / "prometheus"
    shutil.copytree(PROMETHEUS, configuration, ignore=shutil.ignore_patterns("targets"))
    alertmanager_port, prometheus_port = free_port(), free_port()
    found = {
        "apps": [{"targets": targets, "labels": {"job": "companion"}}],
        "alertmanager": [{"targets": [f"127.0.0.1:{alertmanager_port}"]}],
        "prometheus": [{"targets": [f"127.0.0.1:{prometheus_port}"]}],
    }
    for job, groups in found.items():
        (configuration / "targets" / job).mkdir(parents=True)
        (configuration / "targets" / job / "native.yml").write_text(yaml.safe_dump(groups), encoding="utf-8")
    (folder / "token").write_text("token", encoding="utf-8")
    text = render({}, remediation_url=sink.url, ingest_token_file=str(folder / "token"))
    (folder / "alertmanager.yml").write_text(text, encoding="utf-8")
    shutil.copytree(BASE.parent / "templates", folder / "templates")

    alertmanager = [
        program("alertmanager", "prometheus-alertmanager"),
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'alertmanager-data'}",
        f"--web.listen-address=127.0.0.1:{alertmanager_port}",
        "--cluster.listen-address=",
    ]
    prometheus = [
        program("prometheus"),
        f"--config.file={configuration / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{prometheus_port}",
        "--rules.alert.resend-delay=10s",
    ]
    with (
        server(alertmanager, port=alertmanager_port, log=folder / "alertmanager.log", ready="/-/ready"),
        server(prometheus, port=prometheus_port, log=folder / "prometheus.log", ready="/-/ready") as started,
    ):
        yield started.url


def test_a_gauge_over_its_limit_reaches_the_webhook_within_ten_seconds(tmp_path, capsys):
    """Ten faults at ten moments of the scrape interval; then a dead target; the Watchdog comes by itself."""
    with (
        apps(INSTANCES) as running,
        http_sink() as sink,
        monitoring(tmp_path, [a.address for a in running], sink) as url,
    ):

        def arrived(name, address=None):
            return next(
                (
                    (delivery.at, alert)
                    for delivery, alert in sink.alerts("/api/v1/alerts")
                    if alert["labels"]["alertname"] == name and alert["labels"].get("instance") == address
                ),
                None,
            )

        eventually(lambda: len(query(url, 'up{job="companion"} == 1')) == INSTANCES, what="ten scrapes", seconds=20)
        faults = {}
        for app in running:
            faults[app.address] = time.time()
            app.profiles = 11
            time.sleep(0.7)  # not to wait for anything: to meet the scrapes at ten phases
        first = {
            address: eventually(lambda a=address: arrived("LLMUserProfilesHigh", a), what="the alert", seconds=20)
            for address in faults
        }
        died = time.time()
        running[0].stop()
        down = eventually(lambda: arrived("TargetDown", running[0].address), what="TargetDown", seconds=30)
        watchdog = eventually(lambda: arrived("Watchdog"), what="the Watchdog", seconds=20)
        groups = request(f"{url}/api/v1/rules").json()["data"]["groups"]

    seconds = sorted(at - faults[address] for address, (at, _) in first.items())
    with capsys.disabled():
        sys.stdout.write(
            f"\nfrom gauge to webhook: median {median(seconds):.1f} s, slowest of {INSTANCES} {seconds[-1]:.1f} s;"
            f" from death to webhook: {down[0] - died:.1f} s\n"
        )
    assert seconds[-1] <= FROM_FAULT_TO_WEBHOOK_SECONDS
    assert down[0] - died <= 2 * FROM_FAULT_TO_WEBHOOK_SECONDS
    alert = first[running[3].address][1]
    assert alert["labels"]["remediate"] == "true"
    assert "holds 11 active user profiles" in alert["annotations"]["description"]
    assert f"var-instance={running[3].address.replace(':', '%3A')}" in alert["annotations"]["dashboard_url"]
    assert watchdog[1]["labels"]["severity"] == "none"
    assert [rule["name"] for group in groups for rule in group["rules"] if rule["health"] == "err"] == []
