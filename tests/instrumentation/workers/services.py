"""Runs the shop under real servers, and reads what its one address shows."""

import contextlib
import http.client
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from tests.servers import Server, eventually, free_port, request, server

ROOT = Path(__file__).parents[3]
CALLS = "gen_ai_client_operation_duration_seconds_count"
NO_ANSWER = (OSError, http.client.HTTPException)
"""From a worker that is killed before its answer, or amid it."""


@dataclass(slots=True)
class Shop:
    server: Server
    metrics_port: int

    def work(self, path="/work", n=1):
        """Return the process that did it and how much it recorded."""
        pid, amount = request(f"{self.server.url}{path}?n={n}").text.split()
        return int(pid), int(amount)

    def scrape(self):
        return Scrape(self.scraped())

    def scraped(self, timeout=10):
        return request(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=timeout).text

    def await_workers(self, number, seconds=30.0):
        def ready():
            try:
                return self.scrape().value("llmvitals_workers") == number
            except NO_ANSWER:
                return False

        # A scrape is work for all of them, which have enough of it while they start.
        eventually(ready, seconds=seconds, every=number / 100, what=f"{number} workers")


class Scrape:
    def __init__(self, text):
        self.text = text
        self.samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def value(self, name, **labels):
        """The sum of the samples of this name and labels; None when there is none."""
        found = [
            sample.value for sample in self.samples if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return sum(found) if found else None

    def labels(self, name):
        return sorted(tuple(sample.labels.items()) for sample in self.samples if sample.name == name)


@contextlib.contextmanager
def gunicorn(tmp_path, *, workers=2, service="shop", metrics_port=None, **variables):
    """The shop under gunicorn; *variables* are the ones that it reads, without SHOP_."""
    port, metrics_port = free_port(), metrics_port or free_port()
    environment = _environment(
        SHOP_SERVICE=service,
        SHOP_METRICS_PORT=metrics_port,
        SHOP_BIND=f"127.0.0.1:{port}",
        SHOP_WORKERS=workers,
        **{f"SHOP_{name}": value for name, value in variables.items() if name.isupper()},
        **{name: value for name, value in variables.items() if name.startswith("PROMETHEUS")},
    )
    module = "tests.instrumentation.workers.shop"
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "--config",
        "python:tests.instrumentation.workers.gunicorn_conf",
        f"{module}:app",
    ]
    log = tmp_path / f"{service}-{port}.log"
    with server(command, port=port, log=log, ready="/work?n=0", environment=environment) as started:
        yield Shop(started, metrics_port)


@contextlib.contextmanager
def uvicorn(tmp_path, *, workers=2):
    port, metrics_port = free_port(), free_port()
    environment = _environment(SHOP_METRICS_PORT=metrics_port)
    module = "tests.instrumentation.workers.shop"
    command = [sys.executable, "-m", "uvicorn", "--workers", str(workers), "--port", str(port), f"{module}:asgi_app"]
    with server(command, port=port, log=tmp_path / "log", ready="/work?n=0", environment=environment) as started:
        yield Shop(started, metrics_port)


def run(script, *arguments, **variables):
    """Run a Python program to its end, and return what it printed; whatever it writes to stderr fails."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script, *map(str, arguments)],
        env=os.environ | _environment(**variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (0, "") == (done.returncode, done.stderr), done.stderr
    return done.stdout


def faults(log):
    """What llmvitals has warned of."""
    return re.findall(r"llmvitals: .*", log.read_text(errors="replace"))


def _environment(**variables):
    return {"PYTHONPATH": str(ROOT), **{name: str(value) for name, value in variables.items()}}
