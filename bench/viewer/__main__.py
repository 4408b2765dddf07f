"""How long a person waits for the overview of 24 hours: from the navigation until what is on the screen is drawn.

    python -m bench.viewer [--runs 10] [--quick] [--prometheus-url http://127.0.0.1:9090]

A Prometheus of its own scrapes 40 applications of 20 services that are not there, with all rules, and has a day of what
they record back-filled; or it is the one of --prometheus-url. The stack's server serves the built viewer, and headless
Chromium, 1440 by 900, opens the overview: cold in a browser that has never seen the page, warm in one that has. The
budget: the first screen within 2 s, cold, on two cores.

Times are what a person waits; on a busy machine "chrt -r 1 python -m bench.viewer" lets all that is measured go first.
"""

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.rules.backfill import HOURS, backfill, step
from bench.rules.instances import ROOT
from bench.rules.measure import quantile
from bench.rules.prometheus import WARM_SECONDS, Prometheus, configure, instances, progress, recorded, wait
from bench.viewer.page import Load, cold, warm

from llmvitals_stack.viewer_build import ensure_built

INSTANCES = 40
FIRST_SCREEN_MS = 2_000
ROWS = {
    "paint": "something is painted",
    "frame": "the panels' frames are there",
    "first": "the first screen is drawn",
    "all": "all panels are drawn",
}


@contextmanager
def filled(folder: Path) -> Iterator[str]:
    """A Prometheus with a day of data; yields its URL."""
    prometheus = Prometheus(folder)
    with instances() as port:
        configure(folder, port, INSTANCES, as_shipped=False)
        try:
            prometheus.start()
            wait(WARM_SECONDS, "warming up")
            series = recorded(prometheus)
            begun = time.time() - WARM_SECONDS - 60
            prometheus.stop()
            backfill(prometheus.data, folder, series, begun, progress)
            print(f"back-filled: {len(series):,} series, {HOURS} h, a sample each {step(len(series))} s")
            prometheus.start()
            # The first evaluations after a start are slower than all that follow.
            wait(30, "settling")
            yield prometheus.url
        finally:
            prometheus.stop()


@contextmanager
def served(prometheus_url: str) -> Iterator[str]:
    """The viewer, as the stack runs it."""
    dist = ensure_built(ROOT)
    if isinstance(dist, str):
        raise SystemExit(f"the viewer cannot be built: {dist}")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "llmvitals_stack.viewer", "--port", str(port), "--prometheus-url", prometheus_url]
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            _wait_for(f"http://127.0.0.1:{port}/healthz", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def measure(prometheus_url: str, uid: str, runs: int, picture: Path | None) -> bool:
    with served(prometheus_url) as url:
        page = f"{url}/d/{uid}?from=now-{HOURS}h&to=now&refresh="
        progress(f"cold, {runs} times")
        first = cold(page, runs, picture)
        progress(f"warm, {runs} times")
        later = warm(page, runs)
    one = first[0]
    print(f"{one.panels} panels, {one.drawn} with data, {one.failed} failed; {one.requests} questions to Prometheus,")
    print(f"{one.transferred / 1e6:.1f} MB transferred cold, {later[0].transferred / 1e6:.1f} MB warm")
    print(f"\n{'milliseconds after the navigation':34} {'cold p50':>9} {'p95':>7} {'warm p50':>9} {'p95':>7}")
    for name, words in ROWS.items():
        print(f"{words:34} {_told(first, name)} {_told(later, name)}")
    worst = quantile([load.first for load in first], 0.95)
    kept = worst <= FIRST_SCREEN_MS and all(load.failed == 0 for load in [*first, *later])
    print(f"\nbudget: the first screen's p95, cold, within {FIRST_SCREEN_MS} ms: {'pass' if kept else 'FAIL'}")
    return kept


def _told(loads: Sequence[Load], name: str) -> str:
    times = [getattr(load, name) for load in loads]
    return f"{statistics.median(times):9,.0f} {quantile(times, 0.95):7,.0f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=None, help="default: 10, with --quick 3")
    parser.add_argument("--quick", action="store_true", help="for the magnitudes")
    parser.add_argument("--prometheus-url", help="instead of one of its own")
    parser.add_argument("--uid", default="llmvitals-overview", help="of the dashboard (default: %(default)s)")
    parser.add_argument("--picture", type=Path, help="a PNG of the first screen, to look at")
    options = parser.parse_args()
    runs = options.runs or (3 if options.quick else 10)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before")
    try:
        if options.prometheus_url:
            return 0 if measure(options.prometheus_url, options.uid, runs, options.picture) else 1
        with tempfile.TemporaryDirectory(prefix="llmvitals-bench-viewer-") as folder, filled(Path(folder)) as url:
            return 0 if measure(url, options.uid, runs, options.picture) else 1
    except KeyboardInterrupt:
        progress("stopped; nothing is left")
        return 130


if __name__ == "__main__":
    sys.exit(main())
