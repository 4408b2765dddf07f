"""The results as tables, and whether the bars hold."""

import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence

Rounds = Mapping[str, Sequence[Mapping[str, float]]]

OURS = "llmvitals"
PEERS = ("openai-v2", "genai-openai", "OpenLLMetry", "OpenLIT", "LiteLLM")

CALLS = {
    "sync 0": "plain",
    "sync 64": "64 chunks",
    "sync 1024": "1,024 chunks",
    "async 0": "async, plain",
    "async 64": "64 chunks",
    "async 1024": "1,024 chunks",
}
REST = {
    "sync chunk": "a chunk, ns",
    "async chunk": "async, ns",
    "import": "import, ms",
    "kept": "kept, KiB",
    "scrape": "scrape, ms",
    "series": "series",
}


def report(results: Rounds) -> str:
    """Return both tables and the bars, in Markdown."""
    least = {name: _least(rounds) for name, rounds in results.items()}
    rounds = max(map(len, results.values()))
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return "\n".join(
        (
            f"{time.strftime('%Y-%m-%d')}, {machine}; the least of {rounds} round{'s' * (rounds > 1)}",
            "",
            "CPU added per call, in microseconds, and how many times ours that is:",
            "",
            *_table(least, CALLS, ratios=CALLS.keys()),
            "",
            "CPU added per chunk (what a stream's 65th to 1,024th add, each), CPU to import and start over openai and",
            "prometheus_client, memory kept of 20,000 calls, CPU of a scrape after them:",
            "",
            *_table(least, REST, ratios=REST.keys() - {"kept", "series"}),
            "",
            *_bars(least),
        )
    )


def _least(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    least = {key: min(result[key] for result in rounds) for key in rounds[0]}
    for kind in ("sync", "async"):
        if f"{kind} 1024" in least:
            least[f"{kind} chunk"] = (least[f"{kind} 1024"] - least[f"{kind} 64"]) / (1024 - 64) * 1000
    return least


def _table(least: Mapping[str, Mapping[str, float]], columns: Mapping[str, str], ratios: object) -> Iterator[str]:
    yield "| " + " | ".join(("", *columns.values())) + " |"
    yield "|---|" + "---:|" * len(columns)
    own = least.get(OURS, {})
    for name, values in least.items():
        cells = [_cell(values.get(key), own.get(key, 0) if key in ratios else 0) for key in columns]
        yield "| " + " | ".join((name, *cells)) + " |"


def _cell(value: float | None, own: float) -> str:
    if value is None:
        return "-"
    ratio = f" ({value / own:,.1f}x)" if own > 0 else ""
    return f"{value:,.{0 if abs(value) >= 100 or value == int(value) else 1}f}{ratio}"


def _bars(least: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    own = least.get(OURS)
    if own is None:
        return
    yield _bar("a plain call", own["sync 0"], 5, "us")
    yield _bar("a plain async call", own["async 0"], 5, "us")
    best: dict[str, float] = {}
    for key in ("sync 0", "async 0"):
        peers = [values[key] for name, values in least.items() if name in PEERS and key in values]
        if peers:
            best[key] = min(peers) / own[key]
    if best:
        name = f"the best peer's plain call, in ours ({', '.join(f'{ratio:.1f}x' for ratio in best.values())})"
        yield _bar(name, min(best.values()), 9, "x", least=True)
    yield _bar("a chunk", own["sync chunk"], 250, "ns")
    yield _bar("an async chunk", own["async chunk"], 250, "ns")
    yield _bar("import and start, over prometheus_client's", own["bare import"], 60, "ms")
    if (workers := least.get("llmvitals-workers")) is not None:
        yield _bar("many workers, a plain call", workers["sync 0"] / own["sync 0"], 1.5, "x")


def _bar(what: str, value: float, bar: float, unit: str, *, least: bool = False) -> str:
    holds = value >= bar if least else value <= bar
    return f"- {what}: {value:.2f} {unit}, bar {'>=' if least else '<='} {bar} {unit}: {'holds' if holds else 'MISSED'}"
