"""The page of metrics that a vLLM server has: of what this provider really served, and of what its dials say."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from faulty_llm._text import count_tokens

if TYPE_CHECKING:
    from faulty_llm._provider import Provider

__all__ = ["Engine", "routes"]

_LABELS = ("model_name", "engine")
_BLOCK_TOKENS = 16
#: A cache as full as this puts a running request back, each second.
_FULL = 0.95
#: A request that runs takes so much of it.
_USED_BY_ONE = 0.04
_SECONDS = (0.001, 0.01, 0.02, 0.04, 0.08, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Engine:
    """Counts of one provider under vLLM's names."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._running = self._gauge("num_requests_running", "Number of requests in model execution batches.")
        self._waiting = self._gauge("num_requests_waiting", "Number of requests waiting to be processed.")
        self._cache = self._gauge("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.")
        self._preempted = self._counter("num_preemptions", "Cumulative number of preemptions from the engine.")
        self._prompt = self._counter("prompt_tokens", "Number of prefill tokens processed.")
        self._generated = self._counter("generation_tokens", "Number of generation tokens processed.")
        self._asked = self._counter("prefix_cache_queries", "Prefix cache queries, in number of tokens.")
        self._hit = self._counter("prefix_cache_hits", "Prefix cache hits, in number of tokens.")
        self._ended = Counter(
            "vllm:request_success",
            "Count of successfully processed requests.",
            (*_LABELS, "finished_reason"),
            registry=self._registry,
        )
        self._first_token = self._histogram("time_to_first_token_seconds", "time to first token")
        self._between = self._histogram("inter_token_latency_seconds", "inter-token latency")
        self._whole = self._histogram("e2e_request_latency_seconds", "e2e request latency")
        self._last_prompt: dict[str, str] = {}
        self._read = time.monotonic()

    def admitted(self, model: str, prompt: str) -> None:
        """Look the *prompt* up in the cache, which has the last one, in whole blocks."""
        common = count_tokens(_common(prompt, self._last_prompt.get(model, "")))
        self._last_prompt[model] = prompt
        self._asked.labels(model, "0").inc(count_tokens(prompt))
        self._hit.labels(model, "0").inc(common // _BLOCK_TOKENS * _BLOCK_TOKENS)

    def ended(self, model: str, reason: str, *, prompt: int, generated: int) -> None:
        self._prompt.labels(model, "0").inc(prompt)
        self._generated.labels(model, "0").inc(generated)
        self._ended.labels(model, "0", reason).inc()

    def timed(self, model: str, *, process: float, generation: float, tokens: int) -> None:
        """The durations of a request that ran to its end."""
        self._first_token.labels(model, "0").observe(process)
        self._whole.labels(model, "0").observe(process + generation)
        for _ in range(1, tokens):
            self._between.labels(model, "0").observe(generation / tokens)

    def page(self, provider: Provider) -> bytes:
        now = time.monotonic()
        passed, self._read = now - self._read, now
        for model in provider.models:
            dials = provider.dials.for_model(model)
            running = provider.ledger.of(model).in_flight
            used = max(dials.kv_cache_usage, min(0.9, _USED_BY_ONE * running))
            self._running.labels(model, "0").set(running)
            self._waiting.labels(model, "0").set(dials.requests_waiting)
            self._cache.labels(model, "0").set(used)
            self._preempted.labels(model, "0").inc(passed if used > _FULL else 0)
        return generate_latest(_Loaded(self._registry, provider.loaded))

    def _gauge(self, name: str, help_: str) -> Gauge:
        return Gauge(f"vllm:{name}", help_, _LABELS, registry=self._registry)

    def _counter(self, name: str, help_: str) -> Counter:
        return Counter(f"vllm:{name}", help_, _LABELS, registry=self._registry)

    def _histogram(self, name: str, what: str) -> Histogram:
        help_ = f"Histogram of {what} in seconds."
        return Histogram(f"vllm:{name}", help_, _LABELS, buckets=_SECONDS, registry=self._registry)


def _common(text: str, other: str) -> str:
    return "".join(
        one for one, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(text, other, strict=False))
    )


class _Loaded(Collector):
    """Of a registry, what is about these models: one that is not there has no series."""

    def __init__(self, registry: CollectorRegistry, models: tuple[str, ...]) -> None:
        self._registry = registry
        self._models = models

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if sample.labels["model_name"] in self._models]
            yield metric


def routes(provider: Provider) -> list[Route]:
    async def metrics(request: Request) -> Response:  # noqa: ARG001 -- the router passes it
        return Response(provider.engine.page(provider), media_type="text/plain; version=0.0.4")

    return [Route("/metrics", metrics, methods=["GET"])]
