"""Frameworks that ask a model through an SDK which is watched, too: the call is the SDK's, which knows more of it."""

from contextvars import ContextVar


class Claim:
    """Open from a framework's start of a call to the first word of its answer; an SDK that is asked meanwhile takes it.

    By the first word the request has been made; what is asked in the same context later, between two chunks, is the
    application's own.
    """

    __slots__ = ("open", "taken")

    def __init__(self) -> None:
        self.open = True
        self.taken = False


_offered: ContextVar[tuple[Claim, ...]] = ContextVar("llmvitals_claims", default=())


def offer(claim: Claim) -> None:
    """Let an SDK that is asked from this context take *claim*."""
    _offered.set((*(earlier for earlier in _offered.get() if earlier.open), claim))


def take() -> None:
    """Take all that is offered here: the caller counts the call."""
    for claim in _offered.get():
        if claim.open:
            claim.taken = True
