"""What alerts that look back compare with, written into the demo's Prometheus before it starts; and their faults."""

import itertools
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.stack.demo_world import Undo, World
from tests.stack.fault import Fault

from llmvitals_stack.settings import Settings

_STEP = 60
_DAY = 86_400
#: Around this time of yesterday: the alerts' windows, and how long the faults take.
_AROUND = 5400
#: A service that is up today, and asks nothing.
QUIET = "yesterdays-service"
_GPU1 = "GPU-00000000-0000-0000-0000-000000000001"

Value = Callable[[int], float]


def fill(settings: Settings) -> None:
    """Writes the blocks; nothing may run in this checkout yet."""
    data = settings.run / "prometheus-data"
    data.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="llmvitals-yesterday-") as folder:
        page = Path(folder) / "page.om"
        page.write_text("".join(_page(settings, int(time.time()))), encoding="utf-8")
        command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "--quiet", str(page), str(data)]
        subprocess.run(command, check=True, capture_output=True, text=True)
    # What was idle for the last hour is so when the demo starts.
    (settings.run / "gpu-faults").write_text("gpu1 idle\n", encoding="utf-8")


def _page(settings: Settings, now: int) -> Iterator[str]:
    def series(text: str, start: int, end: int, value: Value) -> Iterator[str]:
        for moment in range(start, end, _STEP):
            yield f"{text} {value(moment - start):g} {moment}\n"

    begin, end = now - _DAY - _AROUND, now - _DAY + _AROUND
    calls = "gen_ai_client_operation_duration_seconds_count"
    # A call in a quarter of an hour, for a thousandth of a cent.
    yield from series(f'{calls}{{job="companion",instance="yesterday"}}', begin, end, lambda passed: passed // 900)
    spent = 'llmvitals_cost_usd_total{job="companion",instance="yesterday"}'
    yield from series(spent, begin, end, lambda passed: passed // 900 * 1e-5)
    # A call each ten seconds.
    yield from series(f'{calls}{{job="{QUIET}",instance="yesterday"}}', begin, end, lambda passed: passed / 10)
    # A cache that answered nine of ten.
    for name, value in (("lookups", 100), ("hits", 90)):
        cache = f'llm:job_cache_{name}:sum1m{{job="companion",cache="responses"}}'
        yield from series(cache, begin, end, lambda _, value=value: value)
    prometheus = f'prometheus_tsdb_head_series{{job="prometheus",instance="127.0.0.1:{settings.port("PROMETHEUS")}"}}'
    yield from series(prometheus, begin, end, lambda _: 6000)

    card = f'{{job="exporter",instance="127.0.0.1:{settings.port("EXPORTER")}",uuid="{_GPU1}"}}'
    begin, end = now - 2 * 3600, now - _STEP
    yield from series(f"llmvitals_gpu_utilization_ratio{card}", begin, end, lambda _: 0.0)
    for name, value in (("used", 30e9), ("total", 150.7e9)):
        yield from series(f"llmvitals_gpu_memory_{name}_bytes{card}", begin, end, lambda _, value=value: value)
    yield "# EOF\n"


def _new_series(count: int) -> Callable[[], str]:
    """A page that has so many series for five scrapes; Prometheus' head keeps them for two hours."""
    served = itertools.count()
    page = "".join(f'fault_new_series{{number="{number}"}} 1\n' for number in range(count))
    return lambda: page if next(served) < 5 else ""


def _many_new_series(world: World) -> Undo:
    undo = [world.target(f"new-series-{name}", _new_series(26_000)) for name in ("a", "b")]

    def stop() -> None:
        for one in undo:
            one()

    return stop


def _new_questions(world: World) -> Undo:
    return world.repeat(lambda _: world.ask(f"What is new at {time.time_ns()}?"), 0.3)


def _mostly_new_questions(world: World) -> Undo:
    """More than the demo's people ask, who often ask the same."""
    stops = [_new_questions(world) for _ in range(4)]

    def undo() -> None:
        for stop in stops:
            stop()

    return undo


def _nothing(_: World) -> Undo:
    return lambda: None


YESTERDAY_FAULTS = (
    Fault(
        "there were 6,000 series yesterday (back-filled), and 52,000 new ones come",
        ("PrometheusSeriesGrowth",),
        0,
        2520,
        _many_new_series,
    ),
    Fault(
        "a service that asked yesterday (back-filled) is up, and asks nothing",
        ("LLMNoTraffic",),
        0,
        1800,
        # Scraped as seldom as an exporter: a single scrape that fails on a busy machine would start the wait anew.
        lambda world: world.target(QUIET, lambda: "started 1\n", like="exporter"),
    ),
    Fault(
        "there was hardly a call yesterday (back-filled), and somebody asks again and again",
        ("LLMTrafficSpike",),
        0,
        1500,
        _new_questions,
    ),
    Fault(
        "calls cost next to nothing yesterday (back-filled), and a million times too much today",
        ("LLMCostSpike",),
        0,
        1500,
        _nothing,
    ),
    Fault(
        "a cache answered nine of ten yesterday (back-filled), and hardly a question comes twice",
        ("LLMCacheHitRatioDrop",),
        0,
        2580,
        _mostly_new_questions,
    ),
)
