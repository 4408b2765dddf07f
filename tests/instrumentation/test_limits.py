import time
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry

from llmvitals._limits import Limit
from llmvitals._recording import Recorder


class Clock:
    def __init__(self):
        self.now = 1_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture(name="recorder")
def _recorder():
    return Recorder(CollectorRegistry())


@pytest.fixture(name="clock")
def _clock():
    return Clock()


@pytest.fixture(name="limit")
def _limit(recorder, clock):
    return Limit(recorder, "primary", clock=clock)


def value(recorder, name, resource=None):
    labels = {"limiter": "primary"} | ({"resource": resource} if resource else {})
    return recorder.registry.get_sample_value(f"llmvitals_limit_{name}", labels)


def in_seconds(seconds):
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize(
    ("headers", "resource", "reset"),
    [
        (
            {
                "X-RateLimit-Remaining-Tokens": "25",
                "x-ratelimit-limit-tokens": "100",
                "x-ratelimit-reset-tokens": "1m2s",
            },
            "tokens",
            62,
        ),
        (
            {
                "anthropic-ratelimit-input-tokens-remaining": "25",
                "anthropic-ratelimit-input-tokens-limit": "100",
                "anthropic-ratelimit-input-tokens-reset": in_seconds,
            },
            "input_tokens",
            60,
        ),
        (
            {"RateLimit-Remaining": "25", "RateLimit-Limit": "100, 100;w=60", "RateLimit-Reset": "30"},
            "requests",
            30,
        ),
        (
            {
                "x-ratelimit-remaining": "25",
                "x-ratelimit-limit": "100",
                "x-ratelimit-reset": lambda seconds: str(int(time.time()) + seconds),
            },
            "requests",
            45,
        ),
    ],
    ids=["openai", "anthropic", "ietf", "unix seconds"],
)
def test_headers_say_what_is_left(recorder, clock, *, headers, resource, reset):
    """In each provider's own words."""
    limit = Limit(recorder, "primary", clock=clock)
    # A point in time is made when it is needed, not when the tests are collected.
    limit.read({name: said(reset) if callable(said) else said for name, said in headers.items()})

    assert 25 == value(recorder, "remaining", resource)
    assert 100 == value(recorder, "maximum", resource)
    assert 0.25 == value(recorder, "headroom_ratio", resource)
    assert value(recorder, "reset_timestamp_seconds", resource) - clock.now == pytest.approx(reset, abs=5)
    assert 0.25 == limit.summary()["headroom_ratio"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain"},
        {"x-ratelimit-remaining-requests": "many"},
        {"x-ratelimit-remaining-cats": "7"},
        {"x-ratelimit-reset-requests": "soon"},
        {"x-ratelimit-limit": ""},
        {7: None},
        None,
    ],
    ids=["none", "others", "no number", "unknown", "no time", "empty", "no text", "no headers"],
)
def test_what_cannot_be_understood_changes_nothing(recorder, limit, headers):
    """And never raises."""
    limit.read(headers)

    assert limit.summary()["headroom_ratio"] is None
    assert value(recorder, "remaining", "requests") is None


def test_after_the_reset_all_of_it_is_there_again(recorder, clock, limit):
    """Although nobody has asked since."""
    limit.headroom(0, 100, reset_seconds=60)
    assert 0 == value(recorder, "headroom_ratio", "requests")

    clock.now += 60

    assert 100 == value(recorder, "remaining", "requests")
    assert 1 == value(recorder, "headroom_ratio", "requests")


def test_without_a_maximum_there_is_no_ratio(recorder, limit):
    """It may be told later."""
    limit.headroom(5)
    assert value(recorder, "headroom_ratio", "requests") is None

    limit.headroom(5, 10)

    assert 0.5 == value(recorder, "headroom_ratio", "requests")


def test_rejections_and_waits_are_counted(recorder, limit):
    """Those who wait are seen while they wait, and timed also when they give up."""

    def wait():
        with limit.queued():
            assert 1 == value(recorder, "queued")
            raise TimeoutError

    with pytest.raises(TimeoutError):
        wait()
    limit.rejected()
    limit.rejected("tokens")

    assert 0 == value(recorder, "queued")
    assert 1 == value(recorder, "wait_seconds_count")
    assert 1 == value(recorder, "rejected_total", "tokens")
    assert {"rejected": 2, "queued": 0, "headroom_ratio": None} == limit.summary()


def test_a_name_gives_one_limit(vitals):
    """So that it can be asked for where it is used."""
    assert vitals.limit("primary") is vitals.limit("primary")
    assert {"primary"} == set(vitals.summary()["limits"])
