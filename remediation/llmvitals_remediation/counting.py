"""Counting what ended, in one place."""

from llmvitals_remediation._metrics import Metrics
from llmvitals_remediation.records import Change


def count_closed(metrics: Metrics, handler: str, change: Change) -> None:
    """Count an incident that *change* closes."""
    if change.outcome is not None:
        metrics.incidents_closed.labels(handler, change.outcome).inc()
