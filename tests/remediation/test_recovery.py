"""After a crash: look first. Every place where a life may end, and every kind of action."""

import os
import signal
import subprocess
import sys

import pytest
from tests.remediation.world import POLICY, until, world

from llmvitals_remediation import crash
from llmvitals_remediation.records import Report


@pytest.fixture(name="world")
def _world(tmp_path):
    with world(tmp_path) as made:
        yield made


class CrashError(BaseException):
    """The process ends here, as far as the code under test can tell."""


@pytest.fixture(name="crash_at")
def _crash_at(monkeypatch):
    """Arms one place, once."""

    def arm(place):
        def point(name):
            if name == place:
                monkeypatch.setattr(crash, "point", lambda name: None)
                raise CrashError

        monkeypatch.setattr(crash, "point", point)

    return arm


def heal(world):
    world.agents.on_act = lambda command: world.memory(1.0)


def fall(world, name="Memory"):
    """Fire, tick until the armed place is reached, and start the next life."""
    import threading

    fallen = threading.Event()
    threading.excepthook, before = (lambda args: fallen.set()), threading.excepthook
    try:
        world.fire(name)
        for _ in range(20):
            try:
                world.engine.tick()
            except CrashError:
                fallen.set()
            world.idle()
            if fallen.is_set():
                break
            world.clock.advance(0.5)
    finally:
        threading.excepthook = before
    assert fallen.is_set()
    world.die()
    world.boot()


@pytest.mark.parametrize("place", ["after_intent", "after_act", "in_verification"])
def test_an_idempotent_action_happens_once_whatever_the_place(world, crash_at, place):
    """Same boot id: the same attempt id is asked about, and the agent answers with what it stored, or acts now."""
    heal(world)
    crash_at(place)
    fall(world)
    world.run(10)

    assert ("remediated", 1) == (world.incident()["outcome"], world.incident()["attempts_used"])
    assert 1 == len(world.agents.effects)
    fences = [command.fence for command in world.agents.sent]
    assert sorted(set(fences)) == fences


@pytest.mark.parametrize("place", ["after_intent", "after_act"])
def test_an_action_that_may_not_be_repeated_is_asked_about_by_its_id(world, crash_at, place):
    """The agent knows whether that attempt happened: at most one effect, and the outcome is known."""
    heal(world)
    crash_at(place)
    fall(world, "Charge")
    world.run(10)

    assert "remediated" == world.incident()["outcome"]
    assert 1 == len(world.agents.effects)


def test_a_restarted_process_gets_a_new_attempt_when_the_action_is_idempotent(world, crash_at):
    """What the old process did went with it."""
    crash_at("after_act")
    fall(world)
    heal(world)
    world.agents.boot_id = "boot-2"
    world.run(10)

    assert ["unknown", "effective"] == [attempt["verdict"] for attempt in world.incident()["attempts"]]
    assert ["boot-1", "boot-2"] == [attempt["boot_id"] for attempt in world.incident()["attempts"]]
    assert 2 == len({attempt for attempt, _ in world.agents.effects}) == len(world.agents.effects)


def test_a_restarted_process_and_an_action_that_may_not_be_repeated_go_to_people(world, crash_at):
    """Nobody can know whether it happened."""
    crash_at("after_act")
    fall(world, "Charge")
    world.agents.boot_id = "boot-2"
    world.run(10)

    assert "escalated" == world.incident()["outcome"]
    assert 1 == len(world.agents.effects)


def test_an_agent_that_does_not_come_back_leads_to_the_proof(world, crash_at):
    """The deadline frees the slot, and the value decides."""
    heal(world)
    crash_at("after_act")
    fall(world)
    world.agents.present = False
    world.run(110, step=1)

    assert "remediated" == world.incident()["outcome"]
    assert "unknown" == next(r["detail"]["answer"] for r in world.incident()["timeline"] if r["event"] == "acted")
    assert 0 == world.store.executing()


def test_an_alert_that_is_over_by_then_is_not_acted_on(world, crash_at):
    """The intent was never sent, the alert is gone: asking again would act without a reason."""
    crash_at("after_intent")
    fall(world)
    labels = world.prom.firing[0]
    world.quiet(labels)
    world.memory(1.0)
    world.run(10)

    assert [] == world.agents.effects
    assert "closed" == world.incident()["state"]


def test_the_kill_switch_holds_for_what_a_former_life_began(world, crash_at):
    """The intent was never sent, and is not sent now."""
    crash_at("after_intent")
    fall(world)
    world.engine.set_kill_switch(True, who="ada", why="stop")
    world.run(60, step=1)

    assert [] == world.agents.sent


def test_what_was_stored_and_not_looked_at_is_looked_at_by_the_next_life(world):
    """The commit is all that an acknowledged alert needs."""
    heal(world)
    world.fire()
    world.die()
    world.boot()
    world.run(5)

    assert "remediated" == world.incident()["outcome"]


def test_cooldown_and_limits_survive_a_restart(world):
    """They are rows, not memory."""
    heal(world)
    labels = world.fire()
    world.run(5)
    world.quiet(labels)
    world.die()
    world.boot()
    world.memory(2.0)
    world.clock.advance(60)
    world.fire()
    world.run(5)

    assert ("gated", "cooldown") == (world.incident()["state"], world.incident()["gate"])


def test_a_restart_by_somebody_else_counts_as_done(tmp_path, crash_at):
    """The driver looks at the process' start before it acts; the proof is the start time, newer than the incident."""

    class Driver:
        began = 0.0
        restarts = 0

        def carry_out(self, attempt, *, incident_at, timeout):
            if self.began <= incident_at:
                self.restarts += 1
                self.began = incident_at + 1
            return Report("done", {"started_at": self.began})

    driver = Driver()
    with world(tmp_path, drivers={"supervisor": driver}) as made:
        target = next(iter(made.prom.targets))
        made.prom.targets[target] = False
        crash_at("after_act")
        fall(made, "Down")
        made.prom.targets[target] = True
        made.series("process_start_time_seconds", driver.began)
        made.run(10)

        assert "remediated" == made.incident()["outcome"]
        assert 1 == driver.restarts


@pytest.mark.parametrize("place", ["before_commit", "after_commit"])
def test_sigkill_around_the_commit_keeps_what_was_acknowledged(tmp_path, place):
    """A real process, really killed: nothing before the commit, everything after it, and the file opens again."""
    program = """
import sys
from pathlib import Path
from llmvitals_remediation.clock import SystemClock
from llmvitals_remediation.store import Store
store = Store.open(Path(sys.argv[1]), SystemClock())
store.accept(Path(sys.argv[2]).read_bytes(), received_at=1.0)
print("acknowledged")
"""
    from tests.remediation.world import webhook

    from llmvitals_remediation.clock import SystemClock
    from llmvitals_remediation.store import Store

    body = tmp_path / "body.json"
    alert = {"status": "firing", "labels": {"alertname": "A"}, "startsAt": "2026-11-01T00:00:00Z"}
    body.write_bytes(webhook(alert))
    path = tmp_path / "killed.db"
    ended = subprocess.run(
        [sys.executable, "-c", program, path, body],
        env={**os.environ, crash.VARIABLE: place},
        capture_output=True,
        timeout=30,
        check=False,
    )
    store = Store.open(path, SystemClock())
    kept = len(store.events())
    store.close()

    assert -signal.SIGKILL == ended.returncode
    assert b"" == ended.stdout
    assert (1 if place == "after_commit" else 0) == kept


def test_an_unknown_crash_point_is_an_error_at_once():
    """A misspelt place must not look like a pass."""
    ended = subprocess.run(
        [sys.executable, "-c", "import llmvitals_remediation.crash"],
        env={**os.environ, crash.VARIABLE: "somewhere"},
        capture_output=True,
        timeout=30,
        check=False,
    )

    assert 0 != ended.returncode
    assert b"it is one of before_commit" in ended.stderr


def test_a_second_life_beside_the_first_is_refused(world):
    """One process writes."""
    from llmvitals_remediation.errors import StoreLockedError
    from llmvitals_remediation.store import Store

    with pytest.raises(StoreLockedError, match="another remediation process"):
        Store.open(world.folder / "remediation.db", world.clock)


def test_a_handler_that_left_the_policy_leaves_its_incident_to_people(world):
    """Nothing is acted on by a rule that is no more."""
    world.agents.present = False
    world.fire()
    world.tick()
    world.policy_file.write_text(POLICY.replace("  relieve:", "  other:"), encoding="utf-8")
    world.clock.advance(2)
    until(lambda: world.tick() or world.incident()["state"] == "closed", what="the end")

    assert "escalated" == world.incident()["outcome"]
