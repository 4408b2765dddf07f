"""Questions to things that may never answer: servers, network filesystems."""

import threading
import time
from collections.abc import Callable, Collection, Hashable
from concurrent.futures import Future, wait
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Patience(Generic[K, V]):
    """Asks many at once, each in a thread of its own, and waits for all of them together no longer than its time.

    One that hangs keeps its one thread, is not asked again until it has come back, and holds up nobody.

    Args:
        ask: Answers for one of them, or raises.
        seconds: How long the answers may take, all together.
    """

    def __init__(self, ask: Callable[[K], V], *, seconds: float) -> None:
        self._ask = ask
        self._seconds = seconds
        self._pending: dict[K, Future[V]] = {}

    def answers(self, keys: Collection[K]) -> dict[K, V | Exception]:
        """The answer of each, or why there is none: what it raised, or a TimeoutError. One call at a time."""
        deadline = time.monotonic() + self._seconds
        late = {key: future for key, future in self._pending.items() if not future.done()}
        asked = {key: self._start(key) for key in keys if key not in late}
        self._pending = late | asked
        wait(asked.values(), timeout=max(0.0, deadline - time.monotonic()))
        return {key: self._answer(asked.get(key)) for key in keys}

    def _start(self, key: K) -> "Future[V]":
        future: Future[V] = Future()

        def run() -> None:
            try:
                future.set_result(self._ask(key))
            except BaseException as error:  # noqa: BLE001 -- whatever a strange server causes, it is only no answer
                future.set_exception(error)

        # A daemon: what hangs ends with the process.
        threading.Thread(target=run, name="patience", daemon=True).start()
        return future

    def _answer(self, future: "Future[V] | None") -> V | Exception:
        if future is None:
            return TimeoutError("has not answered the question before this one")
        if not future.done():
            return TimeoutError(f"did not answer within {self._seconds:g} s")
        error = future.exception()
        if error is None:
            return future.result()
        return error if isinstance(error, Exception) else RuntimeError(f"ended with {error!r}")
