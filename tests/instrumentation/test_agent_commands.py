"""What the agent does with a command, without network and threads."""

import ctypes
import gc
import logging
from typing import Annotated

import pytest
from prometheus_client import CollectorRegistry

from llmvitals._caches import Caches
from llmvitals._recording import Recorder
from llmvitals._users import Users
from llmvitals.agent import Agent, Bounds, Clock, Command
from llmvitals.agent import _results as results_module
from llmvitals.agent._protocol import Malformed, Result
from llmvitals.agent._results import Results

WALL = 1_700_000_000.0


class App:
    """An application with one action, one tunable, one profile, and a ledger."""

    def __init__(self):
        self.now = 0.0
        self.wall_shift = 0.0
        self.ttl = 300
        self.evicted = []
        self.ledger = []
        self.recorder = Recorder(CollectorRegistry())
        self.agent = Agent(
            self.recorder,
            service="test",
            on_command=lambda *entry: self.ledger.append(entry),
            clock=Clock(wall=lambda: WALL + self.now + self.wall_shift, monotonic=lambda: self.now),
        )
        self.agent.action(effect="idempotent")(self.evict_idle)
        self.agent.action(effect="neither")(self.explode)
        self.agent.tunable("ttl", get=lambda: self.ttl, set=self.set_ttl, low=30, high=3600)
        self.agent.profile("speed", {"ttl": 60})
        self.attempts = 0

    def evict_idle(self, older_than_seconds: Annotated[float, Bounds(0, 86_400)] = 60):
        """Evict idle ones.

        More about it.
        """
        self.evicted.append(older_than_seconds)
        return {"evicted": 3}

    def explode(self):
        """Raise."""
        raise SystemExit("boom")

    def set_ttl(self, value):
        self.ttl = value

    def command(self, verb, parameters=None, **changes):
        self.attempts += 1
        settings = {
            "attempt_id": f"attempt-{self.attempts}",
            "fence": self.attempts,
            "boot_id": self.agent.boot_id,
            "expires_at": WALL + self.now + 30,
            "verb": verb,
            "parameters": parameters or {},
        }
        return Command(**(settings | changes))

    def obey(self, verb, parameters=None, **changes):
        return self.agent.obey(self.command(verb, parameters, **changes))

    def count(self, verb, outcome):
        return self.recorder.registry.get_sample_value(
            "llmvitals_agent_commands_total", {"verb": verb, "outcome": outcome}
        )


@pytest.fixture(name="app")
def _app():
    return App()


def test_a_good_command_acts_and_is_answered(app):
    """Done, with what the action returned, one entry in the ledger."""
    result = app.obey("evict_idle", {"older_than_seconds": 5})

    assert Result("attempt-1", "evict_idle", "done", {"evicted": 3}, None, None, WALL) == result
    assert [5.0] == app.evicted
    assert [("attempt-1", "evict_idle", app.agent.boot_id)] == app.ledger
    assert 1 == app.count("evict_idle", "done")


def test_a_repeated_attempt_is_answered_from_memory(app):
    """The same result, status and time, no second act, although all else about the command has gone bad."""
    command = app.command("evict_idle")
    first = app.agent.obey(command)
    app.now += 1000

    again = app.agent.obey(Command("attempt-1", 0, "other", 0.0, "explode", {"bad": 1}))

    assert first is again
    assert 1 == len(app.evicted)
    assert 1 == len(app.ledger)
    assert 1 == app.count("explode", "repeated")


def test_a_repeated_failure_is_not_tried_again(app):
    """Status and text as they were: whether to make a new attempt is for the controller to say."""
    command = app.command("explode")
    first = app.agent.obey(command)

    assert first is app.agent.obey(command)
    assert ("failed", "SystemExit: boom") == (first.status, first.error)
    assert 1 == len(app.ledger)


@pytest.mark.parametrize(
    ("verb", "parameters", "changes", "refusal", "told"),
    [
        ("evict_idle", {}, {"boot_id": "other"}, "other_boot", "the process that was meant is gone"),
        ("evict_idle", {}, {"expires_at": WALL}, "expired", "expired 0.0 s ago"),
        ("evict_idle", {}, {"expires_at": WALL - 60}, "expired", "expired 60.0 s ago"),
        ("rm_rf", {}, {}, "unknown_verb", "no action 'rm_rf'"),
        ("evict_users", {}, {}, "unknown_verb", "no action 'evict_users'"),
        ("evict_idle", {"older_than_seconds": -1}, {}, "bad_parameters", "at least 0"),
        ("evict_idle", {"older_than_seconds": float("nan")}, {}, "bad_parameters", "finite"),
        ("evict_idle", {"older_than_seconds": True}, {}, "bad_parameters", "not bool"),
        ("evict_idle", {"colour": "red"}, {}, "bad_parameters", "'colour' is no parameter"),
        ("apply_tunables", {"values": {"ttl": 29}, "lease_seconds": 10}, {}, "bad_parameters", "at least 30"),
        ("apply_tunables", {"values": {"ttl": 60.5}, "lease_seconds": 10}, {}, "bad_parameters", "not float"),
        ("apply_tunables", {"values": {"x": 1}, "lease_seconds": 10}, {}, "bad_parameters", "no tunable 'x'"),
        ("apply_tunables", {"values": {}, "lease_seconds": 10}, {}, "bad_parameters", "values is empty"),
        ("apply_tunables", {"values": [], "lease_seconds": 10}, {}, "bad_parameters", "an object, not list"),
        ("apply_tunables", {"values": {"ttl": 60}}, {}, "bad_parameters", "lease_seconds is missing"),
        ("apply_tunables", {"values": {"ttl": 60}, "lease_seconds": 1e9}, {}, "bad_parameters", "at most 86400"),
        ("switch_profile", {"profile": "fast", "lease_seconds": 10}, {}, "bad_parameters", "'speed'"),
        ("profile_cpu", {"seconds": 3600}, {}, "bad_parameters", "at most 60"),
    ],
    ids=str,
)
def test_what_is_refused_does_not_act(app, verb, parameters, changes, refusal, told):  # noqa: PLR0917 -- a table
    """The reason is one of five, the text is for people, and the ledger stays empty."""
    result = app.obey(verb, parameters, **changes)

    assert ("refused", refusal) == (result.status, result.refusal)
    assert told in result.error
    assert [] == app.ledger
    assert [] == app.evicted
    assert 300 == app.ttl


def test_a_malformed_command_is_refused(app):
    """What could not even be read as a command is answered, by its attempt id."""
    result = app.agent.obey(Malformed("attempt-x", "unknown", "fence must be an integer"))

    assert ("refused", "bad_parameters", "fence must be an integer") == (result.status, result.refusal, result.error)


def test_an_older_fence_is_refused(app):
    """A controller that slept and woke up comes too late."""
    app.obey("evict_idle", fence=7)

    late = app.obey("evict_idle", fence=6)
    same = app.obey("evict_idle", fence=7)

    assert ("refused", "old_fence") == (late.status, late.refusal)
    assert "fence 6 is older than 7" in late.error
    assert "done" == same.status


def test_fences_of_different_subjects_do_not_mix(app):
    """The renewal of an old lease is no old command because something else was done since."""
    app.obey("switch_profile", {"profile": "speed", "lease_seconds": 10}, attempt_id="lease", fence=3)
    app.obey("evict_idle", fence=9)
    app.obey("apply_tunables", {"values": {"ttl": 90}, "lease_seconds": 10}, fence=8)

    renewed = app.obey("renew_lease", {"lease_id": "lease", "lease_seconds": 10}, fence=3)
    older = app.obey("renew_lease", {"lease_id": "lease", "lease_seconds": 10}, fence=2)
    late = app.obey("switch_profile", {"profile": "speed", "lease_seconds": 10}, fence=7)

    assert "done" == renewed.status
    assert "old_fence" == older.refusal
    assert "old_fence" == late.refusal


def test_a_refused_fence_leaves_no_trace(app):
    """A command that is refused for another reason does not push the fence."""
    app.obey("evict_idle", {"older_than_seconds": -1}, fence=100)
    app.obey("evict_idle", fence=100, boot_id="other")

    assert "done" == app.obey("evict_idle", fence=1).status


def test_a_ledger_that_cannot_be_written_stops_the_command(app):
    """What cannot be recorded is not done."""
    agent = Agent(app.recorder, service="test", on_command=lambda *_: 1 / 0, clock=Clock(lambda: WALL, lambda: 0.0))
    agent.action(effect="idempotent")(app.evict_idle)

    result = agent.obey(Command("a", 1, agent.boot_id, WALL + 1, "evict_idle", {}))

    assert "failed" == result.status
    assert "on_command raised ZeroDivisionError" in result.error
    assert [] == app.evicted


def test_a_lease_by_command_has_the_attempts_id(app):
    """Applied, told, confirmed by that id."""
    applied = app.obey("apply_tunables", {"values": {"ttl": 60}, "lease_seconds": 10}, attempt_id="lease")

    assert 60 == app.ttl
    assert {
        "lease_id": "lease",
        "expires_at": WALL + 10,
        "values": {"ttl": 60},
        "values_before": {"ttl": 300},
    } == applied.result
    assert [{"lease_id": "lease", "values": {"ttl": 60}, "expires_at": WALL + 10}] == app.agent.hello()["leases"]
    assert "done" == app.obey("confirm_lease", {"lease_id": "lease"}).status
    app.now += 100
    app.agent.end_due_leases()
    assert 60 == app.ttl


def test_a_lease_survives_no_jump_of_the_clock(app):
    """Its time is the monotonic one: a wall clock set forward ends nothing early."""
    app.obey("switch_profile", {"profile": "speed", "lease_seconds": 10})
    app.wall_shift = 86_400.0

    app.agent.end_due_leases()
    assert "speed" == app.agent.active_profile
    app.now += 10
    app.agent.end_due_leases()

    assert 300 == app.ttl
    assert app.agent.active_profile is None


def test_reverting_by_command(app):
    """Back at once; a second time it is told that it is so; an unknown lease is a failure with a text."""
    app.obey("switch_profile", {"profile": "speed", "lease_seconds": 10}, attempt_id="lease")

    first = app.obey("revert_lease", {"lease_id": "lease"})
    second = app.obey("revert_lease", {"lease_id": "lease"})
    unknown = app.obey("revert_lease", {"lease_id": "nobody"})

    assert 300 == app.ttl
    assert {"lease_id": "lease", "ended": "reverted"} == first.result == second.result
    assert ("failed", "LeaseError: there is no lease 'nobody' in this process") == (unknown.status, unknown.error)


def test_the_first_profile_is_in_force_once_it_is_known(app):
    """`profile=` of start() names what the application registers later."""
    agent = Agent(app.recorder, service="test", profile="speed")
    agent.tunable("ttl2", get=lambda: app.ttl, set=app.set_ttl, low=30, high=3600)
    agent.profile("speed", {"ttl2": 60})

    assert 60 == app.ttl
    assert "speed" == agent.active_profile
    agent.close()
    assert 60 == app.ttl


def test_a_first_profile_that_is_never_registered_is_told_once(app, caplog):
    """At a scrape, after the application has had its time; with what there is."""
    clock = Clock(wall=lambda: WALL, monotonic=lambda: app.now)
    agent = Agent(app.recorder, service="test", profile="sped", clock=clock)
    agent.tunable("ttl", get=lambda: 60, set=lambda value: None, low=30, high=3600)
    agent.profile("speed", {"ttl": 60})
    agent.profile("balanced", {"ttl": 300})

    def scrape_at(now):
        app.now = now
        list(app.recorder.registry.collect())
        return [record.getMessage() for record in caplog.records if "sped" in record.getMessage()]

    assert [] == scrape_at(9.0)
    (told,) = scrape_at(10.0)
    assert "LLMVITALS_PROFILE" in told
    assert told.endswith("it has registered balanced, speed")
    assert 1 == len(scrape_at(20.0))


def test_a_first_profile_that_is_registered_is_not_told(app, caplog):
    """Nor is a missing one, when none was asked for."""
    clock = Clock(wall=lambda: WALL, monotonic=lambda: app.now)
    agent = Agent(app.recorder, service="test", profile="speed", clock=clock)
    agent.tunable("ttl", get=lambda: 60, set=lambda value: None, low=30, high=3600)
    agent.profile("speed", {"ttl": 60})
    app.now += 3600

    list(app.recorder.registry.collect())

    assert "" == caplog.text


def test_built_ins_are_there_only_with_something_to_act_on(app):
    """Without users, caches, breakers or pools, their verbs are not offered."""
    bare = Agent(Recorder(CollectorRegistry()), service="bare")

    assert {"dump_stacks", "trace_memory", "profile_cpu", "collect_garbage", "relieve_memory"} == {
        action["name"] for action in bare.hello()["actions"]
    }


def test_the_hello_tells_all_that_is_offered(app):
    """Exactly the keys of the protocol, JSON throughout."""
    hello = app.agent.hello()

    assert {
        "protocol",
        "agent_id",
        "boot_id",
        "service",
        "pid",
        "started_at",
        "actions",
        "tunables",
        "profiles",
        "active_profile",
        "leases",
    } == set(hello)
    assert {
        "name": "evict_idle",
        "effect": "idempotent",
        "parameters": [{"name": "older_than_seconds", "type": "number", "default": 60, "low": 0, "high": 86_400}],
        "description": "Evict idle ones.",
    } in hello["actions"]
    assert [{"name": "ttl", "value": 300, "low": 30, "high": 3600}] == hello["tunables"]
    assert {"speed": {"ttl": 60}} == hello["profiles"]


def test_a_getter_that_raises_does_not_silence_the_agent(app):
    """Its value is not known; the rest of the hello is."""
    answers = iter([5])
    app.agent.tunable("odd", get=lambda: next(answers), set=lambda _: None, low=1, high=9)

    assert {"name": "odd", "value": None, "low": 1, "high": 9} in app.agent.hello()["tunables"]


def test_users_are_evicted_by_command(app):
    """The idle ones, then the oldest down to ten."""
    app.agent.reach.users = users = Users(app.recorder, enforce=False)
    for number in range(41):
        users.get_or_create(f"user-{number}", dict)

    result = app.obey("evict_users", {"keep": 10})

    assert {"evicted_idle": 0, "evicted_oldest": 31, "left": 10} == result.result
    assert "keep is -1" in app.obey("evict_users", {"keep": -1}).error


def test_caches_are_dropped_by_command(app):
    """drop_caches and relieve_memory empty what is registered."""
    app.agent.reach.caches = caches = Caches(app.recorder)
    cache = caches.wrap("attachments", {"a": "x"})

    assert {"dropped_entries": {"attachments": 1}} == app.obey("drop_caches").result
    cache["b"] = "y"
    relieved = app.obey("relieve_memory").result

    assert {"attachments": 1} == relieved["dropped_entries"]
    assert relieved["resident_bytes_after"] > 0
    assert 0 == len(cache)


def test_breakers_and_pools_obey_by_name(app):
    """Only names that exist, only states that exist."""

    class Breaker:
        state = "closed"

        def reset(self):
            self.state = "closed"

        def force_open(self):
            self.state = "open"

    breaker = Breaker()
    app.agent.reach.breakers = {"llm": breaker}
    app.agent.reach.idle_closers = {"db": lambda: 4}

    assert "done" == app.obey("force_breaker", {"name": "llm", "state": "open"}).status
    assert "open" == breaker.state
    assert "done" == app.obey("reset_breaker", {"name": "llm"}).status
    assert "closed" == breaker.state
    assert "bad_parameters" == app.obey("reset_breaker", {"name": "db"}).refusal
    assert "bad_parameters" == app.obey("force_breaker", {"name": "llm", "state": "half_open"}).refusal
    assert {"closed_connections": {"db": 4}} == app.obey("close_idle_connections").result


def test_one_pool_that_raises_does_not_keep_the_others(app):
    """The failure tells what was closed all the same."""
    app.agent.reach.idle_closers = {"bad": lambda: 1 / 0, "good": lambda: 2}

    result = app.obey("close_idle_connections")

    assert "failed" == result.status
    assert "pool 'bad': ZeroDivisionError" in result.error
    assert "{'good': 2}" in result.error


def test_garbage_is_collected_and_memory_given_back(app):
    """Cycles go, and the numbers say what the process held before and after."""

    class Node:
        pass

    def make():
        nodes = [Node() for _ in range(1000)]
        for node in nodes:
            node.self = node

    gc.disable()
    try:
        make()
        result = app.obey("collect_garbage").result
    finally:
        gc.enable()

    assert result["collected_objects"] >= 1000
    assert result["trim"] in {"done", "nothing", "unsupported"}
    assert result["resident_bytes_before"] > 0


def test_without_glibc_trimming_is_unsupported(app, monkeypatch):
    """Musl and macOS have no malloc_trim: said, not failed."""
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())

    assert "unsupported" == app.obey("collect_garbage").result["trim"]


@pytest.mark.parametrize(
    ("registration", "error"),
    [
        ({"effect": "harmless"}, "effect"),
        ({"effect": "idempotent", "name": "a b"}, "name"),
        ({"effect": "idempotent", "name": "dump_stacks"}, "built-in"),
        ({"effect": "idempotent", "name": "explode"}, "registered already"),
    ],
    ids=str,
)
def test_a_wrong_registration_is_told(app, registration, error):
    """At the decorator, not at the first command."""

    def act():
        """Act."""

    with pytest.raises(ValueError, match=error):
        app.agent.action(**registration)(act)


def test_a_coroutine_function_is_no_action(app):
    """The text says what to write instead."""

    async def act():
        """Act."""

    with pytest.raises(TypeError, match="run_coroutine_threadsafe"):
        app.agent.action(effect="idempotent")(act)


def test_a_failing_action_is_logged_with_its_traceback(app, caplog):
    """The application's owner finds the line; the controller gets type and text."""
    with caplog.at_level(logging.WARNING, logger="llmvitals"):
        app.obey("explode")

    assert "SystemExit: boom" in caplog.text
    assert "in explode" in caplog.text


def test_results_keep_the_last_ones_and_never_drop_what_is_not_acknowledged():
    """Old ones that were told make room; one that was not told stays, however old."""
    results = Results(kept=3)

    def finish(attempt_id):
        results.begin(attempt_id)
        results.finish(Result(attempt_id, "v", "done", None, None, None, 0.0))

    for number in range(5):
        finish(f"a{number}")
        if number:
            results.acknowledge(f"a{number}")

    assert 3 == len(results)
    assert ["a0"] == [result.attempt_id for result in results.to_tell(0.0)]
    assert results.get("a1") is None
    assert results.get("a4") is not None


def test_results_are_told_ever_less_often_until_acknowledged():
    """1, 2, 4 … at most 30 s, for as long as it takes."""
    results = Results()
    results.begin("a")
    results.finish(Result("a", "v", "done", None, None, None, 0.0))
    now, gaps = 0.0, []
    for _ in range(8):
        assert results.to_tell(now)
        results.postpone("a", now)
        due = next(step for step in range(1, 100) if results.to_tell(now + step))
        gaps.append(due)
        now += due

    assert [1, 2, 4, 8, 16, 30, 30, 30] == gaps
    results.acknowledge("a")
    assert [] == results.to_tell(now + 1000)
    assert 256 == results_module.KEPT
