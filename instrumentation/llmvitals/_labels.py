LABEL_LENGTH = 256


def label_text(value: object) -> str:
    """Make any value fit to be a label's: text, encodable, at most 256 characters. Never raises."""
    try:
        if value is None:
            return ""
        if isinstance(value, bool):
            return "true" if value else "false"
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        if len(text) > LABEL_LENGTH:
            text = text[: LABEL_LENGTH - 1] + "…"
        if not text.isascii():
            # A lone surrogate would fail the whole scrape when it is encoded.
            text = text.encode("utf-8", "replace").decode("utf-8")
    except Exception:  # noqa: BLE001 -- a __str__ of the application's
        return "invalid"
    return text
