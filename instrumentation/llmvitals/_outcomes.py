"""What a call ends in: the series of all calls that end alike, looked up once and moved at once."""

from dataclasses import dataclass
from typing import Any

from llmvitals import catalogue
from llmvitals._recording import Recorder, observe_counted
from llmvitals._replies import UsageReader
from llmvitals._together import Moves, Pair, Together, end_together
from llmvitals._traces import exemplify
from llmvitals._watch import Watch, end_reason

Key = tuple[str, str, str, str, str, str, str, bool, bool, bool]
"""Operation, provider, model, response model, server's address and port, error type; whether an answered attempt counts
with the call, and whether input and output tokens are unknown."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The series of these calls; None for what is not told of them."""

    duration: Any
    input: Any
    output: Any
    in_flight: Any
    attempts: Any
    together: Together | None
    """Moves all of them; None where that cannot be."""

    readers: tuple[UsageReader, ...]
    moves: tuple[Moves, ...]
    """For `together`, and a call without details: what leaves only the *unpaired* of the readers to be told."""

    unpaired: tuple[UsageReader, ...]

    def record(self, seconds: float, tokens_in: int | None, tokens_out: int | None) -> None:
        """Move one after the other, for calls that are not known in full; all but the one of calls in flight."""
        self.duration.observe(seconds)
        if tokens_in is not None:
            self.input.observe(tokens_in)
        if tokens_out is not None:
            self.output.observe(tokens_out)
        if self.attempts is not None:
            self.attempts.inc()


def outcome(recorder: Recorder, key: Key) -> Outcome:
    """Return what the calls of this *key* end in, and keep it as the last of what `Recorder.kept` has under it."""
    operation, provider, model, answered_by, address, port, ended, is_answered, no_input, no_output = key
    base = (operation, provider, model, answered_by, address, port)
    wanted = [
        (catalogue.CALLS_IN_FLIGHT, (operation, provider, model)),
        (catalogue.CALL_DURATION, (*base, ended)),
    ]
    if not no_input:
        wanted.append((catalogue.TOKEN_USAGE, (*base, "input")))
    if not no_output:
        wanted.append((catalogue.TOKEN_USAGE, (*base, "output")))
    if is_answered:
        wanted.append((catalogue.ATTEMPTS, (provider, "success")))
    makers = () if no_input and no_output else recorder.usage_readers.values()
    readers = tuple(make(base, not no_input and not no_output) for make in makers)
    moves = tuple(reader.moves for reader in readers if isinstance(reader, Pair))
    unpaired = tuple(reader for reader in readers if not isinstance(reader, Pair))

    def of(in_flight: Any, duration: Any, *rest: Any) -> tuple[Outcome]:
        others = iter(rest)
        tokens_in = None if no_input else next(others)
        tokens_out = None if no_output else next(others)
        attempts = next(others, None)
        together = end_together(in_flight, duration, tokens_in, tokens_out, attempts)
        return (Outcome(duration, tokens_in, tokens_out, in_flight, attempts, together, readers, moves, unpaired),)

    found: Outcome = recorder.keep(key, *wanted, more=of)[-1]
    return found


def record_stream(  # noqa: PLR0917 -- all that is known of its end
    recorder: Recorder,
    base: tuple[str, ...],
    error: BaseException | None,
    reason: str | None,
    times: Watch.Times,
    started: float,
    trace: Any,
) -> None:
    """Record what a call with these *base* labels has of its stream."""
    child, call = recorder.child, base[:3]
    child(catalogue.STREAM_ENDS, *call, reason or end_reason(error)).inc()
    if times.first is not None:
        first_chunk = child(catalogue.TIME_TO_FIRST_CHUNK, *base)
        first_chunk.observe(times.first - started)
        exemplify(first_chunk, times.first - started, trace)
        if any(times.gaps):
            per_chunk = child(catalogue.TIME_PER_OUTPUT_CHUNK, *base)
            observe_counted(per_chunk, times.gaps, times.last - times.first)
        if times.output is not None:
            child(catalogue.TIME_TO_FIRST_OUTPUT, *base).observe(times.output - started)
    for kind, chunks in times.odd.items():
        child(catalogue.STREAM_ODD_CHUNKS, *call, kind).inc(chunks)
