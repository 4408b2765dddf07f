"""How an application uses every public name. Never run: mypy and pyright check that the types are what it relies on."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
from pathlib import Path
from typing import Annotated, Any, assert_type

import llmvitals
from llmvitals import testing
from llmvitals.exposition import Page


class Reply:
    text: str = ""


class Chunks:
    """A stream object of somebody's SDK."""

    def __iter__(self) -> Iterator[bytes]:
        return iter(())

    def close(self) -> None: ...


def start() -> llmvitals.Vitals:
    vitals = llmvitals.start("companion", port=0, history_file=Path("history.jsonl"))
    assert_type(vitals, llmvitals.Vitals)
    assert_type(llmvitals.instrument(vitals, providers={"127.0.0.1:5001": "koboldcpp"}), tuple[str, ...])
    assert_type(vitals.metrics_port, int | None)
    with vitals as same:
        assert_type(same, llmvitals.Vitals)
    llmvitals.uninstrument()
    return vitals


# --- Calls: a decorated function keeps its parameters and what it returns ---------------------------------------------


def calls(vitals: llmvitals.Vitals) -> None:
    @vitals.call(provider="openai", model="talker")
    def ask(question: str, *, patience: float = 1.0) -> Reply:
        return Reply()

    assert_type(ask("How are you?", patience=2.0), Reply)
    ask(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ask("How are you?", haste=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

    @vitals.call(provider="openai", model="talker")
    async def ask_later(question: str) -> Reply:
        return Reply()

    async def main() -> None:
        assert_type(await ask_later("How are you?"), Reply)
        async with vitals.call(provider="openai", model="talker") as call:
            assert_type(call, llmvitals.Call)

    asyncio.run(main())

    @vitals.call(provider="openai", model="talker")
    def stream(question: str) -> Generator[str, None, int]:
        yield question
        return 1

    assert_type(stream("How are you?"), Generator[str, None, int])

    @vitals.call(provider="openai", model="talker")
    async def stream_later(question: str) -> AsyncIterator[str]:
        yield question

    assert_type(stream_later("How are you?"), AsyncIterator[str])

    with vitals.call(provider="openai", model="talker") as call:
        assert_type(call, llmvitals.Call)
        call.usage(input_tokens=1, output_tokens=2)
        call.response_model("talker-2")
        call.read(Reply())
        assert_type(call.stream(Chunks()), Chunks)
        assert_type(call.stream(text for text in ("a", "b")), Generator[str, None, None])
        assert_type(call.stream(iter([1])), Iterator[int])
    begun = vitals.call(provider="openai", model="talker").start()
    assert_type(begun, llmvitals.Call)
    begun.finish(ValueError())


async def streams(call: llmvitals.Call, chunks: AsyncGenerator[str, None]) -> None:
    assert_type(call.stream(chunks), AsyncGenerator[str, None])


# --- The application's own work ---------------------------------------------------------------------------------------


def work(vitals: llmvitals.Vitals) -> None:
    @vitals.operation("talk", target_seconds=2.0)
    def talk(message: str) -> int:
        return len(message)

    assert_type(talk("hello"), int)

    @vitals.module("monologue", timeout_seconds=30)
    async def think(depth: int) -> str:
        return "hm" * depth

    async def main() -> None:
        assert_type(await think(2), str)

    asyncio.run(main())

    @vitals.action(effect="idempotent", bounds={"batch": (1, 1000)})
    def rebuild(batch: int = 100) -> dict[str, int]:
        return {"batch": batch}

    assert_type(rebuild(batch=5), dict[str, int])

    with vitals.operation("talk") as operation:
        assert_type(operation, llmvitals.Operation)
        operation.note(topic="tea")

    names: dict[str, int] = {}
    cache = vitals.cache("names", names)
    assert_type(cache, llmvitals.Cache[str, int])
    assert_type(cache["a"], int)
    assert_type(cache.get("a"), int | None)

    breaker = vitals.breaker("llm", failure_threshold=3)
    assert_type(breaker, llmvitals.Breaker)
    assert_type(breaker.call(talk, "hello"), int)
    with breaker:
        pass
    try:
        breaker.call(talk, "hello")
    except llmvitals.CircuitOpenError as error:
        assert_type(error.retry_after_seconds, float)

    users: llmvitals.Users[Reply] = vitals.users(max_active=10)
    assert_type(users.get_or_create("somebody", Reply), Reply)
    assert_type(users.get("somebody"), Reply | None)

    async def send(items: list[Reply]) -> None: ...

    outbox = vitals.batcher("outbox", send)
    assert_type(vitals.retries("llm"), llmvitals.Retries)
    retry: dict[str, Callable[[Any], None]] = vitals.retries("llm").tenacity()
    assert_type(vitals.pool("database", max_size=5), llmvitals.Pool)
    assert_type(vitals.health_check("database", lambda: True), llmvitals.HealthCheck)
    assert_type(vitals.cleanup("rows", lambda: 3, interval_seconds=60), llmvitals.CleanUp)
    assert_type(vitals.limit("primary"), llmvitals.Limit)
    assert_type(vitals.voice("recognition"), llmvitals.Voice)
    assert_type(vitals.semantic_memory("journal"), llmvitals.SemanticMemory)
    assert_type(vitals.startup("models"), llmvitals.Startup)
    assert_type(vitals.shutdown(), llmvitals.Shutdown)
    assert_type(vitals.history(), llmvitals.History)
    vitals.tunable("tokens", get=lambda: 1, set=lambda value: None, low=0, high=9)
    vitals.profile("speed", {"tokens": 3})
    assert_type(vitals.summary(), dict[str, Any])
    assert_type(vitals.health_page("text/html"), Page)
    del outbox, retry


async def batches(vitals: llmvitals.Vitals, send: Callable[[list[str]], Awaitable[None]]) -> None:
    outbox = vitals.batcher("outbox", send)
    assert_type(outbox, llmvitals.Batcher[str])
    await outbox.put("hello")
    await outbox.put(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def steps(vitals: llmvitals.Vitals) -> None:
    @vitals.tool("weather")
    def weather(city: str) -> float:
        return float(len(city))

    assert_type(weather("Bonn"), float)
    with vitals.agent("planner") as step:
        assert_type(step, llmvitals.Step)
    assert_type(vitals.workflow("journal"), llmvitals.Step)
    assert_type(vitals.retrieval(provider="chroma"), llmvitals.Call)
    assert_type(vitals.embeddings(provider="openai", model="small"), llmvitals.Call)


def kept(vitals: llmvitals.Vitals, redis: Any) -> None:
    assert_type(vitals.object_pool("parsers", Reply), llmvitals.ObjectPool[Reply])
    shared: llmvitals.TieredCache[str] = vitals.tiered_cache("replies", redis)
    assert_type(shared, llmvitals.TieredCache[str])
    assert_type(vitals.module("dreams"), llmvitals.Module)
    assert_type(vitals.shutdown().run(), llmvitals.ShutdownReport)
    assert_type(llmvitals.read_history("history.jsonl"), list[dict[str, Any]])


def settings() -> llmvitals.Settings:
    try:
        return llmvitals.settings("production")
    except llmvitals.SettingsError as error:
        assert_type(error.problems, tuple[str, ...])
        raise
    except llmvitals.LLMVitalsError:
        raise


def bounded(vitals: llmvitals.Vitals) -> None:
    @vitals.action(effect="idempotent")
    def wait(seconds: Annotated[float, llmvitals.Bounds(1, 60)]) -> None: ...

    wait(seconds=2.0)


# --- In tests ---------------------------------------------------------------------------------------------------------


def in_tests() -> None:
    with testing.fresh() as vitals:
        assert_type(vitals, testing.TestVitals)
        assert_type(vitals.value("llmvitals_attempts_total", name="llm"), float | None)
        assert_type(vitals.samples("llmvitals_attempts_total"), dict[tuple[tuple[str, str], ...], float])
    with testing.active("companion") as active:
        assert_type(active, testing.TestVitals)
