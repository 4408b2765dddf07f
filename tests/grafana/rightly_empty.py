"""Panels that say "no data", in words of their own, in a demo that is well: the title, and why."""

_WELL = "nothing has gone wrong"
_NOT_HERE = "the demo has no such thing"

RIGHTLY_EMPTY = {
    "Odd chunks and missing usage": _WELL,
    "Retries by error": _WELL,
    "Retries by their number": _WELL,
    "Wait before a retry": _WELL,
    "Wait before a retry: heatmap": _WELL,
    "Time-outs by phase": _WELL,
    "Evicted by reason": _WELL,
    "Lines of code that grow": _WELL,
    "Events worth remembering": _WELL,
    "Calls without a price": _WELL,
    "Calls without token counts": _WELL,
    "Faults of the instrumentation": _WELL,
    "Parts with a price of their own": "the demo's server of models tells of no cache and no reasoning",
    "CUDA memory as torch has it": _NOT_HERE,
    "Allocations that failed": _NOT_HERE,
    "New and reused connections": "the openai SDK brings an HTTP client that does not tell",
    "Tools, agents and workflows": _NOT_HERE,
    "Tools, agents and workflows p95": _NOT_HERE,
    "Connections in use": "SQLite has no pool of connections",
    "Hit ratio by tier": "no Redis is started",
    "Tiers that answer": "no Redis is started",
    "Falling back to the local tier": "no Redis is started",
    "Workers": "the demo is one process",
}
