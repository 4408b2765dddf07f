from typing import get_args

from grafana.builder.dashboards.remediation import OUTCOMES

from llmvitals_remediation.records import Outcome


def test_every_outcome_has_a_colour():
    """An outcome that the service can give is never drawn in a colour of chance."""
    assert sorted(get_args(Outcome)) == sorted(OUTCOMES)
