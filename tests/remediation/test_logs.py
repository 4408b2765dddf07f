"""What the service writes into its log."""

import logging

from llmvitals_remediation._logs import OneLine


def test_a_label_cannot_write_a_line_of_its_own():
    """Line breaks, other control characters and turned writing are shown as escapes; other text stays as it is."""
    hostile = "a\nb\r\x1b[31m\x00\u2028\u202e é 😀"
    record = logging.LogRecord("x", logging.INFO, __file__, 1, "opened on %s", (hostile,), None)

    line = OneLine("%(levelname)s %(message)s").format(record)

    assert r"INFO opened on a\nb\r\x1b[31m\x00\u2028\u202e é 😀" == line
