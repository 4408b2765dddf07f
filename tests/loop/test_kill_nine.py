"""kill -9 at each of the five named places, with the real Alertmanager: nothing lost, nothing done twice."""

import signal

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
