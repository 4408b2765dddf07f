"""What each recorded page tells of: run by record.py in the instrumentation's own environment; prints the page.

Eight plain calls and four streams of the model talker, which answers, and two calls of thinker, which fails with 500.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress

MESSAGES = [{"role": "user", "content": "hello"}]
PLAIN, STREAMS, FAILING = 8, 4, 2
# LiteLLM tells its loggers in the background.
SETTLING_SECONDS = 3
DOLLARS_PER_TOKEN = 0.001


def through_openai(contender: str, url: str) -> bytes:
    import openai
    from bench.instrumentation._contenders import CONTENDERS

    scrape = _openlit() if contender == "OpenLIT" else CONTENDERS[contender]()
    create = openai.OpenAI(base_url=url, api_key="none", max_retries=0).chat.completions.create
    for _ in range(PLAIN):
        create(model="talker", messages=MESSAGES)
    for _ in range(STREAMS):
        for _chunk in create(model="talker", messages=MESSAGES, stream=True, stream_options={"include_usage": True}):
            pass
    for _ in range(FAILING):
        with suppress(openai.OpenAIError):
            create(model="thinker", messages=MESSAGES)
    return scrape()


def _openlit() -> Callable[[], bytes]:
    import openlit
    from bench.instrumentation._contenders import _opentelemetry

    scrape = _opentelemetry()
    with tempfile.NamedTemporaryFile("w", suffix=".json") as prices:
        each = 1000 * DOLLARS_PER_TOKEN
        json.dump({"chat": {"talker": {"promptPrice": each, "completionPrice": each}}}, prices)
        prices.flush()
        openlit.init(
            capture_message_content=False,
            disable_events=True,
            pricing_json=prices.name,
            otlp_endpoint="http://127.0.0.1:9",
        )
    return scrape


def through_litellm(contender: str, url: str) -> bytes:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm
    from prometheus_client import REGISTRY, generate_latest

    price = {"input_cost_per_token": DOLLARS_PER_TOKEN, "output_cost_per_token": DOLLARS_PER_TOKEN}
    litellm.register_model({"talker": {**price, "litellm_provider": "openai", "mode": "chat"}})
    litellm.callbacks = ["prometheus" if contender == "LiteLLM" else _opentelemetry_of_litellm()]

    async def call() -> None:
        known = {"api_base": url, "api_key": "none", "messages": MESSAGES, "num_retries": 0, "max_retries": 0}
        for _ in range(PLAIN):
            await litellm.acompletion(model="openai/talker", **known)
        for _ in range(STREAMS):
            stream = await litellm.acompletion(
                model="openai/talker", stream=True, stream_options={"include_usage": True}, **known
            )
            async for _chunk in stream:
                pass
        for _ in range(FAILING):
            with suppress(litellm.exceptions.InternalServerError):
                await litellm.acompletion(model="openai/thinker", **known)
        await asyncio.sleep(SETTLING_SECONDS)

    asyncio.run(call())
    time.sleep(SETTLING_SECONDS)
    return generate_latest(REGISTRY)


def _opentelemetry_of_litellm() -> object:
    from litellm.integrations.opentelemetry import OpenTelemetry, OpenTelemetryConfig, OTELMetricAttributeFilter
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider

    # Without a choice of attributes each request is a series of its own (hidden_params), and no rate is above zero.
    names = ["gen_ai.operation.name", "gen_ai.system", "gen_ai.request.model", "metadata.user_api_key_hash"]
    chosen = OTELMetricAttributeFilter(include_list=names)
    return OpenTelemetry(
        config=OpenTelemetryConfig(exporter="console", enable_metrics=True, attributes=chosen),
        tracer_provider=TracerProvider(),
        meter_provider=MeterProvider(metric_readers=[PrometheusMetricReader()]),
    )


if __name__ == "__main__":
    asked = through_litellm if sys.argv[1].startswith("LiteLLM") else through_openai
    sys.stdout.buffer.write(asked(*sys.argv[1:3]))
    sys.stdout.flush()
    # Whatever exports in the background has nowhere to export to.
    os._exit(0)
