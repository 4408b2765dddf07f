"""What of another program's words can be true, and fits into a label."""

_TEXT_LIMIT = 128


def number(value: object, most: float = 2.0**63) -> float | None:
    """The number if it is one from 0 to *most*, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:  # NaN is not either.
        return None
    return float(value)


def text(value: object) -> str:
    """The text, short enough for a label; empty if it is none."""
    if not isinstance(value, str):
        return ""
    # A lone surrogate, which JSON can spell, is in no encoding; replaced, two labels would become one.
    return value[:_TEXT_LIMIT].encode("utf-8", "backslashreplace").decode()
