"""Retries as tenacity makes them: every attempt, every retry and its wait, every giving up.

tenacity's hooks do not fire on success, and its ``retry_error_callback`` swallows the error. So one hook, ``before``,
puts an observer around the two questions that tenacity asks after each attempt: retry? and stop? All other hooks
stay free for the application.
"""

import inspect
from collections.abc import Callable
from typing import Any

from llmvitals import catalogue
from llmvitals._errors import CircuitOpenError
from llmvitals._recording import Recorder, error_type

_Listener = Callable[[Any, bool], None]


class Retries:
    """Counts what one place that retries does; made by `Vitals.retries`.

    ```python
    @tenacity.retry(stop=stop_after_attempt(3), wait=wait_exponential(), **vitals.retries("llm").tenacity())
    async def ask(question): ...
    ```

    A call that a breaker refused (`CircuitOpenError`) was not tried. It counts as no attempt, is not retried, whatever
    the predicate would say, and the error comes out as it is; the breaker counts it, as rejected.
    """

    def __init__(self, recorder: Recorder, name: str) -> None:
        self.name = name
        self._recorder = recorder

    def tenacity(self) -> dict[str, Callable[[Any], None]]:
        """Return the keyword arguments that make a tenacity object (sync or async) count here."""
        return {"before": self._before}

    def _before(self, state: Any) -> None:
        with self._recorder.guard("retries"):
            retrying = state.retry_object
            # Threads that share the object may both do this; each wraps the application's own predicate, so once.
            if not isinstance(retrying.retry, _Observed):
                retrying.retry = self._observe(retrying.retry, self._after_retry_question)
            if not isinstance(retrying.stop, _Observed):
                retrying.stop = self._observe(retrying.stop, self._after_stop_question)

    def _observe(self, question: Callable[[Any], Any], listener: _Listener) -> "_Observed":
        asynchronous = inspect.iscoroutinefunction(question) or inspect.iscoroutinefunction(type(question).__call__)
        return (_ObservedAsync if asynchronous else _ObservedSync)(self._recorder, question, listener)

    def attempted(self, outcome: str) -> None:
        """Count an attempt that ended as `success`, or as `fatal`: not to be retried."""
        self._recorder.child(catalogue.ATTEMPTS, self.name, outcome).inc()

    def scheduled(self, cause: str, number: int, seconds: float) -> None:
        """Count an attempt that ended with *cause*, and the retry of this *number* that follows after the wait."""
        self.attempted("retryable")
        self._recorder.child(catalogue.RETRIES, self.name, cause, str(number) if number < 3 else "3+").inc()
        self._recorder.child(catalogue.RETRY_WAIT, self.name).observe(seconds)

    def exhausted(self, cause: str) -> None:
        """Count an attempt that ended with *cause* and would have been retried, had it not been the last."""
        self.attempted("retryable")
        self._recorder.child(catalogue.RETRIES_EXHAUSTED, self.name, cause).inc()

    def _after_retry_question(self, state: Any, retry: bool) -> None:
        if not retry:
            self.attempted("fatal" if state.outcome.failed else "success")

    def _after_stop_question(self, state: Any, stop: bool) -> None:
        """Asked only about an attempt that tenacity wants to repeat."""
        cause = error_type(state.outcome.exception()) if state.outcome.failed else "result"
        if stop:
            self.exhausted(cause)
        else:
            self.scheduled(cause, state.attempt_number, float(state.upcoming_sleep))


def _refused(state: Any) -> bool:
    return state.outcome.failed and isinstance(state.outcome.exception(), CircuitOpenError)


class _Observed:
    """A question of tenacity's whose answer is told on, and given unchanged. About a refused call nothing is asked."""

    def __init__(self, recorder: Recorder, question: Callable[[Any], Any], listener: _Listener) -> None:
        self._recorder = recorder
        self._question = question
        self._listener = listener

    def tell(self, state: Any, answer: Any) -> None:
        with self._recorder.guard("retries"):
            self._listener(state, bool(answer))


class _ObservedSync(_Observed):
    def __call__(self, state: Any) -> Any:
        if _refused(state):
            return False
        answer = self._question(state)
        self.tell(state, answer)
        return answer


class _ObservedAsync(_Observed):
    # tenacity looks at the kind of __call__ to decide whether to await it.
    async def __call__(self, state: Any) -> Any:
        if _refused(state):
            return False
        answer = await self._question(state)
        self.tell(state, answer)
        return answer
