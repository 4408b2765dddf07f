"""Two books of the same calls: the server's, which faulty_llm keeps, and ours. They must agree to the last one.

Each provider of faulty_llm here stands for one kind of trouble, so that its ledger says how its calls must have ended.
"""

import asyncio
import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import openai
import tenacity
from tests.examples.faulty import Faulty, faulty_llm
from tests.servers import request

import llmvitals
from llmvitals import testing

MODEL = "talker"
EMBEDDING_MODEL = "thinker"
QUESTION = [{"role": "user", "content": "How are you?"}]
QUICK = {
    "latency_seconds": 0,
    "time_to_first_token_seconds": 0,
    "tokens_per_second": 100_000,
    "models": {EMBEDDING_MODEL: None},
}

# What each provider does to its calls, beyond being quick.
TROUBLES = {
    "primary": {},
    "flaky": {"error_ratio": 0.4, "error_status": 503, "retry_after_seconds": 0.001},
    "stubborn": {"error_ratio": 0.4, "error_status": 503, "retry_after_seconds": 0.001},
    "cutting": {"cut_ratio": 0.5},
    "stalling": {"stall_after_chunks": 2},
}
SDK_RETRIES = {"flaky": 2}
ATTEMPTS = 3


@contextmanager
def troubled_llm(log: Path) -> Iterator[Faulty]:
    """faulty_llm with a provider for each trouble, and an empty ledger."""
    listening = [f"--listen={name}=0" for name in TROUBLES if name != "primary"]
    with faulty_llm(*listening, log=log) as faulty:
        for name, dials in TROUBLES.items():
            assert 200 == faulty.turn(name, **QUICK, **dials).status
        yield faulty


def forget(faulty: Faulty) -> None:
    """Begin a new book at the server."""
    request(f"{faulty.control}/ledger", method="DELETE")


@contextmanager
def watched(faulty: Faulty) -> Iterator[testing.TestVitals]:
    """Vitals that watch the SDK, with the providers called as faulty_llm calls them."""
    names = {url.removeprefix("http://"): name for name, url in faulty.providers.items()}
    with testing.fresh() as vitals:
        llmvitals.instrument(vitals, providers=names)
        try:
            yield vitals
        finally:
            llmvitals.uninstrument()


class User:
    """Asks every provider in every way that there is, and keeps count of what it saw itself."""

    def __init__(self, vitals: testing.TestVitals, faulty: Faulty) -> None:
        self.vitals = vitals
        self.saw: Counter[str] = Counter()
        self._urls = {name: faulty.url(name) for name in TROUBLES}
        self._clients = {
            name: openai.OpenAI(**self._options(name), http_client=openai.DefaultHttpxClient(verify=False))
            for name in TROUBLES
        }
        self._retries = vitals.retries("asking").tenacity()

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def _options(self, provider: str) -> dict[str, object]:
        return {
            "base_url": self._urls[provider],
            "api_key": "none",
            "max_retries": SDK_RETRIES.get(provider, 0),
            # The SDK waits 5 s for a connection, which a thousand at once may need longer for on a busy machine.
            "timeout": 120.0,
        }

    def async_client(self, provider: str) -> openai.AsyncOpenAI:
        http_client = openai.DefaultAsyncHttpxClient(verify=False)  # Certificates take 20 ms to read.
        return openai.AsyncOpenAI(**self._options(provider), http_client=http_client)

    # --- Answered -----------------------------------------------------------------------------------------------------

    def plain(self, provider: str = "primary") -> None:
        self._clients[provider].chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=3)

    def in_a_call_of_its_own(self, provider: str = "primary") -> None:
        """The application's own call around the SDK's is the same call."""
        with self.vitals.call(provider=provider, model=MODEL):
            self.plain(provider)

    def embedded(self) -> None:
        self._clients["primary"].embeddings.create(model=EMBEDDING_MODEL, input=["one", "two"])

    def opened(self, provider: str = "primary", *, usage: bool = False) -> openai.Stream:
        options = {"stream_options": {"include_usage": True}} if usage else {}
        return self._clients[provider].chat.completions.create(
            model=MODEL, messages=QUESTION, max_tokens=4, stream=True, **options
        )

    def streamed(self, provider: str = "primary", *, usage: bool = False) -> None:
        for _ in self.opened(provider, usage=usage):
            continue

    def streamed_and_closed_twice(self) -> None:
        with self.opened() as stream:
            list(stream)
            stream.close()

    # --- In trouble ---------------------------------------------------------------------------------------------------

    def retried_by_the_sdk(self, *, stream: bool = False) -> None:
        try:
            self.streamed("flaky") if stream else self.plain("flaky")
        except openai.InternalServerError:
            self.saw["given up by the SDK"] += 1

    def retried_by_tenacity(self) -> None:
        asking = tenacity.Retrying(stop=tenacity.stop_after_attempt(ATTEMPTS), **self._retries)
        try:
            asking(self.plain, "stubborn")
        except tenacity.RetryError:
            self.saw["given up by tenacity"] += 1

    def cut(self) -> None:
        try:
            self.streamed("cutting", usage=True)
        except openai.APIConnectionError as error:
            self.saw[f"cut: {type(error).__name__}"] += 1

    # --- Left half-way, by a stream that will never end ---------------------------------------------------------------

    def half_read(self) -> tuple[openai.Stream, Iterator[object]]:
        stream = self.opened("stalling")
        chunks = iter(stream)
        next(chunks)
        self.saw["half read"] += 1
        return stream, chunks

    def closed(self, times: int = 1) -> None:
        stream, _ = self.half_read()
        for _ in range(times):
            stream.close()
        self.saw["closed"] += 1

    def thrown_into(self) -> None:
        stream, chunks = self.half_read()
        with stream:
            try:
                chunks.throw(KeyError("thrown in"))
            except KeyError:
                self.saw["closed"] += 1

    def left_by_an_error(self) -> None:
        stream, _ = self.half_read()
        with suppress(KeyError), stream:
            raise KeyError("the application's")
        self.saw["closed"] += 1

    def dropped(self, streams: int = 1) -> None:
        """The SDK's stream and its generator hold each other, so it is the garbage collector that finds them."""
        for _ in range(streams):
            self.half_read()
        gc.collect()
        self.saw["dropped"] += streams

    # --- On a loop ----------------------------------------------------------------------------------------------------

    async def at_once(self, calls: int) -> None:
        """So many streams, all of them open at the same time."""
        reading = asyncio.Barrier(calls)

        async def read() -> None:
            stream = await client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=3, stream=True)
            await reading.wait()
            async for _ in stream:
                continue

        async with self.async_client("primary") as client, asyncio.TaskGroup() as tasks:
            for _ in range(calls):
                tasks.create_task(read())

    async def cancelled(self, calls: int) -> None:
        """Tasks that are cancelled while they wait for a chunk that does not come."""
        waiting = asyncio.Semaphore(0)

        async def read() -> None:
            stream = await client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
            async for _ in stream:
                waiting.release()

        async with self.async_client("stalling") as client:
            tasks = [asyncio.create_task(read()) for _ in range(calls)]
            for _ in range(3 * calls):
                await waiting.acquire()
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended)
        self.saw["half read"] += calls
        self.saw["further chunks"] += 2 * calls
        self.saw["cancelled"] += calls

    async def dropped_on_a_loop(self, streams: int) -> None:
        before = self._dropped_streams()
        async with self.async_client("stalling") as client:
            for _ in range(streams):
                stream = await client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
                await anext(aiter(stream))
            del stream
            # The loop closes them, one generator after the other, and each lets go of the next.
            async with asyncio.timeout(60):
                while self._dropped_streams() < before + streams:
                    gc.collect()
                    await asyncio.sleep(0.001)
        self.saw["half read"] += streams
        self.saw["dropped"] += streams

    def _dropped_streams(self) -> float:
        return (
            self.vitals.value("llmvitals_stream_ends_total", gen_ai_provider_name="stalling", reason="abandoned") or 0
        )


# --- The comparison ---------------------------------------------------------------------------------------------------


def differences(vitals: testing.TestVitals, faulty: Faulty, user: User) -> dict[str, tuple[float, float]]:
    """What the server says and what we say, where it is not the same."""
    found = {}
    ledgers = request(f"{faulty.control}/ledger").json()
    for provider in TROUBLES:
        for model in (MODEL, EMBEDDING_MODEL):
            served = ledgers[provider]["models"].get(model)
            ours = _ours(vitals, provider, model)
            theirs = dict.fromkeys(ours, 0.0) if served is None else _theirs(provider, model, served, user)
            found |= {
                f"{provider}/{model}: {name}": (theirs[name], ours[name]) for name in ours if theirs[name] != ours[name]
            }
        port = faulty.providers[provider].rpartition(":")[2]
        found |= _requests(vitals, provider, port, ledgers[provider])
        found |= _attempts(vitals, provider, ledgers[provider])
    return found | _retries(vitals, ledgers["stubborn"], user)


def _ours(vitals: testing.TestVitals, provider: str, model: str) -> dict[str, float]:
    labels = {"gen_ai_provider_name": provider, "gen_ai_request_model": model}

    def value(name: str, **more: str) -> float:
        return vitals.value(name, **labels, **more) or 0.0

    duration, tokens = "gen_ai_client_operation_duration_seconds_count", "gen_ai_client_token_usage"
    ends = "llmvitals_stream_ends_total"
    return {
        "calls": value(duration),
        "calls in the histogram": value(duration.replace("count", "bucket"), le="+Inf"),
        "failed": value(duration, error_type="503"),
        "ended well": value(duration, error_type=""),
        "input tokens": value(f"{tokens}_sum", gen_ai_token_type="input"),
        "output tokens": value(f"{tokens}_sum", gen_ai_token_type="output"),
        "told tokens": value(f"{tokens}_count", gen_ai_token_type="input"),
        "told output tokens": value(f"{tokens}_count", gen_ai_token_type="output"),
        "missing usage": value("llmvitals_usage_missing_total"),
        "streams read to the end": value(ends, reason="completed"),
        "streams broken": value(ends, reason="error"),
        "streams left": value(ends, reason="cancelled") + value(ends, reason="abandoned"),
        "streams closed": value(ends, reason="cancelled"),
        "streams dropped": value(ends, reason="abandoned"),
        "first chunks": value("gen_ai_client_operation_time_to_first_chunk_seconds_count"),
        "further chunks": value("gen_ai_client_operation_time_per_output_chunk_seconds_count"),
        "odd chunks": value("llmvitals_stream_odd_chunks_total"),
        "in flight": value("llmvitals_calls_in_flight"),
    }


def _theirs(provider: str, model: str, served: dict[str, object], user: User) -> dict[str, float]:
    outcomes, streams, attempts = Counter(served["outcomes"]), Counter(served["stream_outcomes"]), served["attempts"]
    last = str(SDK_RETRIES.get(provider, 0))
    answered = streams["completed"] + streams["cut"] + streams["cancelled"]
    left, cancelled = streams["cancelled"], user.saw["cancelled"] if provider == "stalling" else 0
    chunks = served["chunks"] - answered
    if provider == "stalling":  # Nobody has read all that it sent.
        answered, chunks = user.saw["half read"], user.saw["further chunks"]
    return {
        "calls": sum(attempts["0"].values()),
        "calls in the histogram": sum(attempts["0"].values()),
        "failed": attempts.get(last, {}).get("error_503", 0),
        "ended well": outcomes["completed"] + left - cancelled,
        "input tokens": served["told_input_tokens"],
        "output tokens": served["told_output_tokens"],
        "told tokens": served["usages"],
        "told output tokens": served["usages"] if model == MODEL else 0,
        "missing usage": outcomes["completed"] + left - cancelled - served["usages"],
        "streams read to the end": streams["completed"],
        "streams broken": streams["cut"],
        "streams left": left,
        "streams closed": left - (user.saw["dropped"] if left else 0),
        "streams dropped": user.saw["dropped"] if left else 0,
        "first chunks": answered,
        "further chunks": chunks,
        "odd chunks": 0,
        "in flight": served["in_flight"],
    }


def _requests(
    vitals: testing.TestVitals, provider: str, port: str, ledger: dict[str, object]
) -> dict[str, tuple[float, float]]:
    """HTTP requests, the SDK's retries among them."""
    refused = ledger["outcomes"].get("error_503", 0)
    name = "http_client_request_duration_seconds_count"
    compared = {
        f"{provider}: answers": (
            ledger["requests"] - refused,
            vitals.value(name, server_port=port, http_response_status_code="200") or 0,
        ),
        f"{provider}: refusals": (
            refused,
            vitals.value(name, server_port=port, http_response_status_code="503") or 0,
        ),
    }
    return {what: (theirs, ours) for what, (theirs, ours) in compared.items() if theirs != ours}


def _attempts(vitals: testing.TestVitals, provider: str, ledger: dict[str, object]) -> dict[str, tuple[float, float]]:
    """The SDK's attempts, each of which is one request, and what of them were retries."""
    refused = ledger["outcomes"].get("error_503", 0)
    numbers = [served["attempts"] for served in ledger["models"].values()]
    retries = sum(sum(of.values()) for attempts in numbers for number, of in attempts.items() if number != "0")
    # Where it may not try again, it gives nothing up: the first error is final.
    retried = provider in SDK_RETRIES
    last = str(SDK_RETRIES.get(provider))
    given_up = sum(attempts.get(last, {}).get("error_503", 0) for attempts in numbers)

    def value(name: str, **labels: str) -> float:
        return vitals.value(name, name=provider, **labels) or 0.0

    compared = {
        "attempts that succeeded": (ledger["requests"] - refused, value("llmvitals_attempts_total", outcome="success")),
        "attempts that failed": (
            refused,
            value("llmvitals_attempts_total", outcome="retryable" if retried else "fatal"),
        ),
        "retries": (retries, value("llmvitals_retries_total")),
        "waits": (retries, value("llmvitals_retry_wait_seconds_count")),
        "given up": (given_up, value("llmvitals_retries_exhausted_total")),
    }
    return {f"{provider}: {what}": (theirs, ours) for what, (theirs, ours) in compared.items() if theirs != ours}


def _retries(vitals: testing.TestVitals, ledger: dict[str, object], user: User) -> dict[str, tuple[float, float]]:
    """What tenacity did, each of whose attempts is one request."""
    outcomes = Counter(ledger["outcomes"])

    def value(name: str, **labels: str) -> float:
        return vitals.value(name, name="asking", **labels) or 0.0

    given_up = user.saw["given up by tenacity"]
    compared = {
        "attempts that succeeded": (outcomes["completed"], value("llmvitals_attempts_total", outcome="success")),
        "attempts that failed": (outcomes["error_503"], value("llmvitals_attempts_total", outcome="retryable")),
        "retries": (outcomes["error_503"] - given_up, value("llmvitals_retries_total")),
        "given up": (given_up, value("llmvitals_retries_exhausted_total")),
        "waits": (outcomes["error_503"] - given_up, value("llmvitals_retry_wait_seconds_count")),
    }
    return {f"tenacity: {what}": (theirs, ours) for what, (theirs, ours) in compared.items() if theirs != ours}
