from pathlib import Path


def resident_bytes() -> int:
    """Resident memory of this process, now."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * _page_bytes()
    except (OSError, IndexError, ValueError):
        import psutil  # noqa: PLC0415 -- 10 ms that only systems without /proc need cost

        return int(psutil.Process().memory_info().rss)


def _page_bytes() -> int:
    import resource  # noqa: PLC0415 -- not on Windows, and neither is /proc

    return resource.getpagesize()
