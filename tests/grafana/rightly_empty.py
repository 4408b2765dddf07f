"""Panels that say "no data", in words of their own, in a demo that is well: the title, and why."""

_WELL = "nothing has gone wrong"
_NOT_HERE = "the demo has no such thing"
_NOT_OPENED = "nobody has opened a dashboard yet"
_NO_ENGINE = "no vLLM, SGLang, llama.cpp or TGI is named in .env"

_ENGINES = (
    "Requests",
    "Errors",
    "First token p95",
    "Token p95",
    "Output",
    "Waiting",
    "Fullest cache",
    "Requests by engine and model",
    "Broken off or failed",
    "Tokens",
    "Request duration",
    "Request duration: heatmap",
    "Time to first token",
    "Time to first token: heatmap",
    "Time per token",
    "Time per token: heatmap",
    "Running and waiting",
    "Cache of keys and values",
    "Put off for want of cache",
    "Prefixes found in the cache",
    "Input tokens from the cache",
)
#: What is summed over days is summed each minute: these come within a minute and a half.
LATE_PANELS = frozenset(
    {
        "llmvitals-slo / Budget left",
        "llmvitals-slo / Budget that is left",
        "llmvitals-slo / Budget over time",
        "llmvitals-cost / Of a day's budget",
        "llmvitals-cost / Of a month's budget",
        "llmvitals-cost / Day's spending and its budget",
    }
)
ENGINE_PANELS = frozenset(f"llmvitals-llm-servers / {title}" for title in _ENGINES)

RIGHTLY_EMPTY = dict.fromkeys(ENGINE_PANELS, _NO_ENGINE) | {
    "Odd chunks and missing usage": _WELL,
    "Retries by error": _WELL,
    "Retries by their number": _WELL,
    "Wait before a retry": _WELL,
    "Wait before a retry: heatmap": _WELL,
    "Time-outs by phase": _WELL,
    "Profiles evicted": _WELL,
    "Wait for a limit p95": _WELL,
    "Lines of code that grow": _WELL,
    "Events worth remembering": _WELL,
    "Calls without a price": _WELL,
    "Calls without token counts": _WELL,
    "Faults of the instrumentation": _WELL,
    "Parts with a price of their own": "the demo's server of models tells of no cache and no reasoning",
    "CUDA memory as torch has it": _NOT_HERE,
    "Allocations that failed": _NOT_HERE,
    "Errors and drops": _WELL,
    "Questions of dashboards": _NOT_OPENED,
    "Time to an answer": _NOT_OPENED,
    "Rules that fail": _WELL,
    "Alerts by state": _WELL,
    "Notifications to people": _WELL,
    "Memory against the limit": "no limit on memory",
    "What holds the clocks down": "no GPU, or a well one",
    "XID errors by number": "no GPU, or a well one",
    "MIG: memory in use": "no GPU, or none that is divided",
    "Memory of loaded models": "no Ollama is named in .env",
    "Context of loaded models": "no Ollama and no LM Studio is named in .env",
    "New and reused connections": "the openai SDK brings an HTTP client that does not tell",
    "Connections in use": "SQLite has no pool of connections",
    "Memory of workers": "the demo is one process",
}
