import asyncio
import gc
import threading
import types
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator

import pytest

from llmvitals._series import LOCK


@pytest.fixture(name="watched")
def _watched(vitals):
    """Watch a source as the stream of a new call."""
    return lambda source: vitals.call(provider="primary", model="talker").stream(source)


def ends(vitals):
    """How often a stream ended for each reason."""
    return {dict(labels)["reason"]: value for labels, value in vitals.samples("llmvitals_stream_ends_total").items()}


def durations(vitals):
    return {
        dict(labels)["error_type"]: value
        for labels, value in vitals.samples("gen_ai_client_operation_duration_seconds_count").items()
    }


def numbers(count=3):
    yield from range(1, count + 1)


async def anumbers(count=3):
    for number in range(1, count + 1):
        yield number


class Stream:
    """As SDKs have them: an iterator with attributes, close and context manager."""

    def __init__(self, chunks):
        self.response = object()
        self.closed = 0
        self._chunks = iter(chunks)

    def __iter__(self):
        return self

    def __next__(self):
        chunk = next(self._chunks)
        if isinstance(chunk, Exception):
            raise chunk
        return chunk

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    def close(self):
        self.closed += 1
        return "closed"


class AsyncStream:
    def __init__(self, chunks):
        self.closed = 0
        self._chunks = iter(chunks)

    def __aiter__(self):
        return self

    async def __anext__(self):
        for chunk in self._chunks:
            await asyncio.sleep(0)
            return chunk
        raise StopAsyncIteration

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exc_info):
        await self.close()

    async def close(self):
        self.closed += 1
        return "closed"


class Rereadable:
    """Iterable, and no iterator."""

    def __init__(self, chunks):
        self.chunks = chunks

    def __iter__(self):
        return iter(self.chunks)

    def __len__(self):
        return len(self.chunks)


# --- Kinds ------------------------------------------------------------------------------------------------------------


def test_a_generator_stays_a_generator(vitals, watched):
    """With its name, and every chunk, first-chunk and per-chunk time recorded once at its end."""
    stream = watched(numbers())

    assert isinstance(stream, types.GeneratorType)
    assert "numbers" == stream.__name__
    assert [1, 2, 3] == list(stream)
    assert {"completed": 1} == ends(vitals)
    assert 1 == vitals.value("gen_ai_client_operation_time_to_first_chunk_seconds_count")
    assert 2 == vitals.value("gen_ai_client_operation_time_per_output_chunk_seconds_count")
    assert {"": 1} == durations(vitals)


def test_an_async_generator_stays_async(vitals, watched):
    """And is recorded alike."""
    stream = watched(anumbers())

    async def drain():
        return [chunk async for chunk in stream]

    assert isinstance(stream, types.AsyncGeneratorType)
    assert [1, 2, 3] == asyncio.run(drain())
    assert {"completed": 1} == ends(vitals)
    assert 2 == vitals.value("gen_ai_client_operation_time_per_output_chunk_seconds_count")


def test_what_goes_into_a_generator_reaches_it(vitals, watched):
    """send, throw and the return value pass through."""

    def talk():
        heard = yield "first"
        try:
            yield heard
        except ValueError as error:
            yield str(error)
        return "returned"

    stream = watched(talk())

    assert "first" == next(stream)
    assert "hello" == stream.send("hello")
    assert "oops" == stream.throw(ValueError("oops"))
    with pytest.raises(StopIteration) as stop:
        next(stream)
    assert "returned" == stop.value.value
    assert {"completed": 1} == ends(vitals)


def test_what_goes_into_an_async_generator_reaches_it(vitals, watched):
    """Asend and athrow pass through."""

    async def talk():
        heard = yield "first"
        try:
            yield heard
        except ValueError as error:
            yield str(error)

    async def main():
        stream = watched(talk())
        said = [await anext(stream), await stream.asend("hello"), await stream.athrow(ValueError("oops"))]
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        return said

    assert ["first", "hello", "oops"] == asyncio.run(main())
    assert {"completed": 1} == ends(vitals)


def test_a_stream_object_keeps_type_attributes_and_methods(vitals, watched):
    """Its user cannot tell the difference."""
    source = Stream([1, 2, 3])
    stream = watched(source)

    assert isinstance(stream, Stream)
    assert isinstance(stream, Iterator)
    assert not isinstance(stream, AsyncIterable)
    assert source.response is stream.response
    stream.response = "new"
    assert "new" == source.response
    with pytest.raises(AttributeError, match="'Stream' object has no attribute 'nothing'"):
        _ = stream.nothing
    with stream as entered:
        assert stream is entered
        assert [1, 2, 3] == list(entered)
    assert 1 == source.closed
    assert {"completed": 1} == ends(vitals)


def test_an_async_stream_object_keeps_type_and_methods(vitals, watched):
    """And is not suddenly a sync one as well."""
    source = AsyncStream([1, 2, 3])
    stream = watched(source)

    async def drain():
        async with stream as entered:
            assert stream is entered
            return [chunk async for chunk in entered], await stream.close()

    assert isinstance(stream, AsyncStream)
    assert isinstance(stream, AsyncIterator)
    assert not isinstance(stream, Iterable)
    assert ([1, 2, 3], "closed") == asyncio.run(drain())
    assert 2 == source.closed
    assert {"completed": 1} == ends(vitals)


def test_an_iterable_that_is_no_iterator_stays_so(vitals, watched):
    """Its length and its truth stay too."""
    stream = watched(Rereadable([1, 2, 3]))

    assert isinstance(stream, Rereadable)
    assert not isinstance(stream, Iterator)
    assert 3 == len(stream)
    assert [1, 2, 3] == list(stream)
    assert {"completed": 1} == ends(vitals)


def test_what_is_no_stream_is_given_back(vitals, watched):
    """A fault of the instrumentation, at most."""
    assert 5 == watched(5)

    assert 1 == vitals.value("llmvitals_instrumentation_errors_total", component="streams")


def test_a_stream_is_watched_once(vitals):
    """Telling it twice counts it once."""
    call = vitals.call(provider="primary", model="talker")
    stream = call.stream(numbers())

    assert call.stream(stream) is stream
    assert [1, 2, 3] == list(stream)
    assert {"completed": 1} == ends(vitals)


# --- Ends -------------------------------------------------------------------------------------------------------------


def failing():
    yield 1
    raise ConnectionError("broken off")


def timing_out():
    yield 1
    raise TimeoutError


@pytest.mark.parametrize(
    ("source", "reason", "error_type"),
    [
        (failing, "error", "ConnectionError"),
        (timing_out, "timeout", "TimeoutError"),
        (lambda: Stream([1, ConnectionError("broken off")]), "error", "ConnectionError"),
    ],
    ids=["generator", "timeout", "object"],
)
def test_an_error_ends_the_stream_and_goes_through(vitals, watched, source, reason, error_type):
    """Whatever is done with it afterwards, it has ended once."""
    stream = watched(source())
    assert 1 == next(stream)
    with pytest.raises((ConnectionError, TimeoutError)):
        next(stream)
    stream.close()
    del stream

    assert {reason: 1} == ends(vitals)
    assert {error_type: 1} == durations(vitals)


@pytest.mark.parametrize("source", [numbers, lambda: Stream([1, 2, 3])], ids=["generator", "object"])
def test_closing_early_is_a_cancellation_and_no_error(vitals, watched, source):
    """The consumer had enough; twice closed is once ended."""
    stream = watched(source())
    next(stream)
    stream.close()
    stream.close()
    del stream

    assert {"cancelled": 1} == ends(vitals)
    assert {"": 1} == durations(vitals)


def test_closing_an_async_generator_reaches_the_source(vitals, watched):
    """Its clean-up runs, awaiting included."""
    cleaned = []

    async def source():
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    async def main():
        stream = watched(source())
        await anext(stream)
        await stream.aclose()

    asyncio.run(main())

    assert [True] == cleaned
    assert {"cancelled": 1} == ends(vitals)


def test_a_cancelled_task_ends_its_stream(vitals, watched):
    """Cancellation arrives in the source, and goes on to the task."""
    seen = []

    async def source():
        yield 1
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        yield 2

    async def consume(stream):
        async for _ in stream:
            pass

    async def main():
        task = asyncio.create_task(consume(watched(source())))
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    assert ["cancelled"] == seen
    assert {"cancelled": 1} == ends(vitals)
    assert {"CancelledError": 1} == durations(vitals)


@pytest.mark.parametrize("read", [0, 1], ids=["unread", "begun"])
@pytest.mark.parametrize("source", [numbers, lambda: Stream([1, 2])], ids=["generator", "object"])
def test_a_dropped_stream_is_abandoned(vitals, watched, source, read):
    """Nobody closed it; the garbage collector's word counts, also for a stream never begun."""
    stream = watched(source())
    for _ in range(read):
        next(stream)
    del stream

    assert {"abandoned": 1} == ends(vitals)
    assert 0 == vitals.value("llmvitals_calls_in_flight")


def test_a_stream_dropped_in_a_cycle_is_abandoned(vitals, watched):
    """The cycle collector's finalisers record nothing at once: they may run inside any lock."""
    holder = [watched(numbers())]
    holder.append(holder)
    next(holder[0])
    before = vitals.registry.get_sample_value("llmvitals_stream_ends_total")
    del holder
    gc.collect()

    assert before is None
    assert {"abandoned": 1} == ends(vitals)


def test_collecting_a_stream_inside_a_metrics_lock_does_not_wait_for_it(vitals, watched):
    """The collector may run in the middle of anything, also of recording itself."""
    with vitals.call(provider="primary", model="talker"):
        pass
    holder = [watched(numbers())]
    holder.append(holder)
    next(holder[0])
    del holder
    collected = threading.Event()

    def collect():
        with LOCK:
            gc.collect()
        collected.set()

    threading.Thread(target=collect, daemon=True).start()

    assert collected.wait(10)
    assert {"abandoned": 1} == ends(vitals)


def test_a_dropped_async_generator_is_abandoned(vitals, watched):
    """Begun in a loop that closes it later, or never begun at all."""

    async def main():
        begun = watched(anumbers())
        await anext(begun)
        del begun
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        watched(anumbers())

    asyncio.run(main())

    assert {"abandoned": 2} == ends(vitals)


def test_a_stream_outlives_the_block_that_made_it(vitals):
    """The call ends with its stream, not with the ``with`` block that handed it out."""

    def ask():
        with vitals.call(provider="primary", model="talker") as call:
            return call.stream(numbers())

    stream = ask()
    assert 1 == vitals.value("llmvitals_calls_in_flight")
    assert [1, 2, 3] == list(stream)

    assert {"completed": 1} == ends(vitals)
    assert 0 == vitals.value("llmvitals_calls_in_flight")


@pytest.mark.parametrize("keep", [True, False], ids=["stream kept", "stream gone"])
def test_an_error_in_the_block_ends_an_unfinished_stream(vitals, keep):
    """The consumer failed in the midst; that is the call's error, and the chunks until then count."""
    kept = []

    def consume():
        with vitals.call(provider="primary", model="talker") as call:
            stream = call.stream(numbers())
            if keep:
                kept.append(stream)
            next(stream)
            next(stream)
            del stream
            raise KeyError

    with pytest.raises(KeyError):
        consume()

    assert {"error": 1} == ends(vitals)
    assert {"KeyError": 1} == durations(vitals)
    assert 1 == vitals.value("gen_ai_client_operation_time_per_output_chunk_seconds_count")


def test_a_loop_left_early_inside_the_block_is_counted(vitals):
    """The stream is dropped before the block ends; its chunks and its end are not lost."""
    with vitals.call(provider="primary", model="talker") as call:
        for chunk in call.stream(numbers()):
            if chunk == 2:
                break

    assert {"abandoned": 1} == ends(vitals)
    assert 1 == vitals.value("gen_ai_client_operation_time_per_output_chunk_seconds_count")


def test_a_late_end_of_one_run_does_not_end_the_next(vitals):
    """A call used again counts each run once, however its streams were left."""
    call = vitals.call(provider="primary", model="talker")
    for _ in range(3):
        with call:
            for _ in call.stream(numbers()):
                break

    assert {"abandoned": 3} == ends(vitals)
    assert 0 == vitals.value("llmvitals_calls_in_flight")


def test_a_call_that_begins_again_while_it_streams_is_told(vitals, caplog):
    """Nothing is raised; the second stream is passed on unwatched."""
    call = vitals.call(provider="primary", model="talker")
    with call:
        first = call.stream(numbers())
    with call:
        second = call.stream(numbers())

    assert [1, 2, 3, 1, 2, 3] == [*first, *second]
    assert {"completed": 1} == ends(vitals)
    assert "make one with vitals.call() for each" in caplog.text


# --- Chunks -----------------------------------------------------------------------------------------------------------


def test_odd_chunks_pass_through_and_are_counted(vitals, watched):
    """None, bytes, empty ones and objects among text."""
    chunks = [None, "Hel", "", b"lo", object(), "!", None]

    assert chunks == list(watched(iter(Stream(chunks))))

    odd = {dict(labels)["kind"]: value for labels, value in vitals.samples("llmvitals_stream_odd_chunks_total").items()}
    assert {"none": 2, "empty": 1, "bytes": 1, "other": 1} == odd


def test_a_stream_of_bytes_is_not_odd(vitals, watched):
    """What all chunks are is normal."""
    assert [b"a", b"b"] == list(watched(iter([b"a", b"b"])))

    assert {} == vitals.samples("llmvitals_stream_odd_chunks_total")


def test_chunks_that_raise_when_looked_at_pass_through(vitals, watched):
    """The consumer gets them untouched."""

    class Prickly:
        def __getattr__(self, name):
            raise RuntimeError(name)

        def __bool__(self):
            raise RuntimeError("truth")

    chunks = [Prickly(), Prickly()]

    assert chunks == list(watched(iter(chunks)))
    assert {"completed": 1} == ends(vitals)


def test_usage_in_the_last_chunk_is_taken(vitals, watched):
    """As OpenAI-compatible servers send it; without it, that is counted."""
    with_usage = [{"model": "talker-2026"}, {}, {"usage": {"prompt_tokens": 7, "completion_tokens": 2}}]

    list(watched(iter(with_usage)))
    list(watched(iter([{"model": "talker-2026"}, {"usage": None}])))

    assert 7 == vitals.value("gen_ai_client_token_usage_sum", gen_ai_token_type="input")
    assert 2 == vitals.value("gen_ai_client_token_usage_sum", gen_ai_token_type="output")
    assert 1 == vitals.value("llmvitals_usage_missing_total", stream="true")
    assert 2 == vitals.value("gen_ai_client_operation_duration_seconds_count", gen_ai_response_model="talker-2026")


def test_an_empty_stream_has_no_first_chunk(vitals, watched):
    """It ended well all the same."""
    assert [] == list(watched(numbers(0)))

    assert {"completed": 1} == ends(vitals)
    assert vitals.value("gen_ai_client_operation_time_to_first_chunk_seconds_count") is None


def test_a_thousand_concurrent_streams_are_counted_exactly(vitals, watched):
    """Half read to the end, a quarter closed, a quarter dropped."""

    async def consume(number):
        stream = watched(anumbers(5))
        if number % 4 == 3:
            return
        async for _ in stream:
            await asyncio.sleep(0)
            if number % 4 == 2:
                await stream.aclose()
                break

    async def main():
        await asyncio.gather(*(consume(number) for number in range(1000)))

    asyncio.run(main())

    assert {"completed": 500, "cancelled": 250, "abandoned": 250} == ends(vitals)
    assert 1000 == vitals.value("gen_ai_client_operation_duration_seconds_count")
    assert 500 * 4 == vitals.value("gen_ai_client_operation_time_per_output_chunk_seconds_count")
    assert 0 == vitals.value("llmvitals_calls_in_flight")
