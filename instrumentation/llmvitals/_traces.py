"""The trace behind a number: OpenTelemetry's, where the application has imported it. We never import it ourselves."""

from sys import modules
from time import time
from typing import Any

OPENTELEMETRY = "opentelemetry.trace"
"""Look for it in ``sys.modules`` before you call `current_trace`: 20 ns are all that an application without it pays."""


def current_trace() -> Any:
    """Return the context of the span that is running here, if that is sampled; else None. Never raises.

    Take it where the work *starts*. A stream ends wherever it is read, closed or collected as garbage, which may be in
    another trace; and whether a span is sampled is known from its start.
    """
    try:
        opentelemetry = modules[OPENTELEMETRY]
        span = opentelemetry.get_current_span()
        if span is opentelemetry.INVALID_SPAN:  # Imported by some library, mostly, and not in use.
            return None
        context = span.get_span_context()
        return context if context.trace_flags & 1 and context.is_valid else None
    except Exception:  # noqa: BLE001 -- half imported, or a span of any make: a number without example is as true
        return None


def exemplify(series: Any, amount: float, trace: Any) -> None:
    """Keep *trace*, from `current_trace`, as what was behind *amount*; nothing where it is None. Never raises."""
    if trace is None:
        return
    try:
        labels = {"trace_id": trace.trace_id.to_bytes(16).hex(), "span_id": trace.span_id.to_bytes(8).hex()}
        series.exemplify(amount, labels, time())
    except Exception:  # noqa: BLE001 -- prometheus_client's own series have no such thing where they are files
        return
