"""What follows from what: pure rules from a report or a verdict to an incident's next step."""

import random

from llmvitals_remediation.policy import Handler
from llmvitals_remediation.records import Attempt, Change, Conclusion, Report, Verdict

# An agent that lost its connection comes back within its backoff of 30 s.
RECOVERY_SECONDS = 90.0
_LONGEST_BACKOFF_SECONDS = 600.0
# A refusal for these reasons will be the same next time.
_HOPELESS = ("unknown_verb", "bad_parameters")


def settle(
    attempt: Attempt, handler: Handler, report: Report, *, recovered: bool, now: float, dice: random.Random
) -> tuple[Conclusion | None, Change]:
    """After the act: on to the proof (no conclusion yet), or an end of the attempt.

    *recovered* says that the command may have been sent before this process started.
    """
    if report.answer == "refused" and recovered and report.refusal in ("other_boot", "old_fence", "expired"):
        # The refusal is about the question, not about what happened before it.
        report = Report("unknown", error=report.error, refusal=report.refusal)
    if report.answer == "refused":
        reason = f"refused: {report.refusal or report.error}"
        conclusion = Conclusion("failed", reason, report)
        if report.refusal in _HOPELESS:
            return conclusion, escalate(handler, reason)
        return conclusion, again(attempt, handler, reason, now=now, dice=dice)
    if report.answer == "failed" and handler.effect == "idempotent":
        reason = f"the action failed: {report.error}"
        return Conclusion("failed", reason, report), again(attempt, handler, reason, now=now, dice=dice)
    if report.answer in ("failed", "unknown") and handler.effect == "neither":
        reason = f"it is not known what the action did: {report.error}"
        verdict: Verdict = "failed" if report.answer == "failed" else "unknown"
        return Conclusion(verdict, reason, report), escalate(handler, reason)
    return None, verify(attempt, handler, report, now=now)


def verify(attempt: Attempt, handler: Handler, report: Report, *, now: float) -> Change:
    """To the proof. Whether the act was seen to succeed or not: the value decides."""
    told: dict[str, object] = {"attempt": attempt.id, "answer": report.answer}
    if report.error:
        told["error"] = report.error
    held = handler.hold is not None
    renew_at = now + handler.hold.lease_seconds / 3 if handler.hold is not None else None
    return Change(
        "acted",
        "verifying",
        next_at=now + handler.verify.settle_seconds,
        deadline_at=now + handler.verification_seconds + RECOVERY_SECONDS,
        columns={
            "healthy_since": None,
            "lease_id": attempt.id if held else None,
            "lease_renew_at": renew_at,
            "quiet_since": None,
        },
        detail=told,
    )


def judged(
    attempt: Attempt, handler: Handler, verdict: Verdict, reason: str, *, now: float, dice: random.Random
) -> Change:
    """After the verdict: done, held, again, or given up."""
    detail = {"attempt": attempt.id, "verdict": verdict}
    if verdict != "effective":
        if attempt.answer != "done" and not _may_repeat(handler, verdict):
            why = f"the action's outcome is {attempt.answer}, and {reason}"
            return escalate(handler, why, detail=detail)
        return again(attempt, handler, reason, now=now, dice=dice, detail=detail)
    if handler.hold is not None:
        return Change(
            "proved",
            "holding",
            reason=reason,
            next_at=now,
            deadline_at=now + handler.hold.max_seconds,
            columns={"quiet_since": None},
            detail=detail,
        )
    return Change(
        "proved", "closed", reason=reason, outcome="remediated", failed=False, breaker=handler.breaker, detail=detail
    )


def _may_repeat(handler: Handler, verdict: Verdict) -> bool:
    """Whether another attempt is safe when nobody said that this one was done."""
    if handler.effect == "idempotent":
        return True
    # A driver looks at the process before it acts. Of what an agent did, only a clear value says that it was not done.
    return handler.effect == "detectable" and (handler.driver != "agent" or verdict == "ineffective")


def again(
    attempt: Attempt,
    handler: Handler,
    reason: str,
    *,
    now: float,
    dice: random.Random,
    detail: dict[str, str] | None = None,
) -> Change:
    """The next attempt after a backoff, or the end when there is none left. A held change is not held any more."""
    dropped = {"lease_id": None, "lease_renew_at": None}
    if attempt.number >= handler.attempts:
        return Change(
            "gave_up",
            "closed",
            reason=f"{attempt.number} attempts did not help; the last: {reason}",
            outcome="exhausted",
            spent=True,
            failed=True,
            breaker=handler.breaker,
            columns=dropped,
            detail=detail or {},
        )
    next_at = max(
        now + backoff(attempt.number, handler, dice),
        # Never sooner than the verification: a failed act may still show late.
        (attempt.started_at or attempt.planned_at) + handler.verification_seconds,
    )
    return Change(
        "scheduled",
        "scheduled",
        reason=reason,
        next_at=next_at,
        # From here on the incident's own time runs again.
        deadline_at=next_at + RECOVERY_SECONDS + handler.approval_seconds,
        columns=dropped,
        detail=detail or {},
    )


def backoff(number: int, handler: Handler, dice: random.Random) -> float:
    """Seconds to wait after attempt *number*: base · 2ⁿ⁻¹, with jitter, ten minutes at most."""
    seconds: float = min(handler.backoff_seconds * 2 ** (number - 1), _LONGEST_BACKOFF_SECONDS)
    return seconds * (1 + handler.backoff_jitter * (2 * dice.random() - 1))


def escalate(handler: Handler, reason: str, *, detail: dict[str, str] | None = None) -> Change:
    """People take over, and this alert's episode stays theirs."""
    return Change(
        "escalated",
        "closed",
        reason=reason,
        outcome="escalated",
        spent=True,
        failed=True,
        breaker=handler.breaker,
        columns={"lease_id": None, "lease_renew_at": None},
        detail=detail or {},
    )
