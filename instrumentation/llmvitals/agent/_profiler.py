"""Where the processor's time goes, for some seconds.

cProfile sees one thread, its own. This looks at all of them a hundred times a second, and asks the kernel how much each
has run since the look before, so that a thread which waits in `recv` does not pass for a busy one.
"""

import sys
import threading
import time
from collections import Counter
from types import FrameType
from typing import Any

from llmvitals._frames import current_frames

SAMPLES_PER_SECOND = 100
MAX_DEPTH = 64
TOP_FUNCTIONS = 30
TOP_STACKS = 20

# CPUCLOCK_PERTHREAD_MASK | CPUCLOCK_SCHED of Linux's posix-timers.h: how a clock's id names a thread.
_PER_THREAD_SCHED = 4 | 2

_Place = tuple[str, str, int]


def profile_cpu(seconds: float, stop: threading.Event) -> dict[str, Any]:
    """Sample for *seconds*, or until *stop* is set. `clock` is "cpu" where the kernel tells each thread's time, else
    "wall": then a waiting thread counts as much as a running one.
    """
    own, self_time, total_time, stacks = threading.get_ident(), Counter[_Place](), Counter[_Place](), Counter[str]()
    clock = _ThreadTimes()
    started = last = time.monotonic()
    samples = 0
    while (now := time.monotonic()) - started < seconds and not stop.wait(1 / SAMPLES_PER_SECOND):
        samples += 1
        elapsed, last = now - last, now
        spent = clock.since_last(elapsed)
        for ident, frame in current_frames().items():
            weight = spent.get(ident, 0.0)
            if ident == own or weight <= 0:
                continue
            places = _places(frame)
            self_time[places[-1]] += weight  # type: ignore[assignment]  # Counter is typed for ints; floats add as well
            for place in set(places):
                total_time[place] += weight  # type: ignore[assignment]
            stacks[";".join(function for function, _, _ in places)] += weight  # type: ignore[assignment]
    return {
        "seconds": round(time.monotonic() - started, 3),
        "samples": samples,
        "clock": clock.kind,
        "functions": [
            {
                "function": place[0],
                "file": place[1],
                "line": place[2],
                "self_seconds": round(self_time[place], 4),
                "total_seconds": round(spent, 4),
            }
            for place, spent in sorted(
                total_time.items(), key=lambda item: (self_time[item[0]], item[1]), reverse=True
            )[:TOP_FUNCTIONS]
        ],
        "stacks": [{"stack": stack, "seconds": round(spent, 4)} for stack, spent in stacks.most_common(TOP_STACKS)],
    }


def _places(frame: FrameType | None) -> list[_Place]:
    """The stack, outermost first, cut at the outer end."""
    places: list[_Place] = []
    while frame is not None and len(places) < MAX_DEPTH:
        code = frame.f_code
        places.append((code.co_qualname, code.co_filename, code.co_firstlineno))
        frame = frame.f_back
    return places[::-1]


class _ThreadTimes:
    """How long each thread ran since the last question, by its ident."""

    def __init__(self) -> None:
        self._last: dict[int, float] = {}
        self.kind = "cpu" if _ran_seconds(threading.get_native_id()) is not None else "wall"

    def since_last(self, elapsed: float) -> dict[int, float]:
        spent = {}
        for thread in threading.enumerate():
            if thread.ident is None or thread.native_id is None:
                continue
            if self.kind == "wall":
                spent[thread.ident] = elapsed
                continue
            ran = _ran_seconds(thread.native_id)
            if ran is not None:
                spent[thread.ident] = ran - self._last.get(thread.native_id, ran)
                self._last[thread.native_id] = ran
        return spent


def _ran_seconds(native_id: int) -> float | None:
    """A thread's processor time; None for one that has ended, and where the system cannot tell."""
    if sys.platform != "linux":
        return None
    # What pthread_getcpuclockid would give, made from the kernel's id: that function crashes on a thread that has just
    # ended, this one is told so. Reading /proc instead would give up the interpreter's lock three times a thread, and
    # beside a busy one each time costs 5 ms to get it back.
    try:
        return time.clock_gettime((~native_id << 3) | _PER_THREAD_SCHED)
    except (OSError, OverflowError):
        return None
