"""The service's log lines: one message, one line, whatever a label tried to put into it."""

import logging
import re

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
# Control characters, line and paragraph separators, and what turns the direction of writing.
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def configure(level: str) -> None:
    """Log to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine(_FORMAT))
    logging.basicConfig(level=level, handlers=[handler])


class OneLine(logging.Formatter):
    """Escapes what would end a line or hide in it, so that no label can write a line of its own into the log."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 -- the name that logging calls
        record.message = _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), record.message)
        return super().formatMessage(record)
