"""SQLite under everything: WAL, FULL, one writer thread, one writing process."""

from llmvitals_remediation.store._deliveries import Event, Receipt
from llmvitals_remediation.store._store import Store

__all__ = ["Event", "Receipt", "Store"]
