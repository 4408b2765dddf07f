"""What can be made worse on purpose, with --demo-faults: how each part would behave on a bad day."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LIMITS", "Dials"]

LIMITS = {
    "module_seconds": (0.0, 600.0),
    "module_error_ratio": (0.0, 1.0),
    "voice_noise": (0.0, 1.0),
    "turns_per_second": (0.0, 1000.0),
    "search_seconds": (0.0, 10.0),
    "size_error_ratio": (0.0, 1.0),
    "cleanup_seconds": (0.0, 600.0),
    "close_seconds": (0.0, 120.0),
    "numbered_operations": (0.0, 1.0),
}


@dataclass(slots=True)
class Dials:
    """All at rest. Read at each use; a change shows with the next one."""

    module_seconds: float = 0.0
    """More for each run of a background module."""
    module_error_ratio: float = 0.0
    """Of the runs of background modules, this share fails."""
    voice_noise: float = 0.0
    """More noise on the microphone; from 0.25 on, hardly a word is understood."""
    turns_per_second: float = 0.0
    """In place of the limit that was set; 0 leaves that."""
    search_seconds: float = 0.0
    """More for each search of the journal."""
    size_error_ratio: float = 0.0
    """Of the times that a scrape asks how large the journal is, this share fails."""
    cleanup_seconds: float = 0.0
    """More for each clean-up of old exchanges."""
    close_seconds: float = 0.0
    """More to close the store, during which nothing else is done: it holds up the event loop."""
    numbered_operations: float = 0.0
    """1 gives each request an operation of its own, as if its name had the request's number in it."""
