"""The contender that a careful programmer writes with prometheus_client alone, around each call."""

import functools
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from openai.resources.chat.completions import AsyncCompletions, Completions
from prometheus_client import CollectorRegistry, Gauge, Histogram

registry = CollectorRegistry()

_LABELS = ("operation", "provider", "request_model", "response_model", "server_address", "server_port")
_SECONDS = [0.01 * 2**n for n in range(17)]

_duration = Histogram("duration_seconds", "Of calls.", (*_LABELS, "error"), registry=registry, buckets=_SECONDS)
_tokens = Histogram("tokens", "Tokens.", (*_LABELS, "type"), registry=registry, buckets=[4.0**n for n in range(14)])
_first = Histogram("first_chunk_seconds", "To the first chunk.", _LABELS, registry=registry, buckets=_SECONDS)
_chunk = Histogram("chunk_seconds", "From chunk to chunk.", _LABELS, registry=registry, buckets=_SECONDS)
_in_flight = Gauge("in_flight", "Calls.", _LABELS[:3], registry=registry)


class _Call:
    def __init__(self, completions: Any, model: str) -> None:
        self._model = model
        self._url = completions._client.base_url
        _in_flight.labels("chat", "openai", model).inc()
        self._started = self._last = time.perf_counter()
        self._per_chunk: Histogram | None = None

    def chunk(self, chunk: Any) -> None:
        now = time.perf_counter()
        if self._per_chunk is None:
            labels = self._labels(chunk)
            self._per_chunk = _chunk.labels(*labels)
            _first.labels(*labels).observe(now - self._started)
        else:
            self._per_chunk.observe(now - self._last)
        self._last = now

    def end(self, reply: Any, error: str = "") -> None:
        labels = self._labels(reply)
        _duration.labels(*labels, error).observe(time.perf_counter() - self._started)
        usage = getattr(reply, "usage", None)
        if usage is not None:
            _tokens.labels(*labels, "input").observe(usage.prompt_tokens)
            _tokens.labels(*labels, "output").observe(usage.completion_tokens)
        _in_flight.labels("chat", "openai", self._model).dec()

    def stream(self, chunks: Iterator[Any]) -> Iterator[Any]:
        chunk = None
        for chunk in chunks:
            self.chunk(chunk)
            yield chunk
        self.end(chunk)

    async def stream_async(self, chunks: AsyncIterator[Any]) -> AsyncIterator[Any]:
        chunk = None
        async for chunk in chunks:
            self.chunk(chunk)
            yield chunk
        self.end(chunk)

    def _labels(self, reply: Any) -> tuple[str, ...]:
        model = getattr(reply, "model", "")
        return ("chat", "openai", self._model, model, self._url.host, str(self._url.port))


def put_in_place() -> None:
    create, create_async = Completions.create, AsyncCompletions.create

    @functools.wraps(create)
    def counted(self: Any, **options: Any) -> Any:
        call = _Call(self, options["model"])
        try:
            reply = create(self, **options)
        except Exception as error:
            call.end(None, type(error).__name__)
            raise
        if options.get("stream"):
            return call.stream(reply)
        call.end(reply)
        return reply

    @functools.wraps(create_async)
    async def counted_async(self: Any, **options: Any) -> Any:
        call = _Call(self, options["model"])
        try:
            reply = await create_async(self, **options)
        except Exception as error:
            call.end(None, type(error).__name__)
            raise
        if options.get("stream"):
            return call.stream_async(reply)
        call.end(reply)
        return reply

    Completions.create, AsyncCompletions.create = counted, counted_async
