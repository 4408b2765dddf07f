"""Many workers, one service: gunicorn's, uvicorn's and multiprocessing's processes are scraped as one.

Each keeps its numbers in a file that the others read, and says over a socket what cannot be kept there. Which processes
belong together is seen from how they were started; see `_kin`. Where an operating system has no such thing, each is
scraped by itself.
"""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmvitals._recording import Recorder
    from llmvitals.workers._workers import Workers


def join(recorder: "Recorder", *, service: str, host: str, port: int, name: str = "") -> "Workers | None":
    """Make this process a worker of its service: of *name*, or of those that were started with it.

    None where processes cannot be told to belong together. Raises OSError where they cannot share files.
    """
    if not hasattr(os, "posix_fallocate"):  # Not Linux.
        return None
    from llmvitals.workers import _kin  # noqa: PLC0415 -- as above
    from llmvitals.workers._workers import Workers  # noqa: PLC0415

    marks = [_kin.digest("name", name)] if name else _kin.kin()
    if not marks:
        return None
    return Workers(recorder, _kin.digest(_kin.namespaces(), service, host, port, name), marks)


def sweep() -> None:
    """Take away what services have left that ended as a whole. OSError where that cannot be."""
    from llmvitals.workers import _group  # noqa: PLC0415 -- as above

    _group.sweep(_group.base_directory(), but=os.getpid())
