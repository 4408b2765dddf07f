"""One scrape of 64 workers, fresh and after 1,000 deaths: llmvitals beside prometheus_client's multiprocess mode.

    python bench/workers.py

Each worker records one call in each of three models, and is killed. The same histograms for both; prometheus_client's
by hand, in files that its collector reads. Wall time, median. Each peer is a process of its own.
"""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from urllib.request import urlopen

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

import llmvitals
from llmvitals import catalogue

WORKERS = 64
DEATHS = 1_000
SCRAPES = 31

LABELS = ("chat", "local", "talker", "talker", "127.0.0.1", "8081")


class Service:
    """A process and the workers that it forks; *record* is what each does."""

    def __init__(self, record: Callable[[], None]) -> None:
        self._record = record
        self._pids: list[int] = []
        for _ in range(WORKERS):
            self._fork()

    def let_die(self, deaths: int) -> None:
        for _ in range(deaths):
            self._kill(self._pids.pop(0))
            self._fork()

    def close(self) -> None:
        for pid in self._pids:
            self._kill(pid)

    def _fork(self) -> None:
        ready, done = os.pipe()
        pid = os.fork()
        if pid == 0:
            self._record()
            os.write(done, b"x")
            while True:
                signal.pause()
        os.read(ready, 1)
        os.close(ready)
        os.close(done)
        self._pids.append(pid)

    def _kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def measured(scrape: Callable[[], bytes]) -> tuple[float, bytes]:
    """Milliseconds, and what was shown last."""
    scrape()
    seconds, text = [], scrape()
    for _ in range(SCRAPES):
        start = time.perf_counter()
        text = scrape()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) * 1e3, text


def report(name: str, service: Service, scrape: Callable[[], bytes]) -> None:
    fresh, _ = measured(scrape)
    service.let_die(DEATHS)
    after, text = measured(scrape)
    service.close()
    calls = sum(
        float(line.rpartition(b" ")[2])
        for line in text.splitlines()
        if line.startswith(catalogue.CALL_DURATION.name.encode() + b"_count")
    )
    expected = 3 * (WORKERS + DEATHS)
    print(
        f"{name:18} {fresh:7.1f} ms fresh, {after:7.1f} ms after {DEATHS} deaths: {after / fresh:5.2f}x; "
        f"{calls:.0f} of {expected} calls"
    )


def ours() -> None:
    vitals = llmvitals.start("bench", port=0)

    def record() -> None:
        for number in range(3):
            with vitals.call(provider="local", model=f"talker-{number}") as call:
                call.usage(input_tokens=700, output_tokens=50)

    def scrape() -> bytes:
        with urlopen(f"http://127.0.0.1:{vitals.metrics_port}/metrics") as answer:
            return bytes(answer.read())

    report("llmvitals", Service(record), scrape)
    vitals.close()


def theirs() -> None:
    registry = CollectorRegistry()
    families = (catalogue.CALL_DURATION, catalogue.TOKEN_USAGE)
    duration, tokens = (
        Histogram(family.name, family.help, family.labels, registry=registry, buckets=family.buckets)
        for family in families
    )

    def record() -> None:
        for number in range(3):
            base = (*LABELS[:2], f"talker-{number}", *LABELS[3:])
            duration.labels(*base, "").observe(0.001)
            tokens.labels(*base, "input").observe(700)
            tokens.labels(*base, "output").observe(50)

    shown = CollectorRegistry()
    MultiProcessCollector(shown)  # type: ignore[no-untyped-call]  # untyped there
    report("prometheus_client", Service(record), lambda: generate_latest(shown))


def main() -> None:
    with tempfile.TemporaryDirectory() as files:
        for peer, environment in (("ours", {}), ("theirs", {"PROMETHEUS_MULTIPROC_DIR": files})):
            subprocess.run([sys.executable, __file__, peer], env={**os.environ, **environment}, check=True)


if __name__ == "__main__":
    # Forked with threads alive, as every pre-forking server does that serves its metrics.
    warnings.simplefilter("ignore", DeprecationWarning)
    {"ours": ours, "theirs": theirs}.get(sys.argv[-1], main)()
