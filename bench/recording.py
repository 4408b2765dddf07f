"""Cost of recording one LLM call, all families on: llmvitals against a minimum written by hand, in one run.

    python bench/recording.py

The minimum is what a careful programmer writes with prometheus_client alone: the same histograms with the same labels
for duration, tokens in and out, and the gauge in flight; its streamed variant also the first chunk and the time per
chunk. Both ask for their children by label at each call. CPU time of this process, least of the rounds.

Then the same call as one of many workers of a service: ours, whose numbers are in a file that the others read, and the
minimum in prometheus_client's multiprocess mode.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Gauge, Histogram

from llmvitals import Vitals, catalogue, testing

CALLS = 5_000
CHUNKS = 1_024
STREAMS = 20
ROUNDS = 7

BASE = ("chat", "openai", "talker", "talker-2026", "127.0.0.1", "8081")


class ByHand:
    def __init__(self) -> None:
        registry = CollectorRegistry()
        self.duration, self.tokens, self.first, self.chunk = (
            Histogram(family.name, family.help, family.labels, registry=registry, buckets=family.buckets)
            for family in (
                catalogue.CALL_DURATION,
                catalogue.TOKEN_USAGE,
                catalogue.TIME_TO_FIRST_CHUNK,
                catalogue.TIME_PER_OUTPUT_CHUNK,
            )
        )
        family = catalogue.CALLS_IN_FLIGHT
        self.in_flight = Gauge(family.name, family.help, family.labels, registry=registry)

    @contextmanager
    def call(self) -> Iterator[None]:
        in_flight = self.in_flight.labels(*BASE[:3])
        in_flight.inc()
        started = time.perf_counter()
        error = ""
        try:
            yield
        except Exception as caught:
            error = type(caught).__name__
            raise
        finally:
            self.duration.labels(*BASE, error).observe(time.perf_counter() - started)
            self.tokens.labels(*BASE, "input").observe(700)
            self.tokens.labels(*BASE, "output").observe(50)
            in_flight.dec()

    def stream(self, chunks: Iterator[str]) -> Iterator[str]:
        last = started = time.perf_counter()
        per_chunk = self.chunk.labels(*BASE)
        for number, chunk in enumerate(chunks):
            now = time.perf_counter()
            if number == 0:
                self.first.labels(*BASE).observe(now - started)
            else:
                per_chunk.observe(now - last)
            last = now
            yield chunk


def generate() -> Iterator[str]:
    for _ in range(CHUNKS):
        yield "word"


def seconds(work: Callable[[], None], times: int) -> float:
    """CPU seconds of one *work*."""
    rounds = []
    for _ in range(ROUNDS):
        start = time.process_time()
        for _ in range(times):
            work()
        rounds.append((time.process_time() - start) / times)
    return min(rounds)


def our_call_on(vitals: Vitals) -> Callable[[], None]:
    def ours() -> None:
        with vitals.call(provider="openai", model="talker", server_address="127.0.0.1", server_port="8081") as call:
            call.response_model("talker-2026")
            call.usage(input_tokens=700, output_tokens=50)

    return ours


def call_by_hand(by_hand: ByHand) -> Callable[[], None]:
    def theirs() -> None:
        with by_hand.call():
            pass

    return theirs


def by_hand_in_files() -> float:
    """Microseconds of one call by hand in prometheus_client's multiprocess mode, which a process begins with."""
    with tempfile.TemporaryDirectory() as files:
        printed = subprocess.run(
            [sys.executable, __file__, "--by-hand"],
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": files},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    return float(printed)


def many_workers(our_call: float, their_call: float) -> None:
    """Compare one of two workers with a process by itself, in the one microseconds of which are given."""
    vitals = testing.fresh()
    vitals.join_workers("127.0.0.1", 0, name="bench")
    ready, done = os.pipe()
    other = os.fork()
    if other == 0:
        os.close(done)
        os.read(ready, 1)
        os._exit(0)
    ours = seconds(our_call_on(vitals), CALLS) * 1e6
    os.close(done)
    os.waitpid(other, 0)
    vitals.close()
    theirs = by_hand_in_files()
    print(
        f"many workers: llmvitals {ours:6.2f} us, {ours / our_call:.2f}x of one process; "
        f"by hand {theirs:6.2f} us, {theirs / their_call:.2f}x of one process"
    )


def main() -> None:
    vitals = testing.fresh()
    by_hand = ByHand()
    ours, theirs = our_call_on(vitals), call_by_hand(by_hand)

    def our_stream() -> None:
        with vitals.call(provider="openai", model="talker", server_address="127.0.0.1", server_port="8081") as call:
            call.response_model("talker-2026")
            call.usage(input_tokens=700, output_tokens=50)
            for _ in call.stream(generate()):
                pass

    def their_stream() -> None:
        with by_hand.call():
            for _ in by_hand.stream(generate()):
                pass

    def no_stream() -> None:
        for _ in generate():
            pass

    our_call, their_call = seconds(ours, CALLS) * 1e6, seconds(theirs, CALLS) * 1e6
    print(f"one call:     llmvitals {our_call:6.2f} us, by hand {their_call:6.2f} us: {our_call / their_call:.2f}x")
    many_workers(our_call, their_call)
    bare = seconds(no_stream, STREAMS)
    our_chunk = (seconds(our_stream, STREAMS) - bare) / CHUNKS * 1e9
    their_chunk = (seconds(their_stream, STREAMS) - bare) / CHUNKS * 1e9
    print(
        f"one chunk:    llmvitals {our_chunk:6.0f} ns, by hand {their_chunk:6.0f} ns: {our_chunk / their_chunk:.2f}x"
        f"  (added to a bare stream of {CHUNKS} chunks, the call's own share included)"
    )


if __name__ == "__main__":
    if "--by-hand" in sys.argv:
        print(seconds(call_by_hand(ByHand()), CALLS) * 1e6)
    else:
        main()
