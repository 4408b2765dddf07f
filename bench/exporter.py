"""What one scrape of the exporter costs, beside node_exporter and prometheus_client's own server, in one run.

    python bench/exporter.py [--scrapes 300] [--processes 1000]
    python bench/exporter.py --endurance [--scrapes 100000]

All serve on this machine, on the collectors that both exporters have; scrapes alternate, so that what else the machine
does falls on all (where that is much, "chrt -r 1 python bench/exporter.py" keeps it out of the p99). Latency is of the
whole HTTP exchange, on a kept connection where the server keeps it, CPU is the processes' own time, memory their
resident size at the end. prometheus_client serves what our collectors read, so that what differs is the server and the
encoder.

--endurance scrapes one exporter, with every collector at work, as often as Prometheus would in days, and tells by how
much its memory grew after the first 2,000 scrapes.
"""

import argparse
import http.client
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

THEIRS = [
    "cpu",
    "meminfo",
    "diskstats",
    "filesystem",
    "netdev",
    "loadavg",
    "pressure",
    "vmstat",
    "stat",
    "time",
    "uname",
    "filefd",
    "conntrack",
]
OURS = "cpu,memory,disk,filesystem,network,load,pressure,vmstat,system"
OPENMETRICS = {"Accept": "application/openmetrics-text;version=1.0.0"}
GZIP = {"Accept-Encoding": "gzip"}

#: shared/DESIGN.md's "Budgets", as docs/exporter.md repeats them.
BUDGET = {"p50_ms": 3.0, "p99_ms": 10.0, "rss_mb": 40.0}
INTERVAL_SECONDS = 15.0
CORE_SHARE = 0.01
WARM_UP = 2_000
GROWTH_MB = 2.0


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def verdict(what: str, measured: float, limit: float, unit: str) -> None:
    print(f"budget {what} <= {limit:g} {unit}: {'kept' if measured <= limit else 'MISSED'} ({measured:.2f})")


# --- A server, and what it costs --------------------------------------------------------------------------------------


@dataclass
class Contender:
    """A server at *port*, whose process is *pid*, and how it is asked."""

    name: str
    port: int
    pid: int
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    body: bytes = b""

    def __post_init__(self) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)

    def scrape(self, path: str = "/metrics") -> None:
        started = time.perf_counter()
        self._connection.request("GET", path, headers=dict(self.headers))
        self.body = self._connection.getresponse().read()
        self.seconds.append(time.perf_counter() - started)

    def reconnect(self) -> None:
        self._connection.close()

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_mb(self) -> float:
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def threads_and_files(self) -> tuple[int, int]:
        folder = Path(f"/proc/{self.pid}")
        return len(list((folder / "task").iterdir())), len(list((folder / "fd").iterdir()))

    def result(self, cpu: float) -> dict[str, float]:
        ordered = sorted(self.seconds)
        return {
            "bytes": float(len(self.body)),
            "p50_ms": statistics.median(ordered) * 1e3,
            "p99_ms": ordered[int(len(ordered) * 0.99)] * 1e3,
            "cpu_ms": cpu / len(ordered) * 1e3,
            "rss_mb": self.resident_mb(),
        }


@contextmanager
def running(name: str, command: Sequence[str], port: int, headers: Mapping[str, str]) -> Iterator[Contender]:
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 10
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)
            yield Contender(name, port, process.pid, headers)
        finally:
            process.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def exporter(port: int, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "llmvitals_exporter", "--port", str(port), *arguments]


# --- A scrape ---------------------------------------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, list[str], int, Mapping[str, str]]]:
    for variant, headers in {"": {}, ", OpenMetrics": OPENMETRICS, ", gzip": GZIP}.items():
        port = free_port()
        yield f"llmvitals-exporter{variant}", exporter(port, "--only", OURS), port, headers
    port = free_port()
    own = [sys.executable, str(Path(__file__).resolve()), "--serve-by-prometheus-client", str(port)]
    yield "prometheus_client", own, port, {}
    node_exporter = shutil.which("prometheus-node-exporter") or shutil.which("node_exporter")
    if node_exporter is None:
        progress("node_exporter is not installed: nothing to compare with (Debian: prometheus-node-exporter)")
        return
    port = free_port()
    flags = [f"--web.listen-address=127.0.0.1:{port}", "--collector.disable-defaults", "--web.disable-exporter-metrics"]
    flags += [f"--collector.{name}" for name in THEIRS]
    yield "node_exporter", [node_exporter, *flags, "--collector.netdev.device-exclude=^$"], port, {}


def serve_by_prometheus_client(port: int) -> None:
    """Until killed: our collectors' readings, through prometheus_client's encoder and server."""
    from prometheus_client import start_http_server  # noqa: PLC0415 -- only this mode is a server

    from llmvitals_exporter._options import parse  # noqa: PLC0415
    from llmvitals_exporter._runner import Runner  # noqa: PLC0415
    from llmvitals_exporter._scrape import Scrape  # noqa: PLC0415
    from llmvitals_exporter._site import Site  # noqa: PLC0415

    plan = parse(["--only", OURS], {})
    runner = Runner(plan.collectors, plan.settings, timeout=plan.timeout)
    _, thread = start_http_server(port, "127.0.0.1", Site(Scrape(runner), runner.collectors).registry)
    thread.join()


def names(body: bytes) -> set[str]:
    return {line.split()[2] for line in body.decode().splitlines() if line.startswith("# TYPE ")}


def compare(scrapes: int) -> None:
    with ExitStack() as stack:
        contenders = [stack.enter_context(running(*command)) for command in commands()]
        for contender in contenders:
            for _ in range(20):
                contender.scrape()
            contender.seconds.clear()
        before = [contender.cpu_seconds() for contender in contenders]
        for done in range(scrapes):
            if done % 100 == 0:
                progress(f"{done} of {scrapes} scrapes of each")
            for contender in contenders:
                contender.scrape()
        after = [contender.cpu_seconds() for contender in contenders]
        costs = zip(contenders, before, after, strict=True)
        results = {contender.name: contender.result(end - start) for contender, start, end in costs}
        ours, by_client = contenders[0].body, contenders[3].body
    if names(ours) != names(by_client):
        raise SystemExit(f"not the same families are served: {names(ours) ^ names(by_client)}")
    load = f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs, Python {sys.version.split()[0]}"
    series = sum(not line.startswith(b"#") for line in ours.splitlines())
    print(f"\n{scrapes} scrapes each, {series} series, {load}\n")
    tell(results)


def tell(results: Mapping[str, Mapping[str, float]]) -> None:
    print(f"{'':<32}" + "".join(f"{key:>10}" for key in next(iter(results.values()))))
    for name, result in results.items():
        print(f"{name:<32}" + "".join(f"{value:>10.2f}" for value in result.values()))
    plain = results["llmvitals-exporter"]
    for name in ("prometheus_client", "node_exporter"):
        if name in results:
            print(f"{f'ours / {name}':<32}" + "".join(f"{plain[key] / results[name][key]:>10.2f}" for key in plain))
    for key, limit in BUDGET.items():
        verdict(key.partition("_")[0], plain[key], limit, key.partition("_")[2])


# --- Many processes ---------------------------------------------------------------------------------------------------


def watch_processes(count: int, scrapes: int = 20) -> None:
    """What a scrape of *count* processes costs when all of them are in a watched group, and counted file by file."""
    sleepers: list[subprocess.Popen[bytes]] = []
    try:
        progress(f"starting {count} processes")
        for _ in range(count):
            sleepers.append(subprocess.Popen(["sleep", "600"]))  # noqa: PERF401 -- each is to be ended, come what may
        port = free_port()
        command = exporter(port, "--only", "processes", "--watch", "sleepers=^sleep$", "--collector-timeout", "30")
        with running("processes", command, port, {}) as contender:
            for _ in range(3):
                contender.scrape()
            before = contender.cpu_seconds()
            for _ in range(scrapes):
                contender.scrape()
            cpu = (contender.cpu_seconds() - before) / scrapes
            counted = float(contender.body.partition(b'_processes{group="sleepers"} ')[2].split(b"\n")[0])
    finally:
        for sleeper in sleepers:
            sleeper.kill()
        for sleeper in sleepers:
            sleeper.wait()
    if counted < count:
        raise SystemExit(f"only {counted:g} of {count} processes were counted")
    print(f"\n{count} watched processes: {cpu * 1e3:.1f} ms of CPU a scrape")
    share = f"share of a core at {INTERVAL_SECONDS:g} s"
    verdict(share, 100 * cpu / INTERVAL_SECONDS, 100 * CORE_SHARE, "%")


# --- Days of scrapes --------------------------------------------------------------------------------------------------


def endure(scrapes: int) -> None:
    """Text, OpenMetrics and gzip in turns, on a connection that is made anew now and then.

    Every fourth scrape is of everything; the others leave out what takes three quarters of the time.
    """
    port = free_port()
    everything = ["--nvidia", "demo", "--watch", "me=llmvitals", "--ollama", "http://127.0.0.1:1"]
    headers = [{}, OPENMETRICS, GZIP, OPENMETRICS | GZIP]
    partly = "/metrics?exclude[]=nvidia&exclude[]=ollama&exclude[]=processes"
    with running("llmvitals-exporter", exporter(port, *everything), port, {}) as contender:
        started = time.monotonic()
        first, first_open = 0.0, (0, 0)
        for done in range(scrapes + WARM_UP + 1):
            if done == WARM_UP:
                first, first_open = contender.resident_mb(), contender.threads_and_files()
            if done % 2_000 == 0:
                seconds = time.monotonic() - started
                progress(f"{done} scrapes in {seconds:.0f} s: {contender.resident_mb():.2f} MB resident")
            contender.headers = headers[done % len(headers)]
            contender.scrape(partly if done // len(headers) % 4 else "/metrics")
            contender.seconds.clear()
            if done % 500 == 0:
                contender.reconnect()
        grown = contender.resident_mb() - first
        days = scrapes * INTERVAL_SECONDS / 86_400
        print(f"\n{scrapes} scrapes after {WARM_UP} to warm up: {days:.1f} days of one every {INTERVAL_SECONDS:g} s")
        print(f"resident {first:.2f} MB at first, {contender.resident_mb():.2f} MB in the end")
        print(f"threads and open files: {first_open} at first, {contender.threads_and_files()} in the end")
        verdict("growth", grown, GROWTH_MB, "MB")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scrapes", type=int, help="how many of each (default: 300; with --endurance 100000)")
    parser.add_argument("--processes", type=int, default=1000, help="how many to watch; 0 leaves that part out")
    parser.add_argument("--endurance", action="store_true", help="scrape one exporter for days, in minutes")
    parser.add_argument("--serve-by-prometheus-client", type=int, metavar="PORT", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve_by_prometheus_client is not None:
        serve_by_prometheus_client(given.serve_by_prometheus_client)
    elif given.endurance:
        endure(given.scrapes or 100_000)
    else:
        compare(given.scrapes or 300)
        if given.processes:
            watch_processes(given.processes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
