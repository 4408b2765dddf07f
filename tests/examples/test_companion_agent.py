"""What is done to the companion from outside, by the agent protocol, and what it leaves behind."""

import sqlite3
import time

import pytest
from tests.examples.companions import companion, controller
from tests.servers import eventually


@pytest.fixture(scope="module", name="hand")
def _hand():
    """A controller."""
    with controller() as hand:
        yield hand


@pytest.fixture(name="own_hand")
def _own_hand():
    """A controller that no other companion asks."""
    with controller() as own_hand:
        yield own_hand


@pytest.fixture(scope="module", name="tended")
def _tended(faulty_process, hand, tmp_path_factory):
    """A companion that pulls its commands from `hand`."""
    faulty_process.reset()
    with companion(faulty_process, tmp_path_factory.mktemp("tended") / "data", controller=hand.url) as tended:
        yield tended


def test_what_it_offers(hand, tended):
    """The agent offers the companion's action, its tunables with their limits, and its profiles."""
    eventually(lambda: len(hand.hello.get("profiles", ())) == 6, what="a poll with all profiles")
    tunables = {tunable["name"]: tunable for tunable in hand.hello["tunables"]}
    actions = {action["name"]: action for action in hand.hello["actions"]}

    own = {"provider", "thinker_model", "max_tokens", "response_cache_ttl_seconds"}
    assert own | {"batch_max_items", "batch_max_wait_seconds"} == set(tunables)
    assert ["primary", "backup"] == tunables["provider"]["choices"]
    assert "idempotent" == actions["warm_response_cache"]["effect"]
    assert {"evict_users", "relieve_memory", "apply_tunables", "switch_profile", "reset_breaker"} <= set(actions)
    assert {"thinker_model": "talker", "max_tokens": 128} == hand.hello["profiles"]["speed"]
    assert {"batch_max_items": 50, "batch_max_wait_seconds": 0.5} == hand.hello["profiles"]["high_load"]
    assert "development" == hand.hello["active_profile"]


def test_users_pile_up_and_are_evicted(hand, tended):
    """Profiles pile up beyond the limit, because nobody enforces it; evict_users brings them back to it, once."""
    tended.demo("users", count=41)
    assert tended.value("llmvitals_user_profiles_active") >= 41
    assert 10 == tended.value("llmvitals_user_profiles_limit")

    first = hand.command("evict_users", attempt_id="attempt-users", keep=10)
    again = hand.command("evict_users", attempt_id="attempt-users", keep=10)

    assert "done" == first["status"]
    assert first["result"] == again["result"]
    assert 10 == tended.value("llmvitals_user_profiles_active")
    noted = [effect for effect in tended.effects() if effect["attempt_id"] == "attempt-users"]
    assert [("evict_users", hand.hello["boot_id"])] == [(effect["verb"], effect["boot_id"]) for effect in noted]
    assert abs(noted[0]["at"] - time.time()) < 60


def test_memory_is_relieved(hand, tended):
    """Attachments fill memory, and relieve_memory gives it back."""
    before = tended.value("process_resident_memory_bytes")
    assert 200 == tended.demo("memory", mebibytes=128).status
    assert 16 <= tended.value("llmvitals_cache_entries", cache="attachments")
    full = tended.value("process_resident_memory_bytes")
    assert full - before > 100 * 2**20

    assert "done" == hand.command("relieve_memory")["status"]

    assert 0 == tended.value("llmvitals_cache_entries", cache="attachments")
    assert full - tended.value("process_resident_memory_bytes") > 100 * 2**20
    assert 200 == tended.say("Still there?", "thinker").status


def test_failing_over_by_command(hand, tended):
    """The tunable `provider` moves all traffic; taking the lease back returns it."""
    lease = hand.command("apply_tunables", values={"provider": "backup"}, lease_seconds=60)
    assert "backup" == tended.say("Where are you?", "thinker").json()["provider"]

    hand.command("revert_lease", lease_id=lease["attempt_id"])
    assert "primary" == tended.say("Where are you?", "thinker").json()["provider"]


def test_speed_profile(hand, tended):
    """The profile `speed` has the talker answer for the thinker, in at most 128 tokens."""
    lease = hand.command("switch_profile", profile="speed", lease_seconds=60)
    assert "talker" == tended.say("Think hard.", "thinker").json()["model"]
    assert 1 == tended.value("llmvitals_profile_active", profile="speed")

    hand.command("revert_lease", lease_id=lease["attempt_id"])
    assert "thinker" == tended.say("Think hard.", "thinker").json()["model"]


def test_out_of_bounds_is_refused(hand, tended):
    """A value that the companion did not offer is refused, and nothing changes."""
    result = hand.command("apply_tunables", values={"provider": "http://evil.example"}, lease_seconds=60)

    assert ("refused", "bad_parameters") == (result["status"], result["refusal"])
    assert "primary" == tended.say("Where are you?", "thinker").json()["provider"]


def test_cache_is_warmed(hand, tended, faulty):
    """After the cache was dropped, warming it asks what was asked most, and the next asking is a hit."""
    for _ in range(3):
        tended.say("What is worth repeating?")
    eventually(lambda: stored(tended, "What is worth repeating?") == 3, what="three rows")
    hand.command("drop_caches")

    result = hand.command("warm_response_cache", questions=5)

    assert "done" == result["status"]
    assert result["result"]["warmed"] >= 1
    assert tended.say("What is worth repeating?").json()["cached"]


def test_an_open_breaker_is_reset(hand, tended, faulty):
    """A breaker that was forced open sends all to the other provider until it is reset."""
    hand.command("force_breaker", name="llm_primary", state="open")
    assert "backup" == tended.say("And now?", "thinker").json()["provider"]

    hand.command("reset_breaker", name="llm_primary")
    assert "primary" == tended.say("And now?", "thinker").json()["provider"]


def test_crash_and_restart_keep_store_and_ledger(own_hand, faulty, tmp_path):
    """After a crash, what was said and what was done are still there; the new process is another boot."""
    data = tmp_path / "data"
    with companion(faulty, data, controller=own_hand.url) as first:
        first.say("My name is Ada.", "thinker", user="ada")
        eventually(lambda: stored(first, "My name is Ada.") == 1, what="the row")
        own_hand.command("drop_caches", attempt_id="attempt-before")
        boot = own_hand.hello["boot_id"]
        assert 202 == first.demo("crash").status
        eventually(lambda: first.server.process.poll() is not None, what="the crash")
        assert 1 == first.server.process.returncode

    own_hand.forget()
    with companion(faulty, data, controller=own_hand.url) as second:
        own_hand.command("drop_caches", attempt_id="attempt-after")
        effects = second.effects()
        asked = faulty.ledger()["models"]["thinker"]["input_tokens"]
        second.say("What is my name?", "thinker", user="ada")

        assert ["attempt-before", "attempt-after"] == [effect["attempt_id"] for effect in effects]
        assert boot == effects[0]["boot_id"] != effects[1]["boot_id"]
        assert 1 == stored(second, "My name is Ada.")
        # Recalled from the store: the prompt holds more than the question alone would.
        assert faulty.ledger()["models"]["thinker"]["input_tokens"] - asked > 60


def test_a_torn_line_in_the_ledger_is_told_apart(own_hand, faulty, tmp_path):
    """A line that a crash cut short does not swallow the next one."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "effects.jsonl").write_text('{"attempt_id": "whole"}\n{"attempt_id": "to')
    with companion(faulty, data, controller=own_hand.url) as mended:
        own_hand.command("drop_caches", attempt_id="attempt-next")

        assert [{"attempt_id": "whole"}, {"torn": '{"attempt_id": "to'}] == mended.effects()[:2]
        assert "attempt-next" == mended.effects()[2]["attempt_id"]


def stored(running, question):
    """How many exchanges with that question are on disk, read by another connection."""
    with sqlite3.connect(f"file:{running.data / 'companion.db'}?mode=ro", uri=True) as db:
        count = db.execute("SELECT count(*) FROM exchanges WHERE question = ?", (question,)).fetchone()[0]
    db.close()
    return count
