import asyncio

import pytest
from prometheus_client import CollectorRegistry

from llmvitals._recording import Recorder
from llmvitals._voice import Voice


@pytest.fixture(name="recorder")
def _recorder():
    return Recorder(CollectorRegistry())


@pytest.fixture(name="voice")
def _voice(recorder):
    return Voice(recorder, "recognition")


def value(recorder, name, **labels):
    return recorder.registry.get_sample_value(f"llmvitals_voice_{name}", {"voice": "recognition", **labels})


def turns(recorder):
    return tuple(value(recorder, "turns_total", outcome=outcome) for outcome in ("success", "failure"))


def test_successes_failures_and_quality_are_told(recorder, voice):
    """A quality beyond 0 to 1 counts as the nearest, and none that is no number."""
    for quality in (0.4, 1.7, None, float("nan")):
        voice.succeeded(quality)
    voice.failed("no_audio")

    assert (4, 1) == turns(recorder)
    assert 1 == value(recorder, "failures_total", cause="no_audio")
    assert 2 == value(recorder, "quality_ratio_count")
    assert 1.4 == value(recorder, "quality_ratio_sum")
    assert 1 == value(recorder, "quality_ratio_bucket", le="0.4")
    assert {"succeeded": 4, "failed": 1, "success_ratio": 0.8, "target_ratio": 0.99}.items() <= voice.summary().items()


def test_a_turn_ends_well_or_by_its_error(recorder, voice):
    """Or as it says itself, and is timed each time."""
    with voice.turn() as turn:
        turn.quality(0.93)
    with voice.turn() as turn:
        turn.fail("not_understood")
    with pytest.raises(OSError, match="no microphone"), voice.turn():
        raise OSError("no microphone")

    assert (1, 2) == turns(recorder)
    assert 1 == value(recorder, "failures_total", cause="not_understood")
    assert 1 == value(recorder, "failures_total", cause="OSError")
    assert 3 == value(recorder, "turn_duration_seconds_count")
    assert 0.93 == value(recorder, "quality_ratio_sum")


def test_a_cancelled_turn_is_neither(recorder, voice):
    """Somebody began to speak over it."""

    async def speak():
        with voice.turn():
            await asyncio.sleep(60)

    async def interrupt():
        task = asyncio.create_task(speak())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(interrupt())

    assert (0, 0) == turns(recorder)


def test_before_the_first_turn_there_is_no_ratio(recorder, voice):
    """The counters start at zero, so that the first failure shows as an increase."""
    assert (0, 0) == turns(recorder)
    assert voice.summary()["success_ratio"] is None
    assert 0.99 == value(recorder, "target_ratio")


@pytest.mark.parametrize("target", [0, 1.01, -1])
def test_a_target_is_a_share(recorder, target):
    """At the line that makes the mistake."""
    with pytest.raises(ValueError, match="a share above 0"):
        Voice(recorder, "recognition", target=target)


def test_a_name_gives_one_voice(vitals):
    """So that it can be asked for where it is used."""
    assert vitals.voice("recognition") is vitals.voice("recognition")
    assert {"recognition"} == set(vitals.summary()["voices"])
