"""The loop: an alert, one act, its proof; and everything that must not happen."""

import threading

import pytest
from tests.remediation.world import AGENT, INSTANCE, JOB, POLICY, until, world

from llmvitals_remediation.errors import StoreUnavailableError


@pytest.fixture(name="world")
def _world(tmp_path):
    with world(tmp_path) as made:
        yield made


def heal(world):
    """The action works: the value is good from now on."""
    world.agents.on_act = lambda command: world.memory(1.0)


def test_an_alert_is_acted_on_once_and_closed_with_a_proof(world):
    """Webhook, act, verification and closing, with every time that the API promises."""
    heal(world)

    world.fire()
    world.run(5)
    incident = world.incident()

    assert "remediated" == incident["outcome"]
    assert ["relieve_memory"] == [verb for _, verb in world.agents.effects]
    (attempt,) = incident["attempts"]
    assert ("effective", "done", {"ok": True}) == (attempt["verdict"], attempt["state"], attempt["result"])
    times = ["alert_started_at", "received_at", "opened_at", "closed_at"]
    assert all(incident[name] for name in times)
    times = ["planned_at", "started_at", "acted_at", "proved_at"]
    assert sorted(attempt[name] for name in times) == [attempt[name] for name in times]
    assert ["opened", "intent", "started", "acted", "proved"] == [row["event"] for row in incident["timeline"]]
    assert world.store.audit_break() is None


def test_the_act_starts_well_within_half_a_second_of_the_delivery(world):
    """With a real clock between: gates with their queries, the intent's commit and the dispatch."""
    import time

    world.engine.start()
    began = time.monotonic()
    world.fire()
    world.engine.wake()
    until(lambda: world.agents.effects, what="the act")

    assert time.monotonic() - began < 0.5


def test_the_same_alert_delivered_again_attaches(world):
    """Repeats are counted on the incident; nothing is done twice."""
    heal(world)

    labels = world.fire()
    for _ in range(20):
        assert "duplicate" == world.deliver(labels, world.clock.now()).result
        world.tick()
    world.run(4)

    assert 1 == len(world.store.incidents())
    assert 1 == len(world.agents.effects)


def test_a_second_alert_of_the_same_target_attaches_to_the_active_incident(world):
    """One handler, one target, one incident."""
    world.agents.present = False

    world.fire()
    world.fire(severity="critical")
    world.tick(3)

    assert 1 == len(world.store.incidents())
    assert 2 == len(world.incident()["alerts"])


def test_an_alert_that_keeps_firing_after_the_proof_opens_nothing(world):
    """Look-back windows keep alerts alive after a good fix: the probe has spoken."""
    heal(world)

    world.fire()
    world.run(120)

    assert 1 == len(world.agents.effects)
    assert ["remediated"] == [row["outcome"] for row in world.store.incidents()]


def test_what_does_not_help_is_tried_three_times_with_growing_waits_and_given_up(world):
    """Three attempts per incident, 60 s and 120 s apart within the jitter, one escalation, the episode is spent."""
    world.fire()
    world.run(400, step=1)
    incident = world.incident()

    assert ("exhausted", 3) == (incident["outcome"], incident["attempts_used"])
    assert ["ineffective"] * 3 == [attempt["verdict"] for attempt in incident["attempts"]]
    assert 3 == len({effect for effect, _ in world.agents.effects}) == len(world.agents.effects)
    delays = [row["detail"] for row in incident["timeline"] if row["event"] in ("scheduled", "gave_up")]
    assert 3 == len(delays)
    world.run(600, step=5)
    assert 1 == len(world.store.incidents())
    assert 3 == len(world.agents.effects)


def test_a_resolved_alert_is_not_a_proof(world):
    """The target dies: its alert goes away and its series with it. That is no success."""
    world.agents.on_act = lambda command: world.prom.series.update(ratio=[])

    labels = world.fire()
    world.tick(2)
    world.quiet(labels, deliver=True)
    world.run(30)

    assert "inconclusive" == world.incident()["attempts"][0]["verdict"]
    assert "remediated" != world.incident()["outcome"]


def test_an_alert_that_is_over_before_the_act_closes_by_itself(world):
    """Nothing was done, so nothing is claimed."""
    world.agents.present = False
    labels = world.fire()
    world.tick()
    world.quiet(labels)
    world.agents.present = True
    world.run(12)

    assert "self_resolved" == world.incident()["outcome"]
    assert [] == world.agents.effects


def test_prometheus_alone_keeps_an_incident_open_when_alertmanager_forgot(world):
    """A restarted Alertmanager has no alerts for a while: not yet gone, and not acted on."""
    world.agents.present = False
    world.fire()
    world.tick()
    world.am.alerts.clear()
    world.agents.present = True
    world.run(12)

    assert ("gated", "firing") == (world.incident()["state"], world.incident()["gate"])
    assert [] == world.agents.effects


@pytest.mark.parametrize("broken", [(503, {}), (200, b"<html>"), (200, {"status": "error", "error": "no"})])
def test_without_prometheus_nothing_acts(world, broken):
    """Down, garbage, or an error: the gate cannot tell, so it refuses; later it acts."""
    world.prom.broken = broken
    world.fire()
    world.run(5)
    held = world.incident()
    world.prom.broken = None
    heal(world)
    world.run(10)

    assert "gated" == held["state"]
    assert "cannot tell" in held["reason"]
    assert "remediated" == world.incident()["outcome"]


def test_without_alertmanager_nothing_acts(world):
    """Whether it still fires, and whether people silenced it, cannot be known."""
    world.am.broken = (500, {})
    world.fire()
    world.run(5)

    assert ("gated", "silence") == (world.incident()["state"], world.incident()["gate"])


def test_a_proof_needs_a_scrape_after_the_act(world):
    """Prometheus goes away during the verification: inconclusive, which counts as failure."""

    def act(command):
        world.prom.targets[JOB, INSTANCE] = False
        world.memory(1.0)

    world.agents.on_act = act
    world.fire()
    world.run(30)

    assert "inconclusive" == world.incident()["attempts"][0]["verdict"]
    assert "not up" in world.incident()["attempts"][0]["error"]


@pytest.mark.parametrize("value", ["NaN", "+Inf"], ids=["nan", "infinite"])
def test_a_value_that_is_no_number_proves_nothing(world, value):
    """NaN and infinity are inconclusive."""
    world.agents.on_act = lambda command: world.memory(value)
    world.fire()
    world.run(30)

    assert "inconclusive" == world.incident()["attempts"][0]["verdict"]


def test_two_series_where_one_is_meant_prove_nothing(world):
    """The policy's `match` did not single one out."""
    world.agents.on_act = lambda command: world.prom.series.update(ratio=world.prom.series["ratio"] * 2)
    world.fire()
    world.run(30)

    assert "inconclusive" == world.incident()["attempts"][0]["verdict"]


def test_an_action_that_fails_is_tried_again_after_its_backoff(world):
    """An idempotent action may: it is a new attempt, with an id of its own."""
    world.agents.script = ["failed"]
    heal(world)
    world.fire()
    world.run(90, step=1)

    assert ["failed", "effective"] == [attempt["verdict"] for attempt in world.incident()["attempts"]]


def test_a_verb_that_the_application_has_not_goes_to_people(world):
    """It will not have it next time either."""
    world.agents.script = ["unknown_verb"]
    world.fire()
    world.run(90, step=1)

    assert ("escalated", 1) == (world.incident()["outcome"], world.incident()["attempts_used"])


def test_a_lost_answer_is_proved_by_the_value(world):
    """Nobody answered; the value is good; the attempt was effective, and is not repeated."""
    world.agents.script = ["lost"]
    heal(world)
    world.fire()
    world.run(10)

    assert "remediated" == world.incident()["outcome"]
    assert 1 == len(world.agents.effects)


def test_an_unknown_outcome_of_an_action_that_may_not_be_repeated_goes_to_people(world):
    """Effect class `neither`: nobody knows, so nothing more is done."""
    world.agents.script = ["silent"]
    world.fire("Charge")
    world.run(60, step=1)

    assert ("escalated", "unknown") == (
        world.incident()["outcome"],
        world.incident()["attempts"][0]["verdict"],
    )
    assert 1 == len(world.agents.sent)


@pytest.mark.parametrize(
    "labels",
    [
        {"job": None},
        {"instance": "http://169.254.169.254/latest"},
        {"instance": "../../etc/passwd"},
        {"instance": '"} or vector(1) #'},
        {"job": "shop\n", "instance": INSTANCE},
        {"job": "\u0455hop"},
    ],
    ids=["no job", "url", "path", "promql", "newline", "look-alike"],
)
def test_labels_that_mean_nothing_known_lead_to_nothing_but_people(world, labels):
    """A label is looked up; it never becomes a part of a query, and what is not found is not acted on."""
    world.fire(**labels)
    world.run(70, step=2)

    assert "escalated" == world.incident()["outcome"]
    assert [] == world.agents.sent
    assert {"llmvitals_agent_info", "up"} >= set(world.prom.asked)


def fill(store, size):
    """Write rows of a size until one is refused."""
    while True:
        store.note("filler", text="x" * size)


def test_a_full_disk_is_told_once_and_slows_the_engine_down(world, caplog):
    """No trace at each of hundreds of tries; what waited is done once there is room."""
    world.fire()
    (pages,) = world.store._read(lambda c: c.execute("PRAGMA page_count").fetchone())
    world.store._write(lambda c: c.execute(f"PRAGMA max_page_count = {pages}").fetchone())
    for size in (4000, 400, 1):
        with pytest.raises(StoreUnavailableError):
            fill(world.store, size)
    caplog.clear()
    for _ in range(20):
        world.tick()

    told = [record for record in caplog.records if record.name.endswith(".engine")]
    assert 1 == len(told)
    assert "full" in told[0].getMessage()
    assert told[0].exc_info is None
    assert 1.0 == world.engine._sleep_seconds()

    world.store._write(lambda c: c.execute("PRAGMA max_page_count = 1000000").fetchone())
    heal(world)
    world.run(10)
    assert "remediated" == world.incident()["outcome"]
    assert "can be written again" in caplog.text


def test_two_agents_for_one_alert_mean_no_action(world):
    """More than one is not a choice that a program may make."""
    known = world.prom.series["llmvitals_agent_info"]
    known.append(({**known[0][0], "agent_id": "other"}, 1.0))
    world.fire()
    world.tick()

    assert "escalated" == world.incident()["outcome"]
    assert "2 agents" in world.incident()["reason"]


def test_an_agents_former_life_is_no_second_agent(world):
    """Prometheus tells for minutes of a process that ended while it was away itself: same agent, other boot id."""
    known = world.prom.series["llmvitals_agent_info"]
    known.insert(0, ({**known[0][0], "boot_id": "boot-0"}, 1.0))
    heal(world)
    world.fire()
    world.run(10)

    assert "remediated" == world.incident()["outcome"]
    assert ["boot-1"] == [command.boot_id for command in world.agents.sent]


def test_an_agent_that_comes_back_in_time_is_waited_for(world):
    """Agents reconnect within their backoff after this service was away."""
    world.agents.present = False
    world.fire()
    world.run(20)
    assert "gated" == world.incident()["state"]
    world.agents.present = True
    heal(world)
    world.run(10)

    assert "remediated" == world.incident()["outcome"]


def test_observe_closes_as_shadow_and_does_nothing(world):
    """It says that it would have acted."""
    world.fire("Watches")
    world.run(30)

    assert ["shadow"] == [row["outcome"] for row in world.store.incidents()]
    assert [] == world.agents.sent


def test_approve_waits_for_a_person_and_then_acts(world):
    """Approved, the gates are asked once more, and it acts."""
    heal(world)
    world.fire("Asks")
    world.run(5)
    asked = world.incident()
    world.engine.approve(asked["id"], who="ada", why="looked at it")
    world.run(5)

    assert "awaiting_approval" == asked["state"]
    assert "remediated" == world.incident()["outcome"]
    assert "approved" == world.incident()["approval"]["decision"]


def test_an_approval_that_nobody_gives_expires(world):
    """Expired is as good as vetoed: the episode is left to people."""
    world.fire("Asks")
    world.run(1900, step=20)

    assert ["expired"] == [row["outcome"] for row in world.store.incidents()]
    assert "expired" == world.incident()["approval"]["decision"]
    assert [] == world.agents.sent


def test_a_veto_closes_and_a_late_approval_is_a_conflict(world):
    """Decided is decided."""
    from llmvitals_remediation.errors import ConflictError, NotFoundError

    world.fire("Asks")
    world.tick()
    incident_id = world.incident()["id"]
    world.engine.veto(incident_id, who="ada", why="no")

    with pytest.raises(ConflictError):
        world.engine.approve(incident_id, who="bob", why="yes")
    with pytest.raises(NotFoundError):
        world.engine.veto("nothing", who="bob", why="no")
    world.run(30)
    assert "vetoed" == world.incident()["outcome"]
    assert [] == world.agents.sent


def test_the_kill_switch_stops_everything_until_it_is_released(world):
    """Nothing is lost meanwhile."""
    heal(world)
    world.engine.set_kill_switch(True, who="ada", why="game day")
    world.fire()
    world.run(10)
    assert ("gated", "kill_switch") == (world.incident()["state"], world.incident()["gate"])
    assert [] == world.agents.sent
    world.engine.set_kill_switch(False, who="ada", why="over")
    world.run(5)

    assert "remediated" == world.incident()["outcome"]


def test_the_kill_switch_between_gates_and_act_wins(world):
    """It is read again inside the transaction that makes the intent durable."""
    begin = world.store.begin

    def late(incident, plan):
        world.engine.set_kill_switch(True, who="ada", why="now")
        return begin(incident, plan)

    world.store.begin = late
    world.fire()
    world.run(5)

    assert [] == world.agents.sent
    assert [] == world.incident()["attempts"]


def test_never_more_than_three_at_once_and_never_two_on_one_target(world):
    """Twenty targets, slow actions: three are busy; one target's second handler waits for the first."""
    world.agents.gate = threading.Event()
    known = world.prom.series["llmvitals_agent_info"]
    for number in range(20):
        instance = f"host{number}"
        known.append(({"job": JOB, "instance": instance, "agent_id": f"a{number}"}, 1.0))
        world.prom.targets[JOB, instance] = True
        world.prom.series["ratio"].append(({"job": JOB, "instance": instance}, 2.0))
        world.fire(instance=instance)
    hellos = {f"a{number}": world.agents.connected()[AGENT] for number in range(20)}
    world.agents.connected = lambda: hellos
    world.engine.tick()
    world.clock.advance(1)
    world.engine.tick()

    assert 3 == world.store.executing() == len(world.agents.sent)
    world.agents.gate.set()
    world.idle()


def test_a_new_policy_is_taken_up_and_a_bad_one_is_refused_whole(world):
    """The old one stays, the log, the metric and the audit say so, with every mistake."""
    world.tick()
    world.policy_file.write_text(POLICY.replace("mode: auto", "mode: later"), encoding="utf-8")
    world.clock.advance(2)
    world.tick()
    (refused,) = [row for row in world.store.audit() if row["event"] == "policy_refused"]
    assert 4 == len(refused["detail"]["mistakes"])
    assert 1.0 == world.value("llmvitals_remediation_handler_errors_total", component="policy")
    assert "4 mistakes" in world.engine.status()["policy"]["refused"]
    world.policy_file.write_text(POLICY.replace("mode: auto", "mode: off"), encoding="utf-8")
    world.clock.advance(2)
    world.tick()

    assert {"off"} == {row["mode"] for row in world.engine.handlers() if row["name"] in ("relieve", "speed")}
    assert world.engine.status()["policy"]["refused"] is None


def test_a_handler_that_is_paused_by_hand_opens_nothing_until_it_is_resumed(world):
    """The reconciler finds the alert afterwards."""
    heal(world)
    world.engine.set_mode("relieve", "off", who="ada", why="broken")
    world.fire()
    world.run(5)
    assert [] == world.store.incidents()
    world.engine.set_mode("relieve", "policy", who="ada", why="mended")
    world.run(15)

    assert "remediated" == world.incident()["outcome"]


def test_status_tells_what_the_console_shows(world):
    """Kill switch, policy, slots, agents, watchdog, inbox."""
    world.fire("Watchdog", job=None, instance=None)
    world.tick()
    status = world.engine.status()

    assert False is status["kill_switch"]["engaged"]
    assert {"in_use": 0, "limit": 3} == status["slots"]
    assert [AGENT] == [agent["agent_id"] for agent in status["agents"]]
    assert 0 == status["watchdog"]["age_seconds"]
    assert 0 == status["inbox"]["depth"]


def test_an_engine_that_stops_does_so_within_two_seconds(world):
    """Even while an action hangs: what it did is found out in the next life."""
    import time

    world.agents.gate = threading.Event()
    world.engine.start()
    world.fire()
    world.engine.wake()
    until(lambda: world.agents.sent, what="the command")
    began = time.monotonic()
    world.engine.stop(2.0)

    assert time.monotonic() - began < 2.2
    assert "executing" == world.incident()["state"]
    world.agents.gate.set()
    world.idle()
