"""stamina: the retries that it schedules, and what it waits before them.

Its hooks see neither successes nor givings-up, so those are not guessed: attempts stay uncounted. The hook is added
where stamina reads its hooks, so the defaults and those that the application sets, before or after, are kept.
"""

import functools
from typing import Any

from stamina._config import _Config

from llmvitals import catalogue
from llmvitals._recording import error_type
from llmvitals.integrations._session import Session


class _WithOurs(property):
    """Of a class of ours, because a plain property cannot be referred to weakly."""


def install(session: Session) -> None:
    hook = functools.partial(_record, session)

    def wrap(original: property) -> property:
        return _WithOurs(lambda config: (*original.__get__(config), hook), original.fset, original.fdel)

    session.patch(_Config, "on_retry", wrap)


def _record(session: Session, details: Any) -> None:
    vitals = session.vitals
    if vitals is None:
        return
    with vitals.recorder.guard("stamina"):
        child, number = vitals.recorder.child, details.retry_num
        cause = error_type(details.caused_by)
        child(catalogue.RETRIES, details.name, cause, str(number) if number < 3 else "3+").inc()
        child(catalogue.RETRY_WAIT, details.name).observe(float(details.wait_for))
