"""Applications that are not there: one process that answers the scrapes of thousands, each with its own counters.

    python -m bench.rules.instances

Prints its port; `/17` there is the page of instance 17. What it shows are the library's own families, first those that
rules and the overview read. Counters grow with the time, histograms fill as calls of about a second would fill them.
Little has gone wrong, but caches miss half of what they are asked for: each instance has an alert.
"""

import argparse
import asyncio
import contextlib
import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llmvitals.catalogue import FAMILIES

ROOT = Path(__file__).parents[2]
SERIES = 400
_MODELS = ("talker", "thinker")
_VALUES = {
    "gen_ai_operation_name": "chat",
    "gen_ai_provider_name": "primary",
    "gen_ai_request_model": "talker",
    "gen_ai_response_model": "talker-2026-01",
    "gen_ai_token_type": "output",
    "server_address": "llm.example.org",
    "server_port": "443",
    "error_type": "",
    "reason": "complete",
    "name": "llm_primary",
    "outcome": "success",
    "state": "closed",
    "result": "hit",
    "http_response_status_code": "200",
    "http_request_method": "POST",
    "http_route": "/v1/chat",
    "url_scheme": "http",
    "check": "llm_primary",
}
_STATES = {
    "llmvitals_circuit_breaker_state": ("closed", "half_open", "open"),
    "llmvitals_pool_connections": ("used", "idle"),
}
_NOT_NOW = {"half_open", "open"}
# Where 1 would be a trouble.
_GAUGES = {
    "llmvitals_user_profiles_active": 5.0,
    "llmvitals_user_profiles_limit": 10.0,
    "llmvitals_operation_target_seconds": 30.0,
    "llmvitals_pool_max_connections": 20.0,
    "llmvitals_cache_entries": 400.0,
    "llmvitals_cache_max_entries": 1000.0,
    "llmvitals_semantic_memory_search_target_seconds": 30.0,
    "llmvitals_semantic_memory_documents": 500.0,
    "llmvitals_semantic_memory_max_documents": 100_000.0,
    "llmvitals_module_overdue": 0.0,
    "llmvitals_module_timeout_seconds": 60.0,
    "llmvitals_pool_pending_requests": 0.0,
    "llmvitals_batch_queue_depth": 0.0,
    "llmvitals_batch_max_items": 50.0,
    "llmvitals_cleanup_interval_seconds": 3600.0,
    "llmvitals_shutdown_in_progress": 0.0,
    "llmvitals_memory_baseline_bytes": 2e8,
    "process_resident_memory_bytes": 2.2e8,
    "process_max_fds": 65_536.0,
    "process_open_fds": 100.0,
    "node_memory_MemAvailable_bytes": 6e9,
    "node_memory_MemTotal_bytes": 8e9,
    "node_filesystem_avail_bytes": 6e10,
    "node_filesystem_size_bytes": 1e11,
    "llmvitals_gpu_utilization_ratio": 0.5,
    "llmvitals_gpu_memory_used_bytes": 4e10,
    "llmvitals_gpu_memory_total_bytes": 8e10,
    "llmvitals_gpu_temperature_celsius": 60.0,
    "llmvitals_gpu_power_watts": 300.0,
}
# What the panels and alerts of hosts and GPUs read; each instance brings its own host, with one GPU.
_HOST_COUNTERS = (
    *(f'node_cpu_seconds_total{{cpu="{cpu}",mode="{mode}"}}' for cpu in range(2) for mode in ("idle", "user")),
    'node_disk_read_bytes_total{device="vda"}',
    'node_disk_written_bytes_total{device="vda"}',
    'node_network_receive_bytes_total{device="eth0"}',
    'node_network_transmit_bytes_total{device="eth0"}',
    *(f"node_pressure_{what}_waiting_seconds_total" for what in ("cpu", "memory", "io")),
)
_HOST_GAUGES = (
    "node_memory_MemAvailable_bytes",
    "node_memory_MemTotal_bytes",
    'node_filesystem_avail_bytes{device="vda1",fstype="ext4",mountpoint="/"}',
    'node_filesystem_size_bytes{device="vda1",fstype="ext4",mountpoint="/"}',
    *(
        f'llmvitals_gpu_{what}{{gpu="0"}}'
        for what in ("utilization_ratio", "memory_used_bytes", "memory_total_bytes", "power_watts")
    ),
    'llmvitals_gpu_temperature_celsius{gpu="0",sensor="gpu"}',
)


@dataclass(frozen=True, slots=True)
class Line:
    """One series: *text* before the value, which is *base*, and for a counter *per_second* more each second."""

    text: str
    base: float
    per_second: float = 0.0


def page(series: int = SERIES) -> list[Line]:
    """One instance's lines, without comments; about *series* of them."""
    lines = [Line(text, 1e6, 0.1) for text in _HOST_COUNTERS]
    lines += [Line(text, _GAUGES[text.partition("{")[0]]) for text in _HOST_GAUGES]
    for family in sorted(FAMILIES, key=lambda family: family.name not in _read_somewhere()):
        its = list(_family(family.name, family.type, family.labels, family.buckets))
        if len(lines) + len(its) <= series:
            lines += its
    return lines


def _read_somewhere() -> frozenset[str]:
    """The families that a rule or the overview reads."""
    files = [
        *(ROOT / "prometheus" / "rules").rglob("*.yml"),
        ROOT / "grafana" / "dashboards" / "llmvitals-overview.json",
    ]
    words = {word for path in files for word in re.findall(r"\w+", path.read_text(encoding="utf-8"))}
    return frozenset(re.sub(r"_(bucket|sum|count)$", "", word) for word in words) | words


def _family(name: str, kind: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Iterator[Line]:
    for chosen in _children(name, labels):
        inside = ",".join(f'{label}="{value}"' for label, value in chosen.items())
        rate = 0.01 if chosen.get("error_type") else 1.0
        if kind == "histogram":
            for bound in (*buckets, math.inf):
                share = 1 - math.exp(-bound * (20 if "wait" in name else 1))
                le = "+Inf" if bound == math.inf else repr(float(bound))
                both = ",".join(part for part in (inside, f'le="{le}"') if part)
                yield Line(f"{name}_bucket{{{both}}}", 100 * share, rate * share)
            yield Line(f"{name}_sum{{{inside}}}", 100, rate)
            yield Line(f"{name}_count{{{inside}}}", 100, rate)
        elif kind == "counter":
            bad = re.search(
                "error|fail|retries|fallback|reject|dropped|weak|oom|unpriced|missing|odd|exhausted|block", name
            )
            yield Line(f"{name}{{{inside}}}", 100, 0.0 if bad else rate * (1e-4 if "usd" in name else 1.0))
        else:
            yield Line(f"{name}{{{inside}}}", 0.0 if chosen.get("state") in _NOT_NOW else _gauge(name))


def _children(name: str, labels: tuple[str, ...]) -> Iterator[dict[str, str]]:
    plain = {label: _VALUES.get(label, "main") for label in labels}
    if name in _STATES:
        yield from ({**plain, "state": state} for state in _STATES[name])
        return
    yield plain
    if name in {"gen_ai_client_operation_duration_seconds", "gen_ai_client_operation_time_to_first_chunk_seconds"}:
        yield {**plain, "gen_ai_request_model": "thinker", "gen_ai_response_model": "thinker-2026-01"}
    if name == "gen_ai_client_operation_duration_seconds":
        yield {**plain, "error_type": "500"}
    if "result" in labels:
        yield {**plain, "result": "miss"}


def _gauge(name: str) -> float:
    if name.endswith("_timestamp_seconds") or name == "process_start_time_seconds":
        return time.time()
    return _GAUGES.get(name, 1.0)


class Instances:
    """Answers ``GET /<number>`` with that instance's page; connections are kept."""

    def __init__(self, lines: list[Line]) -> None:
        self._lines = lines
        self._begun = time.monotonic()

    def body(self, number: int) -> bytes:
        elapsed = (time.monotonic() - self._begun) * (1 + number % 5)
        return "".join(
            f"{line.text} {line.base + line.per_second * elapsed:.6g}\n"
            if line.per_second
            else f"{line.text} {line.base!r}\n"
            for line in self._lines
        ).encode()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                body = self.body(int(head.split(b" ", 2)[1].lstrip(b"/") or 0))
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n"
                    b"Content-Length: %d\r\n\r\n" % len(body)
                )
                writer.write(body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=SERIES, help="of each instance")
    options = parser.parse_args()
    server = await asyncio.start_server(Instances(page(options.series)).serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main())
