"""Why a provider refuses a request, where the status alone does not say."""

# Looked for in the error's code, class and message: providers tell it in different ones of them.
_SIGNS = {
    "context_length_exceeded": (
        "context_length_exceeded",
        "contextwindowexceeded",
        "exceed_context_size",
        "context length",
        "context window",
        "prompt is too long",
    ),
    "content_filter": (
        "content_filter",
        "contentpolicyviolation",
        "content_policy_violation",
        "content management policy",
    ),
}
# Beyond, a message may hold what somebody wrote.
_READ = 500


def refusal(error: BaseException) -> str:
    """``context_length_exceeded`` or ``content_filter``; empty for all else."""
    text = f"{getattr(error, 'code', '')} {type(error).__name__} {error}"[:_READ].lower()
    return next((name for name, signs in _SIGNS.items() if any(sign in text for sign in signs)), "")
