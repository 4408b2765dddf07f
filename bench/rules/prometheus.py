"""A Prometheus that watches applications that are not there, and what it records of them."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from bench.rules.backfill import Series
from bench.rules.instances import ROOT

SCRAPE_SECONDS = 15
SERVICES = 20
# Until the rules have recorded something of each instance.
WARM_SECONDS = 75


def progress(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def wait(seconds: float, what: str) -> None:
    """Until *seconds* are over; says each 15 s how many are left."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        progress(f"{what}: {left:.0f} s left")
        time.sleep(min(15, left))


@contextmanager
def instances() -> Iterator[int]:
    """The process that is all the applications; yields its port."""
    command = [sys.executable, "-m", "bench.rules.instances"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.terminate()


class Prometheus:
    """A server in *folder*, that can be stopped and started again on the same data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "prometheus.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={self.folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self.data}",
                    f"--web.listen-address={self.url.removeprefix('http://')}",
                    "--log.level=warn",
                ],
                stderr=log,
                env={**os.environ, "GOMAXPROCS": "2"},
            )
        deadline = time.monotonic() + 300
        while True:
            if self._process.poll() is not None:
                raise RuntimeError(f"Prometheus has ended: {(self.folder / 'prometheus.log').read_text()[-2000:]}")
            try:
                urllib.request.urlopen(f"{self.url}/-/ready", timeout=5).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(120)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def ask(self, path: str, **parameters: Any) -> Any:
        body = urllib.parse.urlencode(parameters).encode() if parameters else None
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}", body, timeout=150) as answer:
            return json.load(answer)["data"]

    def value(self, query: str) -> float:
        found = self.ask("query", query=query)["result"]
        return float(found[0]["value"][1]) if found else 0.0

    def resident_mb(self) -> float:
        assert self._process is not None
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def cpu_seconds(self) -> float:
        assert self._process is not None
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def configure(folder: Path, port: int, count: int, *, as_shipped: bool) -> None:
    """Prometheus's file, its targets, and the rules."""
    shutil.copytree(ROOT / "prometheus" / "rules", folder / "rules")
    for path in () if as_shipped else (folder / "rules").rglob("*.yml"):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        for group in content["groups"]:
            if group.get("interval") in {"2s", "5s", "10s"}:
                group["interval"] = f"{SCRAPE_SECONDS}s"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
    targets = [
        {
            "targets": [f"127.0.0.1:{port}"],
            "labels": {
                "job": f"service-{number % SERVICES:02}",
                "instance": f"app-{number:05}",
                "__metrics_path__": f"/{number}",
            },
        }
        for number in range(count)
    ]
    (folder / "targets.json").write_text(json.dumps(targets))
    config = {
        "global": {"scrape_interval": f"{SCRAPE_SECONDS}s", "evaluation_interval": f"{SCRAPE_SECONDS}s"},
        "rule_files": [f"rules/{kind.name}/*.yml" for kind in sorted((ROOT / "prometheus" / "rules").iterdir())],
        "scrape_configs": [{"job_name": "apps", "file_sd_configs": [{"files": ["targets.json"]}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))


def recorded(prometheus: Prometheus) -> list[Series]:
    """What is recorded for each service, and of each instance what the overview reads; with their values now."""
    overview = (ROOT / "grafana" / "dashboards" / "llmvitals-overview.json").read_text(encoding="utf-8")
    found: list[Series] = []
    for name in prometheus.ask("label/__name__/values"):
        if name.startswith(("llm:", "job:", "slo:")):
            answer = prometheus.ask("query", query=f'{{__name__="{name}"}}')["result"]
            series = [(one["metric"], float(one["value"][1])) for one in answer]
            found += [one for one in series if "instance" not in one[0] or f"{name}{{" in overview]
    return found
