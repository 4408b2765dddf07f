import asyncio

import pytest

FIRST_CHUNK = "gen_ai_client_operation_time_to_first_chunk_seconds"
FIRST_OUTPUT = "llmvitals_time_to_first_output_seconds"


class Clock:
    """Each reading is a second after the one before."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1
        return self.now


@pytest.fixture(autouse=True)
def _clock(monkeypatch):
    clock = Clock()
    for module in ("_calls", "_streams", "_watch"):
        monkeypatch.setattr(f"llmvitals.{module}.perf_counter", clock)


def delta(**fields):
    return {"choices": [{"delta": fields}]}


def read(vitals, chunks, **options):
    """Read a stream of *chunks*; return the seconds to its first chunk and to its first output."""
    assert chunks == list(vitals.call(provider="primary", model="thinker").stream(iter_of(chunks), **options))
    return vitals.value(f"{FIRST_CHUNK}_sum"), vitals.value(f"{FIRST_OUTPUT}_sum")


def iter_of(chunks):
    yield from chunks


@pytest.mark.parametrize("reasoning", ["reasoning_content", "reasoning", "thinking"])
@pytest.mark.parametrize(
    "output",
    [{"content": "Fine"}, {"tool_calls": [{"index": 0}]}, {"refusal": "No"}, {"reasoning": "so", "content": "Fine"}],
    ids=["text", "tool", "refusal", "both"],
)
def test_reasoning_is_no_output(vitals, reasoning, output):
    """Whatever the server calls it; an opening without text is none either."""
    thought = delta(**{reasoning: "Hm"})

    assert (1, 4) == read(vitals, [delta(role="assistant", content=""), thought, thought, delta(**output), thought])


def test_a_legacy_completion_has_text(vitals):
    """It has no delta."""
    assert (1, 2) == read(vitals, [{"choices": [{"text": ""}]}, {"choices": [{"text": "Fine"}]}])


@pytest.mark.parametrize("chunks", [["Hel", "lo"], [b"a"], [{"response": "Hel"}], [object()]])
def test_a_chunk_of_another_shape_is_output(vitals, chunks):
    """Nothing tells otherwise."""
    assert (1, 1) == read(vitals, chunks)


def test_nothing_visible_is_no_first_output(vitals):
    """As when the tokens ran out while the model thought."""
    assert (1, None) == read(vitals, [delta(reasoning="Hm"), delta(reasoning="Hm")])


def test_a_stream_of_ones_own_says_what_is_visible(vitals):
    """And is asked no more once there was some."""
    asked = []

    def visible(chunk):
        asked.append(chunk)
        return not chunk.startswith("<")

    assert (1, 3) == read(vitals, ["<think", "<hm", "Fine", "<not asked"], visible=visible)
    assert ["<think", "<hm", "Fine"] == asked


def test_a_predicate_that_raises_is_asked_once(vitals):
    """The stream goes on; its other numbers are there."""
    assert (1, None) == read(vitals, ["a", "b"], visible=lambda chunk: chunk.thinking)
    assert 1 == vitals.value("llmvitals_instrumentation_errors_total", component="streams")
    assert 1 == vitals.value("llmvitals_stream_ends_total", reason="completed")


def test_async_streams_and_stream_objects_alike(vitals):
    """Every kind of stream has its first output."""
    chunks = [delta(reasoning="Hm"), delta(content="Fine")]

    async def source():
        for chunk in chunks:
            yield chunk

    async def drain():
        return [chunk async for chunk in vitals.call(provider="primary", model="thinker").stream(source())]

    assert chunks == asyncio.run(drain())
    assert chunks == list(vitals.call(provider="primary", model="thinker").stream(iter(chunks)))
    assert (2, 4) == (vitals.value(f"{FIRST_OUTPUT}_count"), vitals.value(f"{FIRST_OUTPUT}_sum"))


def test_a_plain_call_has_no_first_output(vitals):
    """Only streams do."""
    with vitals.call(provider="primary", model="thinker") as call:
        call.read({"choices": [{"message": {"content": "Fine"}}]})

    assert vitals.value(f"{FIRST_OUTPUT}_count") is None
