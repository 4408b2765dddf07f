"""What applications test themselves with."""

import socket
import threading
from contextlib import suppress

import prometheus_client
import pytest
from prometheus_client import Counter, Gauge

import llmvitals
from llmvitals import _current, testing


def use_everything(vitals):
    with vitals.call(provider="local", model="talker"), vitals.operation("talk", target_seconds=1):
        vitals.retries("llm")
    vitals.breaker("llm").call(lambda: None)
    vitals.cache("names", {})["a"] = 1
    vitals.users().get_or_create("somebody", dict)
    vitals.pool("database", max_size=2)
    vitals.health_check("database", lambda: True)
    vitals.cleanup("rows", lambda: 0, interval_seconds=60)
    vitals.tunable("tokens", get=lambda: 1, set=lambda _: None, low=0, high=2)
    vitals.startup("one").ready()
    vitals.shutdown()
    vitals.history()
    vitals.summary()


def test_everything_works_without_threads_or_sockets(monkeypatch):
    """Nothing runs by itself, and nothing listens."""

    def no(*args, **kwargs):
        raise AssertionError("a test must not have this")

    monkeypatch.setattr(threading.Thread, "start", no)
    monkeypatch.setattr(socket.socket, "connect", no)
    monkeypatch.setattr(socket.socket, "bind", no)
    with testing.fresh() as vitals:
        use_everything(vitals)

        assert 1 == vitals.value("llmvitals_operations_total", operation="talk", level="excellent")
        assert vitals.value("llmvitals_instrumentation_errors_total") is None


def test_two_do_not_see_each_other():
    """Each has a registry of its own, and the process's knows of neither."""
    with testing.fresh() as one, testing.fresh() as other:
        with one.operation("talk"):
            pass

        assert 1 == one.value("llmvitals_operation_duration_seconds_count")
        assert other.value("llmvitals_operation_duration_seconds_count") is None
    assert prometheus_client.REGISTRY.get_sample_value("llmvitals_operation_duration_seconds_count") is None


def test_value_sums_up_what_has_the_labels():
    """Labels that are not given may be anything."""
    with testing.fresh() as vitals:
        for model in ("talker", "talker", "thinker"):
            with vitals.call(provider="local", model=model) as call:
                call.usage(input_tokens=5, output_tokens=2)

        assert 3 == vitals.value("gen_ai_client_operation_duration_seconds_count")
        assert 10 == vitals.value(
            "gen_ai_client_token_usage_sum", gen_ai_request_model="talker", gen_ai_token_type="input"
        )
        assert {4.0, 2.0} == {
            number
            for labels, number in vitals.samples("gen_ai_client_token_usage_sum").items()
            if ("gen_ai_token_type", "output") in labels
        }


@pytest.mark.parametrize(
    ("name", "labels", "says"),
    [
        ("llmvitals_operation_total", {}, "did you mean llmvitals_operations_total"),
        ("llmvitals_operations", {}, "did you mean llmvitals_operations_total"),
        ("gen_ai_client_token_usage", {}, "did you mean gen_ai_client_token_usage_"),
        ("llmvitals_operations_total", {"opration": "talk"}, "has no label opration; it has operation, level"),
        ("nothing_like_it", {}, "nothing shows nothing_like_it$"),
    ],
)
def test_what_can_never_be_is_told(name, labels, says):
    """A misspelt name has no value either, so a test that expects none would pass for ever."""
    with testing.fresh() as vitals, pytest.raises(LookupError, match=says):
        vitals.value(name, **labels)


def test_the_applications_own_metrics_can_be_read():
    """Those with samples, and those that have none yet."""
    with testing.fresh() as vitals:
        Gauge("app_mood", "How it feels.", registry=vitals.registry).set(3)
        Counter("app_jokes", "Told.", ["kind"], registry=vitals.registry)

        assert 3 == vitals.value("app_mood")
        assert vitals.value("app_jokes_total", kind="bad") is None


def test_an_application_that_starts_itself_is_tested_inside_of_active():
    """`start` gives the test's vitals, opens no port, and the numbers outlive the application's close."""
    threads = threading.active_count()
    with testing.active() as vitals:
        with llmvitals.start("app", port=9464, remediation_url="http://127.0.0.1:1") as started:
            assert vitals is started
            assert vitals is _current.current()
            use_everything(started)

        assert started.metrics_port is None
        assert threads == threading.active_count()
        assert 1 == vitals.value("llmvitals_operation_duration_seconds_count", operation="talk")
        assert vitals is llmvitals.start()


def test_after_active_all_is_as_before():
    """Also when it is nested, and when the test fails."""
    with testing.active() as outer:
        with suppress(KeyError), testing.active() as inner:
            assert inner is llmvitals.start()
            raise KeyError

        assert outer is llmvitals.start()
        assert outer is _current.current()
    assert _current.stand_in() is None
    assert _current.current() is not outer
