"""Measure LiteLLM's Prometheus callback, which sees LiteLLM's own calls only, and of those the async ones.

Prints JSON. CPU with the callback less CPU without; it works in the background, so each batch waits until it is done.
"""

import asyncio
import json
import sys
import time
import warnings
from contextlib import suppress

import litellm
from prometheus_client import REGISTRY

CALLS = 100
BATCHES = 5
COUNT = "litellm_request_total_latency_metric_count"


async def microseconds() -> float:
    start = time.process_time()
    for _ in range(CALLS):
        await litellm.acompletion(
            model="openai/talker", messages=[{"role": "user", "content": "How are you?"}], mock_response="Fine."
        )
    await asyncio.sleep(1)
    return (time.process_time() - start) / CALLS * 1e6


async def main(batches: int) -> None:
    await microseconds()
    without = min([await microseconds() for _ in range(batches)])
    litellm.callbacks = ["prometheus"]
    await microseconds()
    seen = min([await microseconds() for _ in range(batches)])
    counted = sum(sample.value for family in REGISTRY.collect() for sample in family.samples if sample.name == COUNT)
    print(json.dumps({"async 0": seen - without, "counted": counted}))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    with suppress(KeyboardInterrupt):  # Told by who runs us.
        asyncio.run(main(2 if "--quick" in sys.argv else BATCHES))
