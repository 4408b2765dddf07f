import logging
import signal
import threading
from collections.abc import Callable, Iterable
from types import FrameType

log = logging.getLogger("llmvitals")


def end_on(numbers: Iterable[int], end: Callable[[], object], then: Callable[[int], object] | None) -> None:
    """At the first of these signals call *end* in a thread, then *then*, or let the signal take its course."""
    wanted = tuple(numbers) or (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in wanted}

    def take_its_course(number: int) -> None:
        # Through the handler below, because only the main thread may put the old ones back.
        signal.pthread_kill(threading.main_thread().ident or 0, number)

    def work(number: int) -> None:
        try:
            end()
        except Exception:
            log.exception("llmvitals: the shutdown failed")
        finally:
            (then or take_its_course)(number)

    begun = threading.Event()

    def handle(number: int, _: FrameType | None) -> None:
        if begun.is_set():
            for each, handler in before.items():
                signal.signal(each, signal.SIG_DFL if handler is None else handler)
            signal.raise_signal(number)
            return
        begun.set()
        log.info("llmvitals: %s: shutting down", signal.Signals(number).name)
        threading.Thread(target=work, args=(number,), name="llmvitals-shutdown").start()

    for number in wanted:
        signal.signal(number, handle)
