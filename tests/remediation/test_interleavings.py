"""Any order of alerts, deaths, restarts, people and time: what must always hold, holds."""

import contextlib
import tempfile
from collections import Counter
from pathlib import Path
from unittest import mock

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.remediation.world import world

from llmvitals_remediation import crash
from llmvitals_remediation.errors import ConflictError

NAMES = ("Memory", "Charge", "Slow", "Asks")


def die():
    """The step ends here, with nothing after it."""
    raise RuntimeError("died")


class Life(RuleBasedStateMachine):
    """The whole engine in a hostile world. The agent's ledger is the judge."""

    @initialize()
    def begin(self):
        self.resources = contextlib.ExitStack()
        folder = self.resources.enter_context(tempfile.TemporaryDirectory())
        self.world = self.resources.enter_context(world(Path(folder)))
        self.world.series("p95", 3.0, operation="x")
        self.world.series("calm", 1.0)
        self.firing = {}

    @rule(name=st.sampled_from(NAMES), deliver=st.booleans())
    def fire(self, name, deliver):
        if name not in self.firing:
            self.firing[name] = self.world.fire(name, deliver=deliver, operation="x")

    @precondition(lambda self: self.firing)
    @rule(data=st.data())
    def deliver_again(self, data):
        name = data.draw(st.sampled_from(sorted(self.firing)))
        self.world.deliver(self.firing[name], self.world.clock.now())

    @precondition(lambda self: self.firing)
    @rule(data=st.data())
    def resolve(self, data):
        name = data.draw(st.sampled_from(sorted(self.firing)))
        self.world.quiet(self.firing.pop(name))

    @rule(well=st.booleans())
    def value(self, well):
        self.world.memory(1.0 if well else 2.0)
        self.world.series("p95", 0.5 if well else 3.0, operation="x")

    @rule(seconds=st.sampled_from([0.5, 2.0, 30.0, 400.0]))
    def time_goes_by(self, seconds):
        self.world.run(seconds, step=max(0.5, seconds / 10))

    @rule()
    def look(self):
        self.world.tick()

    @rule()
    def the_service_dies(self):
        self.world.die()
        self.world.boot()

    @rule(place=st.sampled_from(["after_intent", "after_act", "in_verification"]), name=st.sampled_from(NAMES))
    def the_service_dies_there(self, place, name):
        """The command is never sent, or its answer never comes in, or the proof is never written."""
        self.value(well=False)
        self.fire(name, deliver=True)
        with mock.patch.object(crash, "point", lambda at: die() if at == place else None):
            self.world.tick()
            self.world.clock.advance(2)
            self.world.tick()
        self.world.die()
        self.world.boot()

    @rule()
    def the_application_restarts(self):
        self.world.agents.boot_id += "'"
        self.world.agents.leases.clear()

    @rule(present=st.booleans())
    def the_agent_comes_and_goes(self, present):
        self.world.agents.present = present

    @rule(plan=st.sampled_from(["silent", "lost", "failed", "old_fence", "unknown_verb"]))
    def the_next_answer_is_odd(self, plan):
        self.world.agents.script = [plan]

    @rule(engaged=st.booleans())
    def the_kill_switch_is_set(self, engaged):
        self.world.engine.set_kill_switch(engaged, who="ada", why="because")
        self.before = len(self.world.agents.effects) if engaged else None

    @rule(verdict=st.sampled_from(["approve", "veto"]))
    def a_person_decides(self, verdict):
        for row in self.world.store.incidents(state="awaiting_approval"):
            with contextlib.suppress(ConflictError):
                getattr(self.world.engine, verdict)(row["id"], who="ada", why="because")

    @rule(away=st.booleans())
    def prometheus_comes_and_goes(self, away):
        self.world.prom.broken = (503, {}) if away else None

    @invariant()
    def nothing_is_done_twice(self):
        ledger = Counter(attempt for attempt, _ in self.world.agents.effects)

        assert {1} >= set(ledger.values())

    @invariant()
    def at_most_three_attempts_and_one_active_incident_each(self):
        told = self.world.store.incidents(limit=1000)
        active = Counter((row["handler"], row["target"]) for row in told if row["state"] != "closed")

        assert all(row["attempts_used"] == len(row["attempts"]) <= 3 for row in told)
        assert {1} >= set(active.values())

    @invariant()
    def what_may_not_be_repeated_is_done_at_most_once_in_an_incident_that_nobody_understands(self):
        for row in self.world.store.incidents(handler="charge", limit=1000):
            unknown = [attempt for attempt in row["attempts"] if attempt["verdict"] == "unknown"]

            assert len(unknown) <= 1
            assert not unknown or row["attempts"][-1] == unknown[0]

    @invariant()
    def the_log_is_whole(self):
        assert self.world.store.audit_break() is None

    @invariant()
    def nothing_sleeps_past_its_deadline(self):
        if self.world.prom.broken is None and not self.world.store.controls().kill_switch:
            now = self.world.clock.now()
            self.world.tick()
            assert all(now < incident.deadline_at + 60 for incident in self.world.store.active())

    @invariant()
    def a_kill_switch_means_no_effect(self):
        if getattr(self, "before", None) is not None:
            assert self.before == len(self.world.agents.effects)

    def teardown(self):
        self.resources.close()


Life.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
TestLife = Life.TestCase
TestLife.__doc__ = "At most one effect per attempt, three attempts per incident, one active incident per target."
