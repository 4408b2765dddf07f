def version() -> str:
    """Return the installed version of llmvitals."""
    from importlib import metadata  # noqa: PLC0415 -- 10 ms that importing llmvitals need not cost

    try:
        return metadata.version("llmvitals")
    except metadata.PackageNotFoundError:  # Run from a copy of the source.
        return "unknown"
