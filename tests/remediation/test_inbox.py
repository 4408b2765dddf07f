"""Reading what Alertmanager, or a stranger with its token, sends."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.remediation.world import webhook

from llmvitals_remediation.clock import iso, parse_iso
from llmvitals_remediation.errors import NotJSONError
from llmvitals_remediation.inbox import fingerprint, parse


def alert(**fields):
    told = {
        "status": "firing",
        "labels": {"alertname": "A", "job": "j", "instance": "i"},
        "annotations": {"summary": "s"},
        "startsAt": "2026-11-01T10:00:00.123456789Z",
        "endsAt": "0001-01-01T00:00:00Z",
    }
    return {**told, **fields}


def test_a_payload_of_version_4_is_read():
    """Unknown fields are no reason to refuse: two were added within a year."""
    told = parse(webhook(alert(novel=1), notification_reason="first notification", routeLabels={"x": 1}))

    (read,) = told.alerts
    assert ("A", "firing", 0.0) == (read.name, read.status, read.ends_at)
    assert "2026-11-01T10:00:00.123Z" == iso(read.starts_at)
    assert fingerprint(read.labels) == read.fingerprint


def test_a_moment_is_the_same_from_the_webhook_and_from_the_api():
    """Nanoseconds there, milliseconds here, another offset: one moment."""
    moments = ("2026-11-01T10:00:00.123999999Z", "2026-11-01T10:00:00.123Z", "2026-11-01T11:00:00.1234+01:00")

    assert 1 == len({parse_iso(moment) for moment in moments})


def test_the_fingerprint_is_ours_and_does_not_depend_on_order():
    """What the payload claims is not taken on trust."""
    first = parse(webhook(alert(labels={"alertname": "A", "b": "1"}, fingerprint="feedfeedfeedfeed")))
    second = parse(webhook(alert(labels={"b": "1", "alertname": "A"})))

    assert first.alerts[0].fingerprint == second.alerts[0].fingerprint != "feedfeedfeedfeed"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"<html>", b"\xff\xfe", b'{"version": NaN}', b"[Infinity]", b'{"a": "\xc3"}'],
    ids=["empty", "cut", "html", "utf-16", "nan", "infinity", "bad utf-8"],
)
def test_what_is_not_json_can_never_be_right(body):
    """400, not a quarantine."""
    with pytest.raises(NotJSONError):
        parse(body)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"[]", "not an object"),
        (b"5", "not an object"),
        (webhook(alert(), version="5"), 'is "5", not'),
        (webhook(alert(), version=4), 'is 4, not the text "4"'),
        (json.dumps({"text": "custom"}).encode(), "version"),
        (webhook(), "not a list with entries"),
        (b'{"version": "4", "version": "4"}', "twice"),
        (b"[" * 100_000 + b"]" * 100_000, "too deeply"),
        (b'{"version": ' + b"9" * 5000 + b"}", "out of bounds"),
        (webhook(*[alert()] * 3, alerts={}), "not a list"),
    ],
)
def test_json_that_is_no_payload_is_set_aside_with_a_reason(body, reason):
    """202: Alertmanager would repeat a refused body for ever."""
    told = parse(body)

    assert () == told.alerts
    assert reason in told.odd[0]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"status": "perhaps"}, "status"),
        ({"labels": {}}, "alertname"),
        ({"labels": {"alertname": ""}}, "alertname"),
        ({"labels": {"alertname": 5}}, "not text"),
        ({"labels": None}, "not an object"),
        ({"labels": {"alertname": "A", **{f"l{n}": "" for n in range(64)}}}, "at most 64"),
        ({"labels": {"alertname": "A", "x": "v" * 5000}}, "4096"),
        ({"labels": {"alertname": "A", "n" * 300: "v"}}, "256"),
        ({"labels": {"alertname": "\ud800"}}, "surrogate"),
        ({"startsAt": "yesterday"}, "startsAt"),
        ({"startsAt": None}, "startsAt"),
        ({"startsAt": "2026-11-01T10:00:00"}, "startsAt"),
        ({"startsAt": "9999-12-31T23:59:59Z"}, "bounds"),
        ({"status": "resolved", "endsAt": "x"}, "endsAt"),
        ({"annotations": {"a": "v" * 20_000}}, "16384"),
    ],
)
def test_an_odd_alert_is_set_aside_and_the_good_ones_beside_it_are_not(fields, reason):
    """One bad label must not cost the others their handlers."""
    told = parse(webhook(alert(**fields), alert()))

    assert 1 == len(told.alerts)
    assert "alerts[0]" in told.odd[0]
    assert reason in told.odd[0]


def test_hostile_labels_are_kept_as_text():
    """URLs, paths, quotes and newlines are only ever shown and looked up."""
    labels = {"alertname": "A", "instance": "http://x/../'; DROP TABLE incidents; --\n{{ 1 }} ${2}"}

    assert labels == parse(webhook(alert(labels=labels))).alerts[0].labels


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda children: (
            st.lists(children, max_size=4) | st.dictionaries(st.sampled_from(["alerts", "labels", "version"]), children)
        ),
        max_leaves=20,
    )
)
def test_no_json_raises_anything_else(value):
    """Any JSON is read or set aside."""
    parse(json.dumps(value).encode())
    parse(json.dumps({"version": "4", "alerts": [value]}).encode())


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(body):
    """Any bytes are read, set aside or not JSON."""
    with contextlib.suppress(NotJSONError):
        parse(body)
