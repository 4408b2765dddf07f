import json

import pytest

from llmvitals.agent._protocol import (
    MAX_RESULT_BYTES,
    Command,
    Malformed,
    ProtocolError,
    Result,
    encodable,
    parse_commands,
)


def command(**changes):
    return {
        "attempt_id": "a-1",
        "fence": 1,
        "boot_id": "boot",
        "expires_at": 100.0,
        "verb": "collect_garbage",
        "parameters": {},
    } | changes


def body(*commands):
    return json.dumps({"commands": list(commands)}).encode()


def test_a_command_is_read_as_it_was_written():
    """A well-formed command arrives with every field."""
    parsed = parse_commands(body(command(parameters={"seconds": 2})))

    assert [Command("a-1", 1, "boot", 100.0, "collect_garbage", {"seconds": 2})] == parsed


def test_unknown_keys_are_ignored():
    """A newer controller may say more than this side knows."""
    raw = json.dumps({"commands": [command(colour="red")], "more": 1}).encode()

    assert isinstance(parse_commands(raw)[0], Command)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"not json",
        b"[]",
        b'{"commands": {}}',
        b'{"commands": [1]}',
        b'{"commands": [{"attempt_id": ""}]}',
        b'{"commands": [{"attempt_id": 7}]}',
        b'{"commands": NaN}',
        b"\xff\xfe\x00",
        b"[" * 200_000,
        json.dumps({"commands": [command(attempt_id="x" * 257)]}).encode(),
        json.dumps({"commands": [command(attempt_id="line\nbreak")]}).encode(),
        json.dumps({"commands": [command()] * 65}).encode(),
    ],
    ids=lambda raw: repr(raw[:40]),
)
def test_what_cannot_be_answered_is_an_error(raw):
    """Without an attempt id there is nobody to answer: the whole poll counts as failed."""
    with pytest.raises(ProtocolError):
        parse_commands(raw)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"fence": True}, "fence"),
        ({"fence": -1}, "fence"),
        ({"fence": 1.5}, "fence"),
        ({"fence": "1"}, "fence"),
        ({"fence": 2**63}, "fence"),
        ({"boot_id": None}, "boot_id"),
        ({"boot_id": "x" * 257}, "boot_id"),
        ({"expires_at": True}, "expires_at"),
        ({"expires_at": "soon"}, "expires_at"),
        ({"verb": "rm -rf /"}, "verb"),
        ({"verb": None}, "verb"),
        ({"verb": "x" * 129}, "verb"),
        ({"parameters": []}, "parameters"),
        ({"parameters": {"a": "x" * 4097}}, "4096 characters"),
        ({"parameters": {"x" * 4097: 1}}, "4096 characters"),
        ({"parameters": {"a": 10**400}}, "finite"),
        ({"parameters": {"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": {}}}}}}}}}}, "deeper"),
        ({"parameters": {"a": list(range(257))}}, "256 entries"),
    ],
    ids=str,
)
def test_what_can_be_answered_is_refused_with_a_clear_text(change, told):
    """A command with an attempt id gets an answer that names what is wrong with it."""
    [parsed] = parse_commands(body(command(**change)))

    assert isinstance(parsed, Malformed)
    assert told in parsed.problem


def test_a_number_that_overflows_is_not_finite():
    """1e999 is JSON, and infinity once it is read."""
    raw = body(command()).replace(b"100.0", b"1e999")

    [parsed] = parse_commands(raw)

    assert isinstance(parsed, Malformed)
    assert "expires_at" in parsed.problem


def test_nan_is_no_json():
    """Python's own reader would take NaN; the protocol does not."""
    with pytest.raises(ProtocolError, match="NaN"):
        parse_commands(body(command()).replace(b"100.0", b"NaN"))


@pytest.mark.parametrize(
    ("returned", "travels"),
    [
        (None, None),
        ({"evicted": 3}, {"evicted": 3}),
        (3, {"value": 3}),
        ([1, 2], {"value": [1, 2]}),
    ],
    ids=str,
)
def test_what_an_action_returns_travels_as_an_object(returned, travels):
    """A mapping is the result itself; anything else goes under `value`."""
    assert travels == encodable(returned)


@pytest.mark.parametrize("returned", [{"x": object()}, {"x": float("nan")}, object(), {1: {2: {3, 4}}}], ids=str)
def test_what_is_no_json_is_told_by_its_type(returned):
    """The action has acted: what it returned never turns that into a failure."""
    assert ["unencodable"] == list(encodable(returned))


def test_a_huge_result_is_cut():
    """A result is evidence, not a transport."""
    told = encodable({"text": "x" * 1_000_000})

    assert told["cut"] is True
    assert 1_000_012 == told["length"]
    assert "the result is 1000012 bytes of JSON, more than the 196608 that travel" == told["note"]
    assert len(json.dumps(told)) < 100_000


@pytest.mark.parametrize(
    "returned", [{"x": '"' * 90_000}, {"x": "y" * 196_000}, {"x": "y" * 250_000}], ids=["escapes", "just fits", "cut"]
)
def test_no_message_about_a_result_is_too_large_to_be_taken(returned):
    """Whatever an action returns, and however long its names and its error are in UTF-8."""
    result = Result("😀" * 256, "v" * 128, "done", encodable(returned), "😀" * 4096, None, 1763700000.123456)

    assert len(json.dumps(result.as_json(agent_id="😀" * 256, boot_id="b" * 256))) <= MAX_RESULT_BYTES
