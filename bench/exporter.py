"""One scrape of the exporter beside one of node_exporter, on the collectors that both have, in one run.

    python bench/exporter.py [--scrapes 300]

Both serve on this machine; scrapes alternate, so that what else the machine does falls on both. Latency is of the whole
HTTP exchange on a kept connection, CPU is the processes' own time, memory their resident size at the end.
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
from collections.abc import Iterator, Sequence
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
BUDGET = {"p50_ms": 3.0, "p99_ms": 10.0, "rss_mb": 40.0}


@dataclass
class Contender:
    name: str
    port: int
    pid: int
    seconds: list[float] = field(default_factory=list)
    body: bytes = b""

    def __post_init__(self) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)

    def scrape(self) -> None:
        started = time.perf_counter()
        self._connection.request("GET", "/metrics")
        self.body = self._connection.getresponse().read()
        self.seconds.append(time.perf_counter() - started)

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def result(self, cpu: float) -> dict[str, float]:
        ordered = sorted(self.seconds)
        resident = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return {
            "series": float(sum(not line.startswith(b"#") for line in self.body.splitlines())),
            "p50_ms": statistics.median(ordered) * 1e3,
            "p99_ms": ordered[int(len(ordered) * 0.99)] * 1e3,
            "cpu_ms": cpu / len(ordered) * 1e3,
            "rss_mb": resident / 1e6,
        }


@contextmanager
def running(name: str, command: Sequence[str], port: int) -> Iterator[Contender]:
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
            yield Contender(name, port, process.pid)
        finally:
            process.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def commands() -> Iterator[tuple[str, list[str], int]]:
    port = free_port()
    ours = [sys.executable, "-m", "llmvitals_exporter", "--port", str(port)]
    yield "llmvitals-exporter", [*ours, "--only", OURS], port
    node_exporter = shutil.which("prometheus-node-exporter") or shutil.which("node_exporter")
    if node_exporter is None:
        print("node_exporter is not installed: nothing to compare with (Debian: prometheus-node-exporter)")
        return
    port = free_port()
    flags = [f"--web.listen-address=127.0.0.1:{port}", "--collector.disable-defaults", "--web.disable-exporter-metrics"]
    flags += [f"--collector.{name}" for name in THEIRS]
    yield "node_exporter", [node_exporter, *flags, "--collector.netdev.device-exclude=^$"], port


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scrapes", type=int, default=300)
    scrapes = parser.parse_args().scrapes
    with ExitStack() as stack:
        contenders = [stack.enter_context(running(*command)) for command in commands()]
        for contender in contenders:
            for _ in range(10):
                contender.scrape()
            contender.seconds.clear()
        before = [contender.cpu_seconds() for contender in contenders]
        for _ in range(scrapes):
            for contender in contenders:
                contender.scrape()
        after = [contender.cpu_seconds() for contender in contenders]
        results = {
            contender.name: contender.result(end - start)
            for contender, start, end in zip(contenders, before, after, strict=True)
        }
    print(f"{scrapes} scrapes each, load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs\n")
    print(f"{'':<20}" + "".join(f"{key:>10}" for key in next(iter(results.values()))))
    for name, result in results.items():
        print(f"{name:<20}" + "".join(f"{value:>10.2f}" for value in result.values()))
    ours, *theirs = results.values()
    if theirs:
        print(f"{'ours / theirs':<20}" + "".join(f"{ours[key] / theirs[0][key]:>10.2f}" for key in ours))
    for key, limit in BUDGET.items():
        print(f"budget {key} <= {limit:g}: {'kept' if ours[key] <= limit else 'MISSED'} ({ours[key]:.2f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
