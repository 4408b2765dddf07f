"""Named places at which a test kills this process.

With `LLMVITALS_CRASH_AT=<name>` in the environment, the process sends itself SIGKILL when it passes the place. Unset,
`point` is a function with an empty body.
"""

import os
import signal

POINTS = ("before_commit", "after_commit", "after_intent", "after_act", "in_verification")
VARIABLE = "LLMVITALS_CRASH_AT"


def _nothing(name: str) -> None:
    """Not armed."""


def _kill(name: str) -> None:
    if name == _armed:
        os.kill(os.getpid(), signal.SIGKILL)


_armed = os.environ.get(VARIABLE)
if _armed is not None and _armed not in POINTS:
    raise ValueError(f"{VARIABLE}={_armed}: no such place; it is one of {', '.join(POINTS)}")
point = _nothing if _armed is None else _kill
