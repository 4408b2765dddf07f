"""Calls that may hang, made in threads that nobody has to wait for."""

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

THREADS = 8
_IDLE_SECONDS = 10.0


class OffThread:
    """Runs calls in at most *threads* daemon threads, which are made when needed and end when idle.

    Not `concurrent.futures`' pool: the interpreter would wait at its end for a call that hangs.
    """

    def __init__(self, name: str, *, threads: int = THREADS) -> None:
        self._name = name
        self._most = threads
        self._begin()

    def _begin(self) -> None:
        self._calls: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._changed = threading.Condition()
        self._threads = self._idle = 0
        self._pid = os.getpid()

    def submit(self, call: Callable[[], Any]) -> "Future[Any] | None":
        """The future answer of *call*; None when every thread is busy: then nobody waits behind what may hang."""
        if self._pid != os.getpid():  # A fork has none of the threads.
            self._begin()
        answer: Future[Any] = Future()
        with self._changed:
            if self._idle > len(self._calls):
                self._calls.append((answer, call))
                self._changed.notify()
                return answer
            if self._threads >= self._most:
                return None
            self._threads += 1
            self._calls.append((answer, call))
        threading.Thread(target=self._work, name=f"llmvitals-{self._name}", daemon=True).start()
        return answer

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._calls:
                    self._idle += 1
                    self._changed.wait_for(lambda: self._calls, _IDLE_SECONDS)
                    self._idle -= 1
                if not self._calls:
                    self._threads -= 1
                    return
                answer, call = self._calls.popleft()
            if not answer.set_running_or_notify_cancel():
                continue
            try:
                result = call()
            except BaseException as error:  # noqa: BLE001 -- the one who asked is told
                answer.set_exception(error)
            else:
                answer.set_result(result)
            del answer, call
