import asyncio
import copy
import operator
import pickle
import subprocess
import sys
import threading
import traceback
from contextvars import ContextVar

import pytest

WHERE = ContextVar("where", default="outside")


@pytest.fixture(name="watched")
def _watched(vitals):
    """Watch a source as the stream of a new call."""
    return lambda source: vitals.call(provider="primary", model="talker").stream(source)


@pytest.fixture(autouse=True)
def _no_fault(vitals):
    yield
    assert vitals.value("llmvitals_instrumentation_errors_total") is None


def ends(vitals):
    return {dict(labels)["reason"]: value for labels, value in vitals.samples("llmvitals_stream_ends_total").items()}


class Chunks:
    """A stream object that can be copied, called, awaited and asked how much is left."""

    def __init__(self, chunks):
        self.chunks = list(chunks)

    def __iter__(self):
        return self

    def __next__(self):
        if not self.chunks:
            raise StopIteration
        return self.chunks.pop(0)

    def __length_hint__(self):
        return len(self.chunks)

    def __call__(self):
        return "called"

    def __await__(self):
        yield from ()
        return "awaited"


def test_what_a_stream_object_can_it_still_can(vitals, watched):
    """Length hint, copy, deepcopy, pickle, call, await, dir."""
    stream = watched(Chunks([1, 2, 3]))

    async def wait():
        return await stream

    assert 3 == operator.length_hint(stream)
    assert "called" == stream()
    assert "awaited" == asyncio.run(wait())
    assert dir(Chunks([])) == dir(stream)
    for another in (copy.copy(stream), copy.deepcopy(stream), pickle.loads(pickle.dumps(stream))):
        assert type(another) is Chunks
        assert [1, 2, 3] == another.chunks
    assert [1, 2, 3] == list(stream)
    assert {"completed": 1} == ends(vitals)


def test_what_cannot_be_copied_still_cannot(watched):
    """The same error as without us."""

    def source():
        yield 1

    errors = []
    for stream in (source(), watched(source())):
        with pytest.raises(TypeError) as error:
            copy.copy(stream)
        errors.append(str(error.value))
        stream.close()
    assert errors[0] == errors[1]


def test_an_errors_cause_context_and_frames_stay(watched):
    """The frames of the source are in the traceback, below one of ours."""

    def source():
        yield 1
        try:
            {}["first"]
        except KeyError as first:
            raise ConnectionError("second") from first

    stream = watched(source())
    next(stream)
    with pytest.raises(ConnectionError) as error:
        next(stream)

    assert isinstance(error.value.__cause__, KeyError)
    assert error.value.__cause__ is error.value.__context__
    names = [frame.name for frame in traceback.extract_tb(error.value.__traceback__)]
    assert "source" == names[-1]
    assert 3 == len(names)


def test_an_error_thrown_in_comes_out_the_same(vitals, watched):
    """The very object, without a context that it did not have."""

    def source():
        yield 1

    stream = watched(source())
    next(stream)
    thrown = ValueError("mine")
    with pytest.raises(ValueError, match="mine") as error:
        stream.throw(thrown)

    assert thrown is error.value
    assert thrown.__context__ is None
    assert thrown.__cause__ is None
    assert {"error": 1} == ends(vitals)


def test_a_generator_that_ignores_its_close_is_told_on(vitals, watched):
    """With Python's own words."""

    def source():
        try:
            yield 1
        except GeneratorExit:
            yield 2

    stream = watched(source())
    next(stream)
    with pytest.raises(RuntimeError, match="generator ignored GeneratorExit"):
        stream.close()

    assert 1 == sum(ends(vitals).values())


def test_context_variables_are_the_consumers(watched):
    """What the source sets, its consumer sees, and the other way round; sync and async."""

    def source():
        WHERE.set("inside")
        yield WHERE.get()
        yield WHERE.get()

    stream = watched(source())
    assert ("inside", "inside") == (next(stream), WHERE.get())
    WHERE.set("changed")
    assert "changed" == next(stream)

    async def asource():
        WHERE.set("inside")
        yield WHERE.get()
        yield WHERE.get()

    async def main():
        stream = watched(asource())
        assert ("inside", "inside") == (await anext(stream), WHERE.get())
        WHERE.set("changed")
        assert "changed" == await anext(stream)
        await stream.aclose()

    asyncio.run(main())


def test_a_stream_may_go_from_thread_to_thread(vitals, watched):
    """Begun in one, read on in another, closed in a third."""
    stream = watched(iter_of(5))
    read = []
    for work in (lambda: read.append(next(stream)), lambda: read.extend((next(stream), next(stream))), stream.close):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    assert [0, 1, 2] == read
    assert {"cancelled": 1} == ends(vitals)
    assert 2 == vitals.value("gen_ai_client_operation_time_per_output_chunk_seconds_count")


def iter_of(count):
    yield from range(count)


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_an_async_stream_is_closed_half_consumed(vitals, watched, steps):
    """Before its first chunk, in its midst, and again after that."""
    cleaned = []

    async def source():
        try:
            yield 1
            yield 2
            yield 3
        finally:
            cleaned.append(True)

    async def main():
        stream = watched(source())
        for _ in range(steps):
            await anext(stream)
        await stream.aclose()
        await stream.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(stream)

    asyncio.run(main())
    assert ([True] if steps else []) == cleaned
    assert {"cancelled" if steps else "abandoned": 1} == ends(vitals)
    assert 0 == vitals.value("llmvitals_calls_in_flight")


def test_what_is_sent_again_and_again_reaches_an_async_generator(watched):
    """Sent and thrown in turns, and read on in between."""

    async def source():
        heard = []
        while len(heard) < 5:
            try:
                heard.append((yield tuple(heard)))
            except ValueError as error:
                heard.append(str(error))

    async def main():
        stream = watched(source())
        said = [await anext(stream), await stream.asend("a"), await anext(stream), await stream.athrow(ValueError("b"))]
        said.append(await stream.asend("c"))
        with pytest.raises(StopAsyncIteration):
            await stream.asend("d")
        return said

    assert [(), ("a",), ("a", None), ("a", None, "b"), ("a", None, "b", "c")] == asyncio.run(main())


PROGRAM = """
import llmvitals.testing
vitals = llmvitals.testing.fresh()
def source():
    yield 1
    yield 2
class Stream:
    def __iter__(self): return self
    def __next__(self): return 1
streams = [vitals.call(provider="p", model="m").stream(made()) for made in (source, Stream)]
for stream in streams:
    next(stream)
print("over")
"""


def test_streams_open_at_the_end_of_the_interpreter_say_nothing():
    """It shuts down as if nobody watched."""
    ended = subprocess.run([sys.executable, "-W", "error", "-c", PROGRAM], capture_output=True, check=False)

    assert (0, b"over\n", b"") == (ended.returncode, ended.stdout, ended.stderr)
