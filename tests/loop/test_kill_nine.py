"""kill -9 at each of the five named places, and a stop in mid-act: nothing lost, nothing done twice."""

import signal
import time

import pytest
from tests.servers import eventually, exit_signal

pytestmark = pytest.mark.stack


@pytest.mark.parametrize("place", ["before_commit", "after_commit", "after_intent", "after_act", "in_verification"])
def test_killed_there_and_started_again_it_loses_nothing_and_does_nothing_twice(stack, place):
    """One incident, one attempt, proved; and one line in the application's own ledger."""
    with stack.shop() as shop:
        with stack.remediation(crash_at=place) as doomed:
            # The agent must be known before the fault, so that the kill comes in the middle of the loop.
            stack.wait_until_known(shop)
            shop.crowd(30)
            eventually(lambda: exit_signal(doomed), seconds=30, what=f"the kill {place}")
            assert signal.SIGKILL == exit_signal(doomed)
        with stack.remediation():
            incident = stack.closed(shop, seconds=45)
            detail = stack.api(f"incidents/{incident['id']}").json()
            stack.wait_until_over(shop)

    assert "remediated" == incident["outcome"], detail
    assert [("effective", 1)] == [(attempt["verdict"], attempt["number"]) for attempt in incident["attempts"]]
    assert [(30, 10)] == [(effect["before"], effect["after"]) for effect in shop.effects()]


def test_killed_after_the_act_while_the_alert_fires_on_it_asks_and_the_agent_does_not_act_again(stack):
    """An alert that looks back still fires: the service asks about the same attempt, and is told the stored result."""
    with stack.shop("kiosk") as kiosk:
        with stack.remediation(crash_at="after_act") as doomed:
            stack.wait_until_known(kiosk)
            kiosk.crowd(30)
            eventually(lambda: exit_signal(doomed), seconds=30, what="the kill")
        with stack.remediation():
            incident = stack.closed(kiosk, seconds=45)
            detail = stack.api(f"incidents/{incident['id']}").json()

    (attempt,) = incident["attempts"]
    assert "asked_again" in [row["event"] for row in detail["timeline"]]
    assert ("effective", {"before": 30, "after": 10}) == (attempt["verdict"], attempt["result"])
    assert [(30, 10)] == [(effect["before"], effect["after"]) for effect in kiosk.effects()]


def test_stopped_in_the_middle_of_an_act_it_ends_in_time_and_the_act_is_done_once(stack):
    """An upgrade during an act: the process ends within 5 s, and the next one learns what became of it."""
    with stack.shop() as shop:
        with stack.remediation() as first:
            stack.wait_until_known(shop)
            shop.tell("delay/4")
            shop.crowd(30)
            eventually(lambda: any(i["state"] == "executing" for i in stack.incidents(shop)), seconds=20, what="an act")
            began = time.monotonic()
            status = first.stop(seconds=20)
            took = time.monotonic() - began
        with stack.remediation():
            incident = stack.closed(shop, seconds=45)
            stack.wait_until_over(shop)

    (attempt,) = incident["attempts"]
    assert (0, True) == (status, took < 5)
    assert ("remediated", "effective") == (incident["outcome"], attempt["verdict"])
    assert [(30, 10)] == [(effect["before"], effect["after"]) for effect in shop.effects()]
