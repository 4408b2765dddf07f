"""Calls: one LLM operation each, from its start to the end of its stream."""

import inspect
import weakref
from collections.abc import Callable
from contextvars import ContextVar, Token
from functools import partial, wraps
from sys import modules
from time import perf_counter
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, cast

from llmvitals import catalogue
from llmvitals._outcomes import outcome, record_stream
from llmvitals._recording import Recorder, error_type
from llmvitals._replies import Details, cut, cut_by, details, field, tokens
from llmvitals._streams import each_step, each_step_async, relay_async, watch_stream
from llmvitals._traces import OPENTELEMETRY, current_trace, exemplify
from llmvitals._watch import Watch

P = ParamSpec("P")
T = TypeVar("T")

_active: ContextVar["Call | None"] = ContextVar("llmvitals_call", default=None)


def active_call() -> "Call | None":
    """Return the call whose ``with`` block or decorated function is running here; one that has ended is none.

    Threads and tasks that were started inside of a block have a copy of its context, for as long as they live.
    """
    call = _active.get()
    return call if call is not None and call._open else None  # noqa: SLF001 -- of this module


class Call:
    """One LLM operation; made by `Vitals.call`.

    Use it as a context manager or a decorator, sync or async, or with `start` and `finish`. What is not known at the
    start is told on the way:

    ```python
    with vitals.call(provider="openai", model="talker") as call:
        reply = ask(question)
        call.usage(input_tokens=reply.prompt_tokens, output_tokens=reply.completion_tokens)
    ```

    A call that hands out a stream ends when the stream does, even if the ``with`` block has long been left.
    """

    __slots__ = (
        "__weakref__",
        "_cut",
        "_details",
        "_dropped",
        "_in_flight",
        "_input_tokens",
        "_open",
        "_output_tokens",
        "_recorder",
        "_response_model",
        "_started",
        "_token",
        "_trace",
        "_watch",
        "is_answered",
        "model",
        "operation",
        "provider",
        "server_address",
        "server_port",
    )

    def __init__(  # noqa: PLR0917 -- keywords cost as much as the rest of it: integrations give none
        self,
        recorder: Recorder,
        provider: str,
        model: str,
        operation: str = "chat",
        server_address: str = "",
        server_port: str | int = "",
    ) -> None:
        self.operation = operation
        self.provider = provider
        self.model = model
        self.server_address = server_address
        self.server_port = str(server_port)
        self._recorder = recorder
        self._response_model = ""
        self._input_tokens: int | None = None
        self._output_tokens: int | None = None
        self._details: Details | None = None
        self._cut = ""
        self.is_answered = False
        """Whether there is an attempt, answered by the server, that counts together with the call's end."""

        self._started = 0.0
        self._trace: Any = None
        # Holds one item from start to end; who pops it, ends the call. Popping is atomic, so there is one such.
        self._open: list[None] = []
        self._watch: weakref.ref[Watch] | None = None
        self._dropped: Watch.Times | None = None
        self._in_flight: Any = None
        self._token: Token[Call | None] | None = None

    # --- Start and end --------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Begin now. A call that has ended may begin again."""
        if self._open:
            if self.is_streaming:
                fault = RuntimeError("a Call began again while its stream runs; make one with vitals.call() for each")
                self._recorder.fault("calls", fault)
            return self
        if self._started:
            # An end of the last run that still waits to be recorded must not end this one.
            self._recorder.drain()
            self._response_model, self._input_tokens, self._output_tokens, self._details = "", None, None, None
            self._watch = self._dropped = None
            self.is_answered, self._cut = False, ""
        self._trace = current_trace() if OPENTELEMETRY in modules else None
        self._started = perf_counter()
        self._open.append(None)
        in_flight = self._recorder.child(catalogue.CALLS_IN_FLIGHT, self.operation, self.provider, self.model)
        in_flight.inc()
        self._in_flight = in_flight
        return self

    def finish(self, error: BaseException | None = None) -> None:
        """End the call, with the *error* that ended it if there was one. The second time does nothing."""
        if self._watch is None:
            self.end(perf_counter(), error, None, None)
        elif (watch := self._watch()) is not None:
            watch.end(error)
        elif self._dropped is not None:
            # A loop over the stream was left inside the block; if by an error, that is what ended it.
            self.end(perf_counter(), error, "abandoned" if error is None else None, self._dropped)
        else:
            self.end(perf_counter(), error, None, None)

    def leave(self) -> None:
        """End the call unless a stream of it is alive, which will."""
        if self._watch is None:
            self.end(perf_counter(), None, None, None)
        elif not self.is_streaming:
            self.finish()

    def dropped(self, now: float, times: "Watch.Times") -> None:
        """The stream has gone unclosed. Recorded soon and not now: this may be the garbage collector at work."""
        self._dropped = times
        self._recorder.later(partial(self.end, now, None, "abandoned", times))

    def end(self, now: float, error: BaseException | None, reason: str | None, times: "Watch.Times | None") -> None:
        """Record everything, once. For streams: *reason* of the end, and the *times* of the chunks."""
        try:
            self._open.pop()
        except IndexError:
            return
        try:
            if self._recorder.late:
                self._recorder.drain()
            self._record(now, error, reason, times)
        except Exception as fault:  # noqa: BLE001 -- the application has its result, and keeps it
            self._recorder.fault("calls", fault)
            if self._in_flight is not None:
                self._in_flight.dec()

    # --- What is learnt on the way --------------------------------------------------------------------------------

    def usage(
        self,
        *,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        cached_input_tokens: int | None = None,
        cache_write_input_tokens: int | None = None,
        reasoning_tokens: int | None = None,
    ) -> None:
        """Tell the tokens that the provider reported; leave out what it did not report.

        *input_tokens* are all of them, those that the provider's cache gave or took up included; *output_tokens*
        include the reasoning. Where a provider counts them apart, as Anthropic does, add them up.
        """
        if input_tokens is not None:
            self._input_tokens = input_tokens
        if output_tokens is not None:
            self._output_tokens = output_tokens
        told = (cached_input_tokens, cache_write_input_tokens, reasoning_tokens)
        if told != (None, None, None):
            self._tell_details(told)

    def response_model(self, model: str) -> None:
        """Tell the model that answered, where it is more exact than the one asked for."""
        self._response_model = model

    def finish_reason(self, reason: str) -> None:
        """Tell why the answer ended, in the provider's word; it is counted if the model was not done (``length``)."""
        self._cut = cut_by(reason) or self._cut

    def read(self, reply: object) -> None:
        """Take model, usage and finish reason out of a reply or chunk in OpenAI's shape, as far as it has them."""
        try:
            model = field(reply, "model")
            if isinstance(model, str) and model:
                self._response_model = model
            usage = field(reply, "usage")
            if usage is not None:
                tokens_in, tokens_out = tokens(usage)
                if tokens_in is not None:
                    self._input_tokens = tokens_in
                if tokens_out is not None:
                    self._output_tokens = tokens_out
                if self._recorder.usage_readers and (told := details(usage)) is not None:
                    self._tell_details(told)
            self._cut = cut(reply) or self._cut
        except Exception as fault:  # noqa: BLE001 -- a reply of any kind
            self._recorder.fault("calls", fault)

    def stream(self, source: T, *, visible: Callable[[Any], object] | None = None) -> T:
        """Watch *source* and return it as what it is.

        A generator stays a generator, an async one async; any other stream object keeps its type, attributes, ``close``
        and context manager. The call ends with the stream: read to its end, failed, closed, cancelled or dropped.

        *visible* says whether a chunk has output that is not the model's reasoning; it is asked until one has. Without
        it, reasoning is known in chunks of OpenAI's shape, and a chunk of any other shape is output.
        """
        if self.is_streaming:
            return source
        if not self._open:
            self.start()
        try:
            watch = self.watch(partial(Watch, visible=visible))
            watched = watch_stream(source, watch)
        except Exception as fault:  # noqa: BLE001 -- an unwatched stream is better than none
            self._watch = None
            self._recorder.fault("streams", fault, f"a {type(source).__name__} is not watched")
            return source
        return watched

    def watch(self, make: Callable[["Call", Recorder], Watch] = Watch) -> Watch:
        """Make the observer that ends this call; only the stream may hold it, because its death is a sign."""
        watch = make(self, self._recorder)
        self._watch = weakref.ref(watch)
        return watch

    @property
    def is_streaming(self) -> bool:
        """Whether a stream of this call is alive, which will end the call."""
        return self._watch is not None and self._watch() is not None

    # --- Context manager and decorator ----------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.start()
        self._token = _active.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        token, self._token = self._token, None
        if token is not None:
            try:
                _active.reset(token)
            except ValueError:  # An async generator was closed by another task; that context is gone anyway.
                token = None
        if error is None:
            self.leave()
        else:
            self.finish(error)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        """Decorate a function, sync or async: each run of it is a call of its own, and its reply is read for usage.

        What it returns or yields as a stream is watched like `stream` does.
        """
        another = self._another
        if inspect.isgeneratorfunction(function):

            @wraps(function)
            def generating(*args: P.args, **kwargs: P.kwargs) -> Any:
                call = another()
                return (yield from each_step(call.stream(function(*args, **kwargs)), _active, call))

            return cast("Callable[P, T]", generating)

        if inspect.isasyncgenfunction(function):

            def source(*args: P.args, **kwargs: P.kwargs) -> Any:
                call = another()
                return each_step_async(call.stream(function(*args, **kwargs)), _active, call)

            return cast("Callable[P, T]", relay_async(function, source))

        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def called_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                with another() as call:
                    return _take(call, await function(*args, **kwargs))

            return cast("Callable[P, T]", called_async)

        @wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> T:
            with another() as call:
                return _take(call, function(*args, **kwargs))

        return called

    # --- Inside ---------------------------------------------------------------------------------------------------

    def _tell_details(self, told: Details) -> None:
        cached, written, reasoning = told
        if self._details is not None:
            known = self._details
            cached = known[0] if cached is None else cached
            written = known[1] if written is None else written
            reasoning = known[2] if reasoning is None else reasoning
        self._details = (cached, written, reasoning)

    def _another(self) -> "Call":
        return Call(
            self._recorder,
            provider=self.provider,
            model=self.model,
            operation=self.operation,
            server_address=self.server_address,
            server_port=self.server_port,
        )

    def _record(self, now: float, error: BaseException | None, reason: str | None, times: "Watch.Times | None") -> None:
        recorder, tokens_in, tokens_out = self._recorder, self._input_tokens, self._output_tokens
        key = (
            self.operation,
            self.provider,
            self.model,
            self._response_model,
            self.server_address,
            self.server_port,
            "" if error is None else error_type(error),
            self.is_answered,
            tokens_in is None,
            tokens_out is None,
        )
        try:
            ended = recorder.kept[key][-1]
        except Exception:  # noqa: BLE001 -- a new one mostly; else a label whose own __hash__ or __eq__ raises
            ended = outcome(recorder, key)
        seconds, readers, told = now - self._started, ended.readers, self._details
        if (
            ended.together is not None
            and ended.in_flight is self._in_flight
            and type(tokens_in) is type(tokens_out) is int
            and tokens_in >= 0 <= tokens_out
        ):
            if told is None:
                readers = ended.unpaired
            self._in_flight = None  # It goes first there, whatever becomes of numbers too large to add.
            ended.together(seconds, tokens_in, tokens_out, ended.moves if told is None else ())
        else:
            in_flight, self._in_flight = self._in_flight, None
            in_flight.dec()
            ended.record(seconds, tokens_in, tokens_out)
        if self._trace is not None:
            exemplify(ended.duration, seconds, self._trace)
        if tokens_in is None and tokens_out is None and error is None and self.operation != "retrieval":
            streamed = "false" if times is None else "true"
            recorder.child(catalogue.USAGE_MISSING, self.provider, self.model, streamed).inc()
        if self._cut:
            recorder.child(catalogue.CUT_ANSWERS, self.provider, self.model, self._cut).inc()
        if times is not None:
            record_stream(recorder, key[:6], error, reason, times, self._started, self._trace)
        for read in readers:
            read(tokens_in, tokens_out, told)


def _take(call: Call, reply: T) -> T:
    if hasattr(reply, "__next__") or hasattr(reply, "__anext__"):
        return call.stream(reply)
    call.read(reply)
    return reply
