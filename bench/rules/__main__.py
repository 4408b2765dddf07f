"""What the rules and the overview cost a Prometheus that watches a thousand instances.

    python -m bench.rules [--instances 1000] [--minutes 30] [--quick] [--as-shipped]

Applications that are not there are scraped each 15 s, 400 series each; all rules of prometheus/rules run; a day of what
they record for each service is back-filled. Then each panel of the overview is asked for that day, as by a browser. Two
budgets: every rule group's p95 within 25 % of its interval, and every panel's p95 within 300 ms.

Groups that the demo evaluates each 2, 5 or 10 s are evaluated each 15 s here, for their data comes no sooner;
--as-shipped leaves them as they are. Prometheus has two cores. --quick: 50 instances and 3 minutes, for the magnitudes.
Times are what a person waits, on a busy machine above all for the others: "chrt -r 1 python -m bench.rules" goes first.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from bench.rules.backfill import HOURS, Series, backfill, step
from bench.rules.instances import ROOT, SERIES
from bench.rules.measure import Groups, panels

SCRAPE_SECONDS = 15
SERVICES = 20
WARM_SECONDS = 75
SHARE_OF_INTERVAL = 0.25
PANEL_SECONDS = 0.3


def progress(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


# --- What runs --------------------------------------------------------------------------------------------------------


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
            self._port = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "prometheus.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={self.folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self.data}",
                    f"--web.listen-address=127.0.0.1:{self._port}",
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
                urllib.request.urlopen(f"http://127.0.0.1:{self._port}/-/ready", timeout=5).close()
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
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/api/v1/{path}", body, timeout=150) as answer:
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
        if name.startswith(("llm:", "slo:")):
            answer = prometheus.ask("query", query=f'{{__name__="{name}"}}')["result"]
            series = [(one["metric"], float(one["value"][1])) for one in answer]
            found += [one for one in series if "instance" not in one[0] or f"{name}{{" in overview]
    return found


# --- The run ----------------------------------------------------------------------------------------------------------


def run(folder: Path, count: int, seconds: float, rounds: int, *, as_shipped: bool) -> bool:
    prometheus = Prometheus(folder)
    with instances() as port:
        configure(folder, port, count, as_shipped=as_shipped)
        try:
            progress(f"{count} instances x {SERIES} series; {WARM_SECONDS} s until the rules have recorded something")
            prometheus.start()
            _wait(WARM_SECONDS, "warming up")
            series = recorded(prometheus)
            begun = time.time() - WARM_SECONDS - 60
            prometheus.stop()
            print(f"back-filled: {len(series):,} recorded series, {HOURS} h, a sample each {step(len(series))} s")
            samples = backfill(prometheus.data, folder, series, begun, progress)
            progress(f"back-filled {samples:,} samples")
            prometheus.start()
            groups = _raw(prometheus, seconds)
            scraped, firing = (prometheus.value(q) for q in ("sum(scrape_samples_scraped)", "count(ALERTS)"))
            print(f"{scraped:,.0f} series scraped, {firing:,.0f} alerts, {prometheus.resident_mb():,.0f} MB resident")
            kept = _tell_groups(groups)
            return _tell_panels(prometheus, rounds) and kept
        finally:
            prometheus.stop()


def _raw(prometheus: Prometheus, seconds: float) -> Groups:
    """Scrapes and evaluates for *seconds*; the groups as they were in the last two thirds."""
    groups = Groups()
    begun, cpu = time.monotonic(), prometheus.cpu_seconds()
    while (elapsed := time.monotonic() - begun) < seconds:
        progress(f"raw samples: {elapsed / 60:.1f} of {seconds / 60:.1f} min")
        time.sleep(min(SCRAPE_SECONDS, seconds - elapsed))
        if time.monotonic() - begun > seconds / 3:
            groups.look(prometheus.ask("rules")["groups"])
    used = (prometheus.cpu_seconds() - cpu) / (time.monotonic() - begun)
    print(f"Prometheus used {used:.2f} cores to scrape and to evaluate")
    return groups


def _tell_groups(groups: Groups) -> bool:
    print(f"\n{'rule group':34} {'interval':>8} {'p95':>9} {'max':>9} {'share':>7}")
    kept = True
    for group in groups.slowest():
        share = group.p95 / group.interval
        kept &= share <= SHARE_OF_INTERVAL
        verdict = _word(share <= SHARE_OF_INTERVAL)
        times = f"{group.p95 * 1e3:6.0f} ms {max(group.seconds) * 1e3:6.0f} ms"
        print(f"{group.name:34} {group.interval:6.0f} s {times} {share:7.1%} {verdict}")
    print(f"budget: every rule group's p95 within {SHARE_OF_INTERVAL:.0%} of its interval: {_word(kept)}")
    return kept


def _tell_panels(prometheus: Prometheus, rounds: int) -> bool:
    print(f"\n{'panel of the overview, over 24 h':34} {'p50':>9} {'p95':>9}")
    kept = True
    found = panels(prometheus.ask, HOURS, SCRAPE_SECONDS, rounds, progress)
    for panel in sorted(found, key=lambda panel: -panel.p95):
        kept &= panel.p95 <= PANEL_SECONDS
        verdict = _word(panel.p95 <= PANEL_SECONDS)
        times = f"{panel.p50 * 1e3:6.0f} ms {panel.p95 * 1e3:6.0f} ms"
        print(f"{panel.title[:34]:34} {times} {verdict}{'' if panel.series else ' (no data)'}")
    print(f"budget: every panel's p95 within {PANEL_SECONDS * 1e3:.0f} ms: {_word(kept)}")
    return kept


def _word(kept: bool) -> str:
    return "pass" if kept else "FAIL"


def _wait(seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        progress(f"{what}: {left:.0f} s left")
        time.sleep(min(15, left))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=None, help="default: 1000, with --quick 50")
    parser.add_argument("--minutes", type=float, default=None, help="of raw samples; default: 30, with --quick 3")
    parser.add_argument("--quick", action="store_true", help="for the magnitudes")
    parser.add_argument("--as-shipped", action="store_true", help="leave the groups' intervals of 2 and 5 s")
    options = parser.parse_args()
    count = options.instances or (50 if options.quick else 1000)
    minutes = options.minutes or (3 if options.quick else 30)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    load = os.getloadavg()[0]
    print(f"{count} instances, {minutes:g} min raw, {os.cpu_count()} cores, load {load:.1f} before")
    with tempfile.TemporaryDirectory(prefix="llmvitals-bench-rules-") as folder:
        try:
            kept = run(Path(folder), count, minutes * 60, 10 if options.quick else 20, as_shipped=options.as_shipped)
        except KeyboardInterrupt:
            progress("stopped; nothing is left")
            return 130
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
