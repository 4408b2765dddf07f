import time
from collections.abc import Callable

LEAST_SECONDS = 15.0
# So that what takes long is done seldom: one part in a thousand of the time at most.
REST = 1000.0


class Paced:
    """Does *work* when it is asked to, but not before the last time has become 15 s old, or a thousand times as old as
    it took: some things cost microseconds in one process, and in another, milliseconds.
    """

    def __init__(self, work: Callable[[], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._work = work
        self._clock = clock
        self._next = float("-inf")

    def __call__(self) -> None:
        started = self._clock()
        if started < self._next:
            return
        self._next = started + LEAST_SECONDS
        try:
            self._work()
        finally:
            ended = self._clock()
            self._next = ended + max(LEAST_SECONDS, (ended - started) * REST)
