"""Each gate, by its own reason; and the order, and that a gate which cannot answer refuses."""

import pytest
from tests.remediation.world import INSTANCE, JOB, POLICY, world

from llmvitals_remediation import gates
from llmvitals_remediation.gates import GATES, demoted, wilson_lower


@pytest.fixture(name="world")
def _world(tmp_path):
    with world(tmp_path) as made:
        made.agents.on_act = lambda command: made.memory(1.0)
        yield made


def policy(**changes):
    """The tests' policy with other defaults, as YAML in one line each."""
    lines = "".join(f"  {name}: {value}\n" for name, value in changes.items())
    return POLICY.replace("handlers:", f"defaults:\n{lines}handlers:", 1)


def again(world, *, after, seconds=8):
    """The alert of before is over; a new one fires later. Returns its incident."""
    for labels in list(world.prom.firing):
        world.quiet(labels)
    world.clock.advance(after)
    world.memory(2.0)
    world.fire()
    world.run(seconds)
    return world.incident()


def refusals(world):
    return world.incident()["state"], world.incident()["gate"]


def test_the_order_is_the_designs():
    """Cheapest and most absolute first, the kill switch once more at the end."""
    assert [
        "kill_switch",
        "mode",
        "silence",
        "target",
        "firing",
        "stale",
        "storm",
        "breaker",
        "cooldown",
        "relapse",
        "rate",
        "attempts",
        "precondition",
        "capacity",
        "approval",
        "slot",
        "kill_switch_again",
    ] == [name for name, _ in GATES]


def test_a_gate_that_raises_refuses(world, monkeypatch):
    """Whatever it raises: no act, and the reason says it."""

    def broken(facts):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(gates, "GATES", (("storm", broken),))
    world.fire()
    world.run(3)

    assert ("gated", "storm") == refusals(world)
    assert "cannot tell: ZeroDivisionError" in world.incident()["reason"]
    assert [] == world.agents.sent


def test_a_silence_is_hands_off(world):
    """Until it ends; then the incident goes on."""
    began = world.clock.now()
    labels = world.fire()
    world.am.fire(labels, began, silenced_by=["7f-silence"])
    world.run(5)
    assert ("gated", "silence") == refusals(world)
    world.am.fire(labels, began)
    world.run(8)

    assert "remediated" == world.incident()["outcome"]


def test_what_fires_for_too_long_goes_to_people(world):
    """A day-old alert is not what this action was made for."""
    world.fire(starts_at=world.clock.now() - 100_000)
    world.tick()

    assert ("escalated", "stale") == (world.incident()["outcome"], world.incident()["gate"])


def test_an_old_payload_of_an_alert_that_is_over_does_nothing(world):
    """A webhook is a hint: nothing fires, so nothing is done."""
    labels = {"alertname": "Memory", "job": JOB, "instance": INSTANCE}
    world.deliver(labels, world.clock.now() - 3600)
    world.run(3)

    assert "self_resolved" == world.incident()["outcome"]
    assert [] == world.agents.sent


def test_a_value_that_is_well_already_is_left_alone(world):
    """The alert looks back; the probe looks at now."""
    world.memory(1.0)
    world.fire()
    world.run(5)

    assert ("gated", "precondition") == refusals(world)
    assert "already well" in world.incident()["reason"]


def test_a_value_that_nobody_knows_is_not_acted_on(world):
    """No series: unclear is no reason to act."""
    world.prom.series["ratio"] = []
    world.fire()
    world.run(5)

    assert ("gated", "precondition") == refusals(world)
    assert "cannot tell" in world.incident()["reason"]


def test_cooldown_is_for_new_incidents_and_ends_on_time(world):
    """Five minutes from the end of the last incident that acted."""
    world.fire()
    world.run(5)
    assert "cooldown" == again(world, after=200)["gate"]
    world.run(60)
    assert "gated" == world.incident()["state"]
    world.run(45)

    assert "remediated" == world.incident()["outcome"]


def test_a_third_incident_within_four_hours_goes_to_people(world):
    """Acting a third time would only hide the cause; the metric counts it."""
    world.fire()
    world.run(5)
    assert "remediated" == again(world, after=1000)["outcome"]
    third = again(world, after=1000)

    assert ("escalated", "relapse") == (third["outcome"], third["gate"])
    assert 2 == len(world.agents.effects)
    assert 1.0 == world.value("llmvitals_remediation_relapses_total", handler="relieve")


def test_the_rate_is_limited(tmp_path):
    """Two an hour in this policy: the third waits until the first is an hour old."""
    told = policy(rate_per_hour=2, cooldown_seconds=0, relapse="{incidents: 50}")
    with world(tmp_path, policy=told) as made:
        made.agents.on_act = lambda command: made.memory(1.0)
        made.fire()
        made.run(5)
        again(made, after=100)
        assert "rate" == again(made, after=100)["gate"]
        made.clock.advance(3400)
        made.run(12)

        assert "remediated" == made.incident()["outcome"]


def test_the_breaker_opens_after_three_failed_incidents_and_half_opens_with_one(tmp_path):
    """Counted per handler and service; one incident tries, and its success closes it."""
    told = policy(attempts=1, cooldown_seconds=0, relapse="{incidents: 50}", breaker="{failures: 3, open_seconds: 600}")
    with world(tmp_path, policy=told) as made:
        made.fire()
        made.run(25, step=1)
        for _ in range(2):
            assert "exhausted" == again(made, after=10, seconds=25)["outcome"]
        made.clock.advance(1)
        made.tick()
        assert 1.0 == made.value("llmvitals_remediation_breaker_open", handler="relieve", service=JOB)
        assert "breaker" == again(made, after=10)["gate"]
        made.clock.advance(600)
        made.agents.on_act = lambda command: made.memory(1.0)
        made.run(20)

        assert "remediated" == made.incident()["outcome"]
        made.clock.advance(1)
        made.tick()
        assert 0.0 == made.value("llmvitals_remediation_breaker_open", handler="relieve", service=JOB)


def test_a_failed_probe_opens_the_breaker_again(tmp_path):
    """At once, for its whole time."""
    told = policy(attempts=1, cooldown_seconds=0, relapse="{incidents: 50}", breaker="{failures: 1, open_seconds: 600}")
    with world(tmp_path, policy=told) as made:
        made.fire()
        made.run(25, step=1)
        assert "breaker" == again(made, after=10)["gate"]
        made.clock.advance(600)
        made.run(30, step=1)
        assert "exhausted" == made.incident()["outcome"]

        assert "breaker" == again(made, after=10)["gate"]


def test_a_storm_holds_everything_back_until_it_is_quiet(tmp_path):
    """More than five incidents within a minute: the cause is elsewhere."""
    told = POLICY.replace("incidents_per_minute: 100", "incidents_per_minute: 5, quiet_seconds: 120")
    with world(tmp_path, policy=told) as made:
        made.agents.present = False
        for number in range(6):
            made.fire(instance=f"host{number}")
        made.run(1)
        made.agents.present = True
        made.agents.on_act = lambda command: made.memory(1.0)
        made.fire()
        made.run(20)
        assert ("gated", "storm") == refusals(made)
        assert [] == made.agents.sent
        made.run(150, step=2)

        assert "remediated" in {row["outcome"] for row in made.store.incidents()}


def test_most_of_a_services_targets_in_trouble_are_a_storm(tmp_path):
    """Two of three: a third is the limit here."""
    told = POLICY.replace("share: 1, minimum_targets: 10", "share: 0.34, minimum_targets: 2")
    with world(tmp_path, policy=told) as made:
        for number in range(2):
            made.prom.targets[JOB, f"host{number}"] = True
        known = made.prom.series["llmvitals_agent_info"]
        known.append(({**known[0][0], "instance": "host0", "agent_id": "away"}, 1.0))
        made.fire(instance="host0")
        made.run(1)
        made.fire()
        made.run(3)

        assert ("gated", "storm") == refusals(made)


def test_a_restart_may_not_take_the_last_instances_away(tmp_path):
    """The target is up, and without it too few would be."""
    told = POLICY.replace("    alerts: [Down]", "    alerts: [Down]\n    capacity_floor: 1").replace(
        "precondition: {query: up, healthy: {at_least: 1}}", "precondition: {query: ratio, healthy: {below: 1.5}}"
    )
    with world(tmp_path, policy=told) as made:
        made.fire("Down")
        made.run(3)

        assert ("gated", "capacity") == refusals(made)


@pytest.mark.parametrize(
    ("units", "reason"),
    [("", "0 units"), ("units: [{job: shop, unit: a}, {job: shop, unit: b}]", "2 units")],
    ids=["none", "two"],
)
def test_a_service_without_exactly_one_unit_is_not_restarted(tmp_path, units, reason):
    """What to restart is in the policy, or nothing is."""
    with world(tmp_path, policy=POLICY.replace("units: [{job: shop, unit: shop}]", units)) as made:
        made.prom.targets[JOB, INSTANCE] = False
        made.fire("Down")
        made.tick()

        assert "escalated" == made.incident()["outcome"]
        assert reason in made.incident()["reason"]


def test_a_unit_without_an_instance_means_the_only_instance(tmp_path):
    """With two instances it is not said which process it is."""
    with world(tmp_path) as made:
        made.prom.targets = {(JOB, INSTANCE): False, (JOB, "other"): True}
        made.fire("Down")
        made.tick()

        assert "escalated" == made.incident()["outcome"]


def test_without_a_supervisor_an_intent_is_withdrawn(world):
    """The policy names a driver that this process was not given."""
    world.prom.targets[JOB, INSTANCE] = False
    world.fire("Down")
    world.tick()

    assert "there is no supervisor driver" == world.incident()["reason"]


@pytest.mark.parametrize(
    ("effective", "tried", "expected"), [(0, 0, 0.0), (10, 10, 0.722), (5, 10, 0.237), (0, 10, 0.0), (80, 100, 0.711)]
)
def test_wilsons_lower_bound(effective, tried, expected):
    """As the tables have it, at 95 %."""
    assert expected == pytest.approx(wilson_lower(effective, tried), abs=0.001)


def test_what_rarely_helps_asks_first(tmp_path):
    """After ten tries with even odds or worse, auto falls to approve by itself."""
    told = policy(
        attempts=1,
        cooldown_seconds=0,
        relapse="{incidents: 500}",
        breaker="{failures: 100}",
        rate_per_hour=100,
        rate_per_day=100,
    )
    with world(tmp_path, policy=told) as made:
        made.fire()
        made.run(25, step=2)
        for _ in range(9):
            again(made, after=10, seconds=25)
        assert "awaiting_approval" == again(made, after=10)["state"]
        (row,) = [row for row in made.engine.handlers() if row["name"] == "relieve"]

        assert (10, 0, True) == (row["tried"], row["effective"], row["asks_first_by_experience"])


def test_ten_good_tries_are_no_reason_to_ask(world):
    """The bound is 0.72."""
    assert not demoted(10, 10, world.engine._source.policy)
    assert demoted(10, 7, world.engine._source.policy)
    assert not demoted(9, 0, world.engine._source.policy)


def test_a_gates_refusal_is_counted_once_while_it_lasts(world):
    """Not once a look."""
    world.memory(1.0)
    world.fire()
    world.run(20)

    assert 1.0 == world.value("llmvitals_remediation_gate_refusals_total", handler="relieve", gate="precondition")


def test_what_is_held_back_for_too_long_expires(tmp_path):
    """No state without a deadline."""
    told = POLICY.replace("limits: {", "limits: {incident_deadline_seconds: 60, ")
    with world(tmp_path, policy=told) as made:
        made.memory(1.0)
        made.fire()
        made.run(65, step=1)

        assert "expired" in {row["outcome"] for row in made.store.incidents()}


def test_a_verb_that_the_application_does_not_offer_is_not_sent(world):
    """It may come to offer it; after the time of grace people are told."""
    world.agents.actions = ()
    world.fire()
    world.run(5)
    assert ("gated", "target") == refusals(world)
    world.run(60, step=1)

    assert "escalated" == world.incident()["outcome"]
    assert [] == world.agents.sent


def test_the_application_knows_better_what_may_be_repeated(world):
    """The policy says idempotent, the application says neither: a mistake in the policy, and no act."""
    from llmvitals_remediation.protocol import Action

    world.agents.actions = (Action("relieve_memory", "neither"),)
    world.fire()
    world.tick()

    assert "escalated" == world.incident()["outcome"]
    assert "the policy says idempotent" in world.incident()["reason"]
