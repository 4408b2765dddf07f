"""The machines without procfs, macOS and Windows, as psutil knows them.

A collector decides once, when it is opened, how it reads: on Linux the kernel's own files, elsewhere psutil. psutil's
tuples differ by platform and by version, so their fields are asked for by name.
"""

import sys
from collections.abc import Iterator
from typing import Any

from llmvitals_exporter._declaration import NothingToCollect, Reader
from llmvitals_exporter._family import Reading


def on_linux() -> bool:
    return sys.platform == "linux"


def on_darwin() -> bool:
    return sys.platform == "darwin"


def on_windows() -> bool:
    return sys.platform == "win32"


def psutil() -> Any:
    import psutil as module  # noqa: PLC0415 -- megabytes that Linux does without

    return module


def number(of: object, field: str) -> float | None:
    """The field of one of psutil's tuples, or None where this platform does not have it."""
    value = getattr(of, field, None)
    return None if value is None else float(value)


def linux_only(what: str) -> Reader:
    """A source that has nothing to say here, and why.

    Args:
        what: What only Linux tells, as the subject of a sentence in the plural.
    """

    def read() -> Iterator[Reading]:
        raise NothingToCollect(f"{what} are told by Linux only")

    return Reader(read)
