"""Held changes: leases that are renewed while the trouble lasts and put back when it was quiet long enough."""

import pytest
from tests.remediation.world import world


@pytest.fixture(name="world")
def _world(tmp_path):
    with world(tmp_path) as made:
        made.series("p95", 3.0, operation="thinker")
        made.series("calm", 1.0)
        made.agents.on_act = lambda command: (
            command.verb == "switch_profile" and made.series("p95", 0.5, operation="thinker")
        )
        yield made


def slow(world):
    return world.fire("Slow", operation="thinker")


def verbs(world):
    return [command.verb for command in world.agents.sent]


def test_it_is_held_while_the_alert_fires_and_renewed_in_time(world):
    """The lease never ends meanwhile."""
    slow(world)
    world.run(120, step=1)

    assert "holding" == world.incident()["state"]
    assert 9 <= verbs(world).count("renew_lease") <= 13
    (lease,) = world.agents.leases.items()
    assert lease[0] == world.incident()["lease_id"]
    assert lease[1] > world.clock.now()


def test_it_is_put_back_when_it_was_quiet_long_enough(world):
    """Released, with the time, and closed as remediated."""
    labels = slow(world)
    world.run(20, step=1)
    world.quiet(labels)
    world.run(8, step=1)
    assert "holding" == world.incident()["state"]
    world.run(6, step=1)

    assert ("closed", "remediated") == (world.incident()["state"], world.incident()["outcome"])
    assert world.incident()["released_at"] == world.incident()["closed_at"]
    assert {} == world.agents.leases
    assert 1 == verbs(world).count("revert_lease")


def test_an_alert_that_comes_back_starts_the_quiet_anew(world):
    """Ten quiet seconds in a row are asked for."""
    labels = slow(world)
    world.run(10, step=1)
    world.quiet(labels)
    world.run(8, step=1)
    world.fire("Slow", operation="thinker", deliver=False)
    world.run(2, step=1)
    world.quiet(labels)
    world.run(8, step=1)

    assert "holding" == world.incident()["state"]


def test_the_policys_own_condition_must_hold_too(world):
    """A provider that is not back keeps the change held, however quiet the alert is."""
    labels = slow(world)
    world.series("calm", 0.0)
    world.run(5, step=1)
    world.quiet(labels)
    world.run(60, step=1)
    assert "holding" == world.incident()["state"]
    world.series("calm", 1.0)
    world.run(14, step=1)

    assert "remediated" == world.incident()["outcome"]


def test_not_knowing_is_not_quiet(world):
    """Alertmanager is away: the change stays, and is renewed."""
    labels = slow(world)
    world.run(5, step=1)
    world.quiet(labels)
    world.am.broken = (503, {})
    world.run(60, step=1)

    assert "holding" == world.incident()["state"]
    assert {} != world.agents.leases


def test_a_restart_of_this_service_resumes_the_hold(world):
    """The next life renews and releases."""
    labels = slow(world)
    world.run(10, step=1)
    world.die()
    world.clock.advance(5)
    world.boot()
    world.run(40, step=1)
    assert "holding" == world.incident()["state"]
    world.quiet(labels)
    world.run(14, step=1)

    assert "remediated" == world.incident()["outcome"]
    assert {} == world.agents.leases


def test_a_restart_of_the_application_ends_the_hold(world):
    """Its old values came back with it."""
    slow(world)
    world.run(10, step=1)
    world.agents.boot_id = "boot-2"
    world.run(3, step=1)

    assert "closed" == world.incident()["state"]
    assert "restarted" in world.incident()["reason"]
    assert world.incident()["released_at"]


def test_a_lease_that_could_not_be_renewed_is_known_to_be_over(world):
    """The agent was away for longer than the lease."""
    slow(world)
    world.run(10, step=1)
    world.agents.script = ["silent"] * 1000
    world.run(60, step=1)

    assert "closed" == world.incident()["state"]
    assert "put the old values back" in world.incident()["reason"]


def test_a_change_that_does_not_help_is_put_back_at_once(world):
    """Cannot tell, or no better: the old values again, before the next attempt."""
    world.agents.on_act = lambda command: None
    slow(world)
    world.run(30, step=1)

    assert "ineffective" == world.incident()["attempts"][0]["verdict"]
    assert "scheduled" == world.incident()["state"]
    assert {} == world.agents.leases
    assert world.incident()["lease_id"] is None


def test_a_hold_ends_at_its_longest_and_people_are_told(world):
    """Ten minutes in this policy."""
    slow(world)
    world.run(640, step=5)

    assert "escalated" == world.incident()["outcome"]
    assert {} == world.agents.leases


def test_the_kill_switch_freezes_a_hold(world):
    """It is renewed, and not put back, until people let things go on."""
    labels = slow(world)
    world.run(5, step=1)
    world.engine.set_kill_switch(True, who="ada", why="stop")
    world.quiet(labels)
    world.run(60, step=1)
    assert "holding" == world.incident()["state"]
    assert {} != world.agents.leases
    world.engine.set_kill_switch(False, who="ada", why="go on")
    world.run(14, step=1)

    assert "remediated" == world.incident()["outcome"]


def test_every_operation_that_fires_must_be_well(world):
    """Two operations of one target are one incident, and one proof."""
    world.prom.series["p95"].append(({"job": "shop", "instance": "127.0.0.1:9464", "operation": "talker"}, 2.0))
    world.agents.on_act = lambda command: None
    slow(world)
    world.fire("Slow", operation="talker")
    world.tick()
    world.prom.series["p95"][0][0]["operation"] = "thinker"
    world.prom.series["p95"][0] = (world.prom.series["p95"][0][0], 0.5)
    world.run(30, step=1)

    assert 1 == len(world.store.incidents())
    assert "ineffective" == world.incident()["attempts"][0]["verdict"]
