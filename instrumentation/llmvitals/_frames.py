import gc
import os
import sys
import threading
from types import FrameType

# Before 3.11.9 a garbage collection in the middle of sys._current_frames() that clears a threading.local stands still
# for ever, and the process with it: https://github.com/python/cpython/issues/106883.
_MAY_STAND_STILL = sys.version_info < (3, 11, 9)
_LOCK = threading.Lock()
if hasattr(os, "register_at_fork"):
    # A fork in between would leave the child without its garbage collector.
    os.register_at_fork(before=_LOCK.acquire, after_in_parent=_LOCK.release, after_in_child=_LOCK.release)


def current_frames() -> dict[int, FrameType]:
    """Each thread's innermost frame, by the thread's ident: the only way to see what another thread does."""
    if not _MAY_STAND_STILL:
        return sys._current_frames()  # noqa: SLF001
    with _LOCK:
        collects = gc.isenabled()
        gc.disable()
        try:
            return sys._current_frames()  # noqa: SLF001
        finally:
            if collects:
                gc.enable()
