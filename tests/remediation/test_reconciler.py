"""The net under the webhook."""

import pytest
from tests.remediation.world import world


@pytest.fixture(name="world")
def _world(tmp_path):
    with world(tmp_path) as made:
        made.agents.on_act = lambda command: made.memory(1.0)
        yield made


def test_what_the_webhook_lost_is_found_and_counted(world):
    """After its time of grace, within one round."""
    world.fire(deliver=False)
    world.run(4)
    assert [] == world.store.incidents()
    world.run(12)

    assert "remediated" == world.incident()["outcome"]
    assert 1.0 == world.value("llmvitals_remediation_reconcile_found_total")
    assert "reconciler" == world.incident()["timeline"][0]["who"]


def test_in_normal_life_it_finds_nothing(world):
    """The webhook told of it, so it was not lost."""
    world.fire()
    world.run(60)

    assert 0.0 == world.value("llmvitals_remediation_reconcile_found_total")


def test_alerts_of_other_receivers_and_silenced_ones_are_not_opened(world):
    """Not for us, or hands off."""
    other = world.fire(deliver=False)
    world.am.fire(other, world.clock.now(), receiver="people")
    silenced = world.fire("Slow", deliver=False, operation="x")
    world.am.fire(silenced, world.clock.now(), silenced_by=["s"])
    world.run(30)

    assert [] == world.store.incidents()


def test_trouble_that_comes_back_under_the_same_alert_is_found_after_the_cooldown(world):
    """The alert never resolved; the value is bad again: a new incident, once the cooldown is over."""
    world.fire()
    world.run(10)
    world.memory(2.0)
    world.run(320, step=2)

    assert ["remediated", "remediated"] == [row["outcome"] for row in world.store.incidents()]
    assert 0.0 == world.value("llmvitals_remediation_reconcile_found_total")


def test_its_last_success_is_told(world):
    """Alert on its age; a round that fails is none."""
    world.tick()
    success = world.value("llmvitals_remediation_reconcile_last_success_timestamp_seconds")
    world.am.broken = (500, b"")
    world.run(25)

    assert world.clock.now() - 25 == pytest.approx(success)
    assert success == world.value("llmvitals_remediation_reconcile_last_success_timestamp_seconds")
    assert world.value("llmvitals_remediation_handler_errors_total", component="reconciler") >= 2


def test_a_delivery_that_was_cut_short_is_completed_at_once(world):
    """TruncatedAlerts says that there are more: they are fetched, not waited for."""
    from tests.remediation.world import webhook

    world.tick()
    told = world.fire(deliver=False, starts_at=world.clock.now() - 30)
    del told
    alert = {"status": "firing", "labels": {"alertname": "Other"}, "startsAt": "2026-11-01T00:00:00Z"}
    world.store.accept(webhook(alert, truncatedAlerts=7), received_at=world.clock.now())
    world.run(4)

    assert "remediated" == world.incident()["outcome"]


def test_old_deliveries_are_forgotten_and_incidents_are_not(world):
    """Bodies after a week, events after a month; what was done stays."""
    world.fire()
    world.run(10)
    world.store.forget(bodies_days=0.0, events_days=100)
    assert 1 == len(world.store.incidents())
    world.clock.advance(40 * 86_400)
    world.store.forget(bodies_days=7, events_days=30)

    assert 1 == len(world.store.incidents())
    assert not world.store.knows("x", 0.0)
