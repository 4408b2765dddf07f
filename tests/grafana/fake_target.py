"""
Three services in one small server: ``/companion``, ``/exporter`` and ``/remediation``, with families of the catalogues.

Counters are functions of the time since the start, so that rates are known; a little noise keeps the pictures honest.
"""

import math
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

# Calls per second, by provider and model.
TRAFFIC = {("primary", "talker"): 2.0, ("primary", "thinker"): 0.6, ("backup", "talker"): 0.3}
ERROR_SHARE = 0.02
DURATION_BOUNDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24)
HANDLERS = ("evict_users", "relieve_memory", "speed_profile", "fail_over")


def _wave(t: float, period: float, low: float, high: float) -> float:
    return low + (high - low) * (0.5 + 0.5 * math.sin(2 * math.pi * t / period))


def _line(name: str, value: float, /, **labels: str) -> str:
    inside = ",".join(f'{key}="{text}"' for key, text in labels.items())
    return f"{name}{{{inside}}} {value}\n"


def _histogram(
    name: str, count: float, middle: float, bounds: tuple[float, ...] = DURATION_BOUNDS, /, **labels: str
) -> Iterator[str]:
    """*count* observations around *middle*, spread like a latency."""
    for bound in bounds:
        share = 1 / (1 + (middle / bound) ** 3)
        yield _line(f"{name}_bucket", count * share, **labels, le=str(bound))
    yield _line(f"{name}_bucket", count, **labels, le="+Inf")
    yield _line(f"{name}_sum", count * middle, **labels)
    yield _line(f"{name}_count", count, **labels)


def companion(t: float) -> Iterator[str]:
    for (provider, model), per_second in TRAFFIC.items():
        base = {"gen_ai_operation_name": "chat", "gen_ai_provider_name": provider, "gen_ai_request_model": model}
        full = base | {"gen_ai_response_model": model, "server_address": "127.0.0.1", "server_port": "8081"}
        calls = per_second * t
        middle = 0.4 if model == "talker" else 2.2
        duration = "gen_ai_client_operation_duration_seconds"
        yield from _histogram(duration, calls * (1 - ERROR_SHARE), middle, **full, error_type="")
        yield from _histogram(duration, calls * ERROR_SHARE, 5, **full, error_type="timeout")
        first = "gen_ai_client_operation_time_to_first_chunk_seconds"
        yield from _histogram(first, calls * 0.8, middle / 4, **full)
        for kind, each in (("input", 420), ("output", 130)):
            yield from _histogram(
                "gen_ai_client_token_usage", calls, each, (64.0, 256.0, 1024.0), **full, gen_ai_token_type=kind
            )
        yield _line("llmvitals_calls_in_flight", round(_wave(t, 40, 0, 4)), **base)
        for reason, share in (("completed", 0.95), ("cancelled", 0.04), ("error", 0.01)):
            yield _line("llmvitals_stream_ends_total", calls * 0.8 * share, **base, reason=reason)
    for operation, seconds in (("talker", 0.9), ("thinker", 3.1)):
        bounds = (0.5, 1.0, 2.0, 5.0, 10.0)
        labels = {"operation": operation, "error_type": ""}
        yield from _histogram("llmvitals_operation_duration_seconds", 2 * t, seconds, bounds, **labels)
        yield _line("llmvitals_operation_target_seconds", 2 if operation == "talker" else 5, operation=operation)
    for name in ("llm_primary", "llm_backup"):
        opened = name == "llm_primary" and t % 240 > 200
        for state in ("closed", "open", "half_open"):
            value = float(state == ("open" if opened else "closed"))
            yield _line("llmvitals_circuit_breaker_state", value, name=name, state=state)
        for outcome, rate in (("success", 1.9), ("failure", 0.05), ("rejected", 0.02)):
            yield _line("llmvitals_circuit_breaker_calls_total", rate * t, name=name, outcome=outcome)
    yield _line("llmvitals_retries_total", 0.12 * t, name="llm", error_type="timeout", attempt="1")
    yield _line("llmvitals_retries_exhausted_total", 0.01 * t, name="llm", error_type="timeout")
    for cache, hits, entries, most in (("responses", 0.86, 340, 1000), ("tools", 0.74, 48, 50)):
        yield _line("llmvitals_cache_requests_total", hits * 3 * t, cache=cache, result="hit")
        yield _line("llmvitals_cache_requests_total", (1 - hits) * 3 * t, cache=cache, result="miss")
        yield _line("llmvitals_cache_entries", entries, cache=cache)
        yield _line("llmvitals_cache_max_entries", most, cache=cache)
    used = round(_wave(t, 90, 10, 70))
    yield _line("llmvitals_pool_connections", used, pool="websocket", state="used")
    yield _line("llmvitals_pool_connections", 5, pool="websocket", state="idle")
    yield _line("llmvitals_pool_max_connections", 100, pool="websocket")
    yield _line("llmvitals_user_profiles_active", round(_wave(t, 300, 3, 12)))
    yield _line("llmvitals_user_profiles_limit", 10)
    resident = 150e6 * _wave(t, 400, 1.0, 1.4)
    yield _line("process_resident_memory_bytes", resident)
    yield _line("llmvitals_memory_baseline_bytes", 150e6)
    yield _line("llmvitals_memory_baseline_ratio", resident / 150e6)
    yield from _histogram("llmvitals_asyncio_loop_lag_seconds", 10 * t, 0.004, (0.001, 0.005, 0.01, 0.05), loop="main")
    yield _line("llmvitals_asyncio_loop_blocked_seconds_total", 0.001 * t, loop="main")


def exporter(t: float) -> Iterator[str]:
    for cpu in ("0", "1"):
        busy = 0.35 if cpu == "0" else 0.2
        yield _line("node_cpu_seconds_total", (1 - busy) * t, cpu=cpu, mode="idle")
        yield _line("node_cpu_seconds_total", busy * t, cpu=cpu, mode="user")
    yield _line("node_memory_MemTotal_bytes", 16e9)
    yield _line("node_memory_MemAvailable_bytes", 16e9 * _wave(t, 500, 0.5, 0.6))
    for what, share in (("cpu", 0.03), ("memory", 0.0), ("io", 0.01)):
        yield _line(f"node_pressure_{what}_waiting_seconds_total", share * t)
    yield _line("node_disk_read_bytes_total", 2e5 * t, device="sda")
    yield _line("node_disk_written_bytes_total", 9e5 * t, device="sda")
    for device, rate in (("eth0", 3e5), ("lo", 9e9)):
        yield _line("node_network_receive_bytes_total", rate * t, device=device)
        yield _line("node_network_transmit_bytes_total", rate / 3 * t, device=device)
    for mount, share in (("/", 0.62), ("/data", 0.31)):
        labels = {"device": "/dev/sda1", "fstype": "ext4", "mountpoint": mount}
        yield _line("node_filesystem_size_bytes", 100e9, **labels)
        yield _line("node_filesystem_avail_bytes", 100e9 * (1 - share), **labels)


def remediation(t: float) -> Iterator[str]:
    prefix = "llmvitals_remediation_"
    yield _line(f"{prefix}deliveries_total", 0.05 * t, result="accepted")
    yield _line(f"{prefix}inbox_depth", 0)
    yield _line(f"{prefix}inbox_oldest_seconds", 0)
    for state, count in (("acting", 1), ("verifying", 0), ("holding", 1)):
        yield _line(f"{prefix}incidents", count, state=state)
    for i, handler in enumerate(HANDLERS):
        done = t // (5 + 30 * i)
        yield _line(f"{prefix}incidents_closed_total", done, handler=handler, outcome="remediated")
        yield _line(f"{prefix}attempts_total", done, handler=handler, verdict="effective")
        yield _line(f"{prefix}attempts_total", t // 400, handler=handler, verdict="ineffective")
        yield _line(f"{prefix}gate_refusals_total", t // 130, handler=handler, gate="cooldown")
        yield _line(f"{prefix}relapses_total", 0, handler=handler)
        yield _line(f"{prefix}breaker_open", 0, handler=handler, service="companion")
        bounds = (2.5, 5.0, 7.5, 10.5, 15.5, 30.5)
        yield from _histogram(f"{prefix}time_to_action_seconds", done, 4 + i, bounds, handler=handler)
        yield from _histogram(f"{prefix}time_to_proof_seconds", done, 8 + 2 * i, bounds, handler=handler)
        for mode in ("off", "observe", "approve", "auto"):
            yield _line(f"{prefix}handler_mode", float(mode == "auto"), handler=handler, mode=mode)
    yield _line(f"{prefix}slots_in_use", round(_wave(t, 50, 0, 2)))
    yield _line(f"{prefix}reconcile_last_success_timestamp_seconds", time.time() - t % 30)
    yield _line(f"{prefix}reconcile_found_total", 0)
    yield _line(f"{prefix}kill_switch", 0)
    yield _line(f"{prefix}watchdog_last_seen_timestamp_seconds", time.time() - t % 60)
    yield _line(f"{prefix}handler_errors_total", 0, component="executor")
    yield _line(f"{prefix}agents_connected", 1)


SERVICES = {"companion": companion, "exporter": exporter, "remediation": remediation}


class FakeTarget:
    """A context manager that serves the three services on a free port of 127.0.0.1."""

    def __enter__(self) -> Self:
        # An hour has passed already: counters are not young.
        start = time.time() - 3600

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = "".join(SERVICES[self.path.strip("/")](time.time() - start)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.port = self._server.server_port
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
