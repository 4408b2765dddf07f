import pytest

from llmvitals_remediation.web.overview import headline


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([], "All quiet"),
        ([{"state": "closed", "outcome": "remediated"}], "All quiet"),
        (
            [{"state": "closed", "outcome": "remediated"}, {"state": "closed", "outcome": "escalated"}],
            "Nothing under way",
        ),
        ([{"state": "closed", "outcome": "exhausted"}], "Nothing under way"),
        ([{"state": "verifying"}, {"state": "closed", "outcome": "escalated"}], "1 incident under way"),
    ],
)
def test_it_is_quiet_only_when_nothing_was_left_to_a_person(rows, told):
    """An incident that was handed over is closed, and its trouble may be as it was."""
    assert told == headline(rows)
