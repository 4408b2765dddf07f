"""From `.env` to a series: LLM servers that have metrics, scraped by a real Prometheus with our configuration."""

import contextlib
import http.server
import subprocess
import threading
from pathlib import Path

import pytest
import yaml
from tests import servers

from llmvitals_stack import render
from llmvitals_stack.programs import Tools, programs
from llmvitals_stack.settings import Settings, ensure, load

ROOT = Path(__file__).parents[2]
ENGINES = Path(__file__).parent / "engines"
#: What each engine's own page shows, by its job: a gauge and a counter.
SERIES = {
    "vllm": ("vllm:num_requests_running", "vllm:request_success_total"),
    "sglang": ("sglang:num_running_reqs", "sglang:num_requests_total"),
    "llamacpp": ("llamacpp:requests_processing", "llamacpp:tokens_predicted_total"),
    "tgi": ("tgi_queue_size", "tgi_request_count"),
}

pytestmark = pytest.mark.stack


@contextlib.contextmanager
def engine(name):
    """An HTTP server that shows an engine's metrics where that engine does, and its address."""
    page = (ENGINES / f"{name}.prom").read_bytes()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/metrics" else 404)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(page if self.path == "/metrics" else b"")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(name="settings")
def _settings(tmp_path):
    for name in ("prometheus", "alertmanager", "remediation", ".env.example"):
        (tmp_path / name).symlink_to(ROOT / name)
    ensure(tmp_path)
    return load(tmp_path)


def with_servers(settings, addresses):
    named = {f"LLMVITALS_{name.upper()}_TARGETS": address for name, address in addresses.items()}
    port = {"LLMVITALS_PROMETHEUS_PORT": str(servers.free_port())}
    return Settings(settings.root, {**settings.values, **named, **port})


def hurried(settings):
    """Prometheus's folder as `make up` writes it, but for intervals of a second: a test waits for the first scrape."""
    render.prometheus_folder(settings)
    path = settings.run / "prometheus" / "prometheus.yml"
    text = path.read_text()
    assert "scrape_interval: 5s" in text
    path.write_text(text.replace("scrape_interval: 5s", "scrape_interval: 1s").replace("timeout: 5s", "timeout: 1s"))


def test_servers_named_in_env_are_scraped(settings):
    """Each engine's metrics come in under its own job, and an empty or missing server hides no other."""
    with contextlib.ExitStack() as stack:
        addresses = {name: stack.enter_context(engine(name)) for name in SERIES}
        gone = f"127.0.0.1:{servers.free_port()}"
        settings = with_servers(settings, {**addresses, "vllm": f"{addresses['vllm']}, {gone}"})
        hurried(settings)
        tools = Tools(Path(servers.program("prometheus")), Path("alertmanager"))
        command = next(program.command for program in programs(settings, tools) if program.name == "prometheus")
        prometheus = stack.enter_context(
            servers.server(
                command,
                port=settings.port("PROMETHEUS"),
                log=settings.root / "prometheus.log",
                ready="/-/ready",
            )
        )

        def found(query):
            return {
                (answer["metric"]["job"], answer["metric"]["instance"]): answer["value"][1]
                for answer in servers.query(prometheus.url, query)
            }

        for name, series in SERIES.items():
            for one in series:
                servers.eventually(lambda one=one: found(one), what=one)
                assert {(name, addresses[name])} == found(one).keys()
        assert {("vllm", gone): "0"} == servers.eventually(
            lambda: found(f'up{{instance="{gone}"}}'), what="the missing server"
        )


def test_promtool_takes_the_configuration_with_servers(settings):
    """With LLM servers named, natively and for containers, the configuration and the files it names are right."""
    settings = with_servers(settings, {"vllm": "[::1]:8000,gpu-box:8000", "tgi": "127.0.0.1:3000"})
    render.prometheus_folder(settings)
    folder = settings.run / "prometheus"
    for targets in (None, render.compose_targets_folder(settings) / "llm-servers.yml"):
        if targets is not None:
            (folder / "targets" / "env" / "llm-servers.yml").write_text(targets.read_text())
        told = subprocess.run(
            ["promtool", "check", "config", folder / "prometheus.yml"], capture_output=True, text=True, check=False
        )

        assert 0 == told.returncode, told.stdout + told.stderr


@pytest.mark.parametrize("name", SERIES)
def test_fixtures_are_expositions_of_what_our_rules_read(name):
    """What an engine is said to show parses, says that it is written, and has what our rules read of it."""
    text = (ENGINES / f"{name}.prom").read_text()
    read = yaml.safe_load((ROOT / "prometheus" / "third-party.yml").read_text())
    prefix = SERIES[name][0].partition(":")[0] + ":"
    names = {family for source in read for family in source["families"] if family.startswith(prefix)}
    told = subprocess.run(
        ["promtool", "check", "metrics"], input=text.partition("\n")[2], capture_output=True, text=True, check=False
    )

    assert text.startswith("# Written from ")
    assert "error while linting" not in told.stderr
    assert names <= {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")}
