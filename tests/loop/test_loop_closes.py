"""The main job, end to end on real servers: a fault, an alert, an action, its proof, and quiet."""

import pytest
from tests.loop.loop import seconds_between

pytestmark = pytest.mark.stack


def test_a_gauge_fault_is_alerted_acted_on_proved_and_closed(stack):
    """Alert, webhook, action inside the application, proof by PromQL; the ledger has one effect."""
    with stack.remediation(), stack.shop() as shop:
        stack.wait_until_known(shop)
        shop.crowd(30)
        incident = stack.closed(shop)
        stack.wait_until_over(shop)

    (attempt,) = incident["attempts"]
    assert ("remediated", "effective", "shed_users") == (incident["outcome"], attempt["verdict"], attempt["verb"])
    assert [(30, 10)] == [(effect["before"], effect["after"]) for effect in shop.effects()]
    order = [incident["alert_started_at"], incident["received_at"], incident["opened_at"], attempt["planned_at"]]
    order += [attempt["started_at"], attempt["acted_at"], attempt["proved_at"], incident["closed_at"]]
    assert sorted(order) == order
    assert seconds_between(incident["alert_started_at"], attempt["acted_at"]) < 10
