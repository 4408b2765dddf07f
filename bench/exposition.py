"""Time of one scrape at 10,000 series: llmvitals.exposition against prometheus_client, in one run.

    python bench/exposition.py

Prints the medians and the ratio, after checking that both write the same bytes. Series as an LLM application has
them: histograms of 17 buckets with seven labels, and counters and gauges with three; once in prometheus_client's own
metrics, once in those that llmvitals records into.

Then a scrape as a whole over loopback (encode, compress, send, receive, decompress), for each level of gzip and none.
"""

import http.client
import statistics
import time
import zlib
from collections.abc import Callable
from typing import Any

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.openmetrics import exposition as openmetrics

from llmvitals import catalogue
from llmvitals._series import OwnMetric
from llmvitals.catalogue import Family
from llmvitals.exposition import _respond, encode, encode_openmetrics, serve

SERIES = 10_000
ROUNDS = 30
TRACE = {"trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331"}


def by_prometheus_client(family: Family, registry: CollectorRegistry) -> Any:
    if family.type == "histogram":
        return Histogram(family.name, family.help, family.labels, buckets=family.buckets, registry=registry)
    return (Counter if family.type == "counter" else Gauge)(family.name, family.help, family.labels, registry=registry)


def registry_of(
    series: int, metric: Callable[[Family, CollectorRegistry], Any], *, exemplars: bool = False
) -> CollectorRegistry:
    registry = CollectorRegistry()
    duration, ends, running = (
        metric(family, registry)
        for family in (catalogue.CALL_DURATION, catalogue.USAGE_MISSING, catalogue.CALLS_IN_FLIGHT)
    )
    lines_per_set = len(catalogue.DURATION_BUCKETS) + 3
    for number in range(series * 8 // 10 // lines_per_set):
        child = duration.labels("chat", "openai", f"model-{number}", f"model-{number}-2026", "127.0.0.1", "8081", "")
        for power in range(8):
            child.observe(0.0137 * 2**power)
            if exemplars:
                child.exemplify(0.0137 * 2**power, TRACE, 1_700_000_000.125 + power)
    for number in range(series // 10):
        ends.labels("chat", "openai", f"model-{number}").inc(number * 977)
        running.labels("chat", "openai", f"model-{number}").set(number / 7)
    return registry


def milliseconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000


def main() -> None:
    prometheus_client.disable_created_metrics()
    compare("prometheus_client's metrics", registry_of(SERIES, by_prometheus_client))
    compare("llmvitals' metrics", registry_of(SERIES, OwnMetric))
    compare("llmvitals' metrics, half of the buckets with an exemplar", registry_of(SERIES, OwnMetric, exemplars=True))
    for series in (1_000, SERIES):
        compare_codings(registry_of(series, OwnMetric), series)


def compare(whose: str, registry: CollectorRegistry) -> None:
    lines = [line for line in encode(registry).splitlines() if not line.startswith(b"#")]
    print(f"{whose}: {len(lines)} series, median of {ROUNDS} scrapes")
    print(f"  collect alone          {milliseconds(lambda: list(registry.collect())):7.2f} ms")
    for name, ours, theirs in (
        ("text 0.0.4", encode, prometheus_client.generate_latest),
        ("OpenMetrics 1.0", encode_openmetrics, openmetrics.generate_latest),
    ):
        if ours(registry) != theirs(registry):
            raise SystemExit(f"{name}: the bytes differ")
        ours_ms, theirs_ms = milliseconds(lambda e=ours: e(registry)), milliseconds(lambda e=theirs: e(registry))
        print(
            f"  {name:16} llmvitals {ours_ms:7.2f} ms, prometheus_client {theirs_ms:7.2f} ms, same bytes: "
            f"{theirs_ms / ours_ms:.1f}x"
        )


def compare_codings(registry: CollectorRegistry, series: int) -> None:
    """Levels take turns, so that a noisy neighbour is everybody's."""
    levels: list[int | None] = [None, 1, 2, 3, 4, 5, 6]
    times: dict[int | None, list[float]] = {level: [] for level in levels}
    sizes: dict[int | None, int] = {}
    chosen = _respond.GZIP_LEVEL
    with serve(registry, "127.0.0.1", 0) as server:
        client = http.client.HTTPConnection(server.host, server.port, timeout=10)
        for _ in range(ROUNDS):
            for level in levels:
                _respond.GZIP_LEVEL = chosen if level is None else level
                start = time.perf_counter()
                client.request("GET", "/metrics", headers={"Accept-Encoding": "identity" if level is None else "gzip"})
                body = client.getresponse().read()
                if level is not None:
                    zlib.decompress(body, _respond.GZIP_FORMAT)
                times[level].append(time.perf_counter() - start)
                sizes[level] = len(body)
        client.close()
    _respond.GZIP_LEVEL = chosen
    print(f"a scrape of {series} series over loopback, median of {ROUNDS}")
    for level in levels:
        what = "plain" if level is None else f"gzip {level}{' (used)' if level == chosen else ''}"
        print(f"  {what:14} {statistics.median(times[level]) * 1000:7.2f} ms, {sizes[level]:9,} bytes")


if __name__ == "__main__":
    main()
