"""Measure one contender, alone in its process: ``python -m bench.instrumentation._measure NAME`` prints JSON.

CPU is this process's, all threads. After a warm-up of a tenth, each batch of calls follows one of the same calls past
the contender's wrapper, and the difference of their medians is what the contender adds. The garbage collector runs as
in any application; it has collected before each kind of call. Memory is what the process has resident more.
"""

import asyncio
import gc
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import openai
import prometheus_client
from bench.instrumentation import _canned
from bench.instrumentation._contenders import CONTENDERS

MODELS = 20
CALLS_KEPT = 20_000
SCRAPES = 20

# Chunks of a call (0: plain), calls of a batch, batches.
SHAPES = ((0, 50, 200), (64, 4, 100), (1024, 1, 40))


class Pair:
    """The times of batches that are watched and of those that are not, in turns."""

    def __init__(self, batches: int) -> None:
        self._warming = max(batches // 10, 1)
        self._left = 2 * (batches + self._warming)
        self._times: tuple[list[int], list[int]] = ([], [])
        gc.collect()

    def next(self) -> int | None:
        """Return 0 for a bare batch, 1 for a watched one, None at the end; say with `took` what it took."""
        self._left -= 1
        return None if self._left < 0 else (self._left + 1) % 2

    def took(self, which: int, nanoseconds: int) -> None:
        self._times[which].append(nanoseconds)

    def added(self) -> float:
        """The microseconds that a watched batch takes more than a bare one."""
        bare, seen = (statistics.median(times[self._warming :]) for times in self._times)
        return (seen - bare) / 1000


def added(bare: Callable[[], None], seen: Callable[[], None], batches: int) -> float:
    pair = Pair(batches)
    while (which := pair.next()) is not None:
        work = seen if which else bare
        start = time.process_time_ns()
        work()
        pair.took(which, time.process_time_ns() - start)
    return pair.added()


async def added_async(bare: Callable[[], Awaitable[None]], seen: Callable[[], Awaitable[None]], batches: int) -> float:
    pair = Pair(batches)
    while (which := pair.next()) is not None:
        work = seen if which else bare
        start = time.process_time_ns()
        await work()
        pair.took(which, time.process_time_ns() - start)
    return pair.added()


def batch(create: Callable[..., Any], chunks: int, calls: int) -> Callable[[], None]:
    def plain() -> None:
        for _ in range(calls):
            create(model="talker", messages=_canned.MESSAGES)

    def streamed() -> None:
        for _ in range(calls):
            for _chunk in create(model="talker", messages=_canned.MESSAGES, stream=True, n=chunks):
                pass

    return streamed if chunks else plain


def batch_async(create: Callable[..., Any], chunks: int, calls: int) -> Callable[[], Awaitable[None]]:
    async def plain() -> None:
        for _ in range(calls):
            await create(model="talker", messages=_canned.MESSAGES)

    async def streamed() -> None:
        for _ in range(calls):
            async for _chunk in await create(model="talker", messages=_canned.MESSAGES, stream=True, n=chunks):
                pass

    return streamed if chunks else plain


def resident_kib() -> float:
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024


def main(name: str, *, quick: bool) -> None:
    warnings.simplefilter("ignore")
    prometheus_client.disable_created_metrics()
    _canned.put_in_place()
    client = openai.OpenAI(api_key="none", base_url=_canned.BASE_URL)
    async_client = openai.AsyncOpenAI(api_key="none", base_url=_canned.BASE_URL)
    completions, async_completions = client.chat.completions, async_client.chat.completions

    start = time.process_time()
    scrape = CONTENDERS[name]()
    result: dict[str, float] = {"import": (time.process_time() - start) * 1000}

    bare = partial(_canned.create, completions)
    bare_async = partial(_canned.create_async, async_completions)
    shapes = [(chunks, calls, batches // 10 if quick else batches) for chunks, calls, batches in SHAPES]

    for chunks, calls, batches in shapes:
        microseconds = added(batch(bare, chunks, calls), batch(completions.create, chunks, calls), batches)
        result[f"sync {chunks}"] = microseconds / calls

    async def asynchronous() -> None:
        for chunks, calls, batches in shapes:
            microseconds = await added_async(
                batch_async(bare_async, chunks, calls), batch_async(async_completions.create, chunks, calls), batches
            )
            result[f"async {chunks}"] = microseconds / calls

    asyncio.run(asynchronous())

    before = resident_kib()
    for _ in range(CALLS_KEPT):
        completions.create(model="talker", messages=_canned.MESSAGES)
    result["kept"] = resident_kib() - before

    for number in range(MODELS):
        completions.create(model=f"model-{number}", messages=_canned.MESSAGES)
    times = []
    for _ in range(SCRAPES):
        start_ns = time.process_time_ns()
        text = scrape()
        times.append(time.process_time_ns() - start_ns)
    result["scrape"] = statistics.median(times) / 1e6
    lines = [line for line in text.decode().splitlines() if not line.startswith("#")]
    result["series"] = len(lines)
    result["counted"] = sum(float(line.rpartition(" ")[2]) for line in lines if "duration" in line and "_count" in line)
    print(json.dumps(result))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):  # Told by who runs us.
        main(sys.argv[1], quick="--quick" in sys.argv)
