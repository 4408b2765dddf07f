import logging
import threading

import pytest
from prometheus_client import CollectorRegistry

from llmvitals._recording import Recorder
from llmvitals._users import Users


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture(name="clock")
def _clock():
    return Clock()


@pytest.fixture(name="recorder")
def _recorder():
    return Recorder(CollectorRegistry())


def value(recorder, name, **labels):
    return recorder.registry.get_sample_value(name, labels)


def fill(users, clock, count):
    for number in range(count):
        users.get_or_create(f"user-{number}", dict)
        clock.now += 1


def test_what_will_be_counted_begins_at_zero(recorder):
    """A rate sees the first profile that is made, and the first that is evicted for each reason."""
    Users(recorder)

    assert 0 == value(recorder, "llmvitals_user_profiles_created_total")
    for reason in ("idle", "oldest", "explicit"):
        assert 0 == value(recorder, "llmvitals_user_profiles_evicted_total", reason=reason)


def test_a_profile_is_made_once(recorder, clock):
    """The second request gets the same object, and counts nothing new."""
    users = Users(recorder, clock=clock)

    assert users.get_or_create("ann", dict) is users.get_or_create("ann", dict)
    assert 1 == len(users)
    assert 1 == value(recorder, "llmvitals_user_profiles_created_total")
    assert 1 == value(recorder, "llmvitals_user_profiles_active")
    assert 10 == value(recorder, "llmvitals_user_profiles_limit")


def test_threads_that_ask_at_once_share_one_profile(recorder):
    """The factory runs once, although all threads found nothing."""
    users = Users(recorder)
    asked, made, got = threading.Barrier(9), [], []

    def factory():
        made.append(object())
        return made[-1]

    def ask():
        asked.wait()
        got.append(users.get_or_create("ann", factory))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    asked.wait()
    for thread in threads:
        thread.join()

    assert 1 == len(made)
    assert {id(made[0])} == {id(profile) for profile in got}


def test_a_factory_that_raises_leaves_nothing_behind(recorder):
    """The caller gets the error, and the next one tries again."""
    users = Users(recorder)

    with pytest.raises(ZeroDivisionError):
        users.get_or_create("ann", lambda: 1 / 0)

    assert 0 == len(users)
    assert "made" == users.get_or_create("ann", lambda: "made")


def test_a_factory_that_asks_for_itself_is_told_so(recorder):
    """A mistake that would wait for itself for ever raises instead."""
    users = Users(recorder)

    with pytest.raises(RuntimeError, match="asked for the same"):
        users.get_or_create("ann", lambda: users.get_or_create("ann", dict))


def test_the_limit_is_only_shown_without_enforce(recorder, clock):
    """Profiles pile up, the gauges say so, and somebody else acts."""
    users = Users(recorder, max_active=10, enforce=False, clock=clock)

    fill(users, clock, 41)

    assert 41 == value(recorder, "llmvitals_user_profiles_active")
    assert 10 == value(recorder, "llmvitals_user_profiles_limit")


def test_the_limit_holds_with_enforce(recorder, clock):
    """The oldest go first, and the new one stays."""
    gone = []
    users = Users(recorder, max_active=3, clock=clock, on_evict=lambda user_id, _: gone.append(user_id))

    fill(users, clock, 3)
    users.get("user-0")
    users.get_or_create("new", dict)

    assert ["user-1"] == gone
    assert 3 == len(users)
    assert 1 == value(recorder, "llmvitals_user_profiles_evicted_total", reason="oldest")


def test_idle_ones_go_before_old_ones(recorder, clock):
    """With idle profiles to evict, nobody who is there has to leave."""
    users = Users(recorder, max_active=3, idle_seconds=100, clock=clock)
    fill(users, clock, 3)
    clock.now += 99

    users.get("user-2")
    users.get_or_create("new", dict)

    assert 2 == len(users)
    assert 2 == value(recorder, "llmvitals_user_profiles_evicted_total", reason="idle")
    assert 0 == value(recorder, "llmvitals_user_profiles_evicted_total", reason="oldest")


def test_evict_takes_idle_ones_then_the_oldest_down_to_keep(recorder, clock):
    """The verb's work: 41 profiles, 5 idle, keep 10."""
    users = Users(recorder, enforce=False, clock=clock)
    fill(users, clock, 41)

    told = users.evict(older_than_seconds=36.5, keep=10)

    assert {"evicted_idle": 5, "evicted_oldest": 26, "left": 10} == told
    assert users.get("user-40") is not None
    assert users.get("user-30") is None
    assert users.evict(keep=10)["left"] == 10
    assert 10 == value(recorder, "llmvitals_user_profiles_active")


def test_evict_without_keep_takes_only_idle_ones(recorder, clock):
    """A command that names no number must not empty the registry."""
    users = Users(recorder, enforce=False, clock=clock)
    fill(users, clock, 41)

    assert {"evicted_idle": 0, "evicted_oldest": 0, "left": 41} == users.evict()


def test_a_user_who_leaves_is_evicted_explicitly(recorder):
    """Reasons tell the housekeeping from the goodbye."""
    users = Users(recorder)
    users.get_or_create("ann", dict)

    assert users.evict_user("ann") is True
    assert users.evict_user("ann") is False
    assert 1 == value(recorder, "llmvitals_user_profiles_evicted_total", reason="explicit")


def test_an_evict_callback_that_raises_hurts_nobody(recorder, clock):
    """The eviction is done, the fault is counted, the application goes on."""
    users = Users(recorder, clock=clock, on_evict=lambda *_: 1 / 0)
    fill(users, clock, 2)

    assert 2 == users.evict_oldest(keep=0)
    assert 2 == value(recorder, "llmvitals_instrumentation_errors_total", component="users")


def test_no_user_id_is_shown(recorder, clock, caplog):
    """Neither a label nor a log line names a user."""
    users = Users(recorder, max_active=1, clock=clock)
    with caplog.at_level(logging.INFO, logger="llmvitals"):
        fill(users, clock, 3)

    shown = [str(sample) for family in recorder.registry.collect() for sample in family.samples]

    assert not [line for line in [*shown, caplog.text] if "user-" in line]
