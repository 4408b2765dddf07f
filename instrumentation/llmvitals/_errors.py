"""The errors that llmvitals raises into an application, all of them asked for by it.

* LLMVitalsError
    * CircuitOpenError
    * SettingsError (a ValueError, too)
"""

from collections.abc import Sequence


class LLMVitalsError(Exception):
    """Base of all errors that llmvitals raises."""


class CircuitOpenError(LLMVitalsError):
    """A breaker refused the call without trying it.

    ```python
    try:
        reply = breaker.call(ask, question)
    except llmvitals.CircuitOpenError as error:
        breaker.fallback_used()
        reply = f"Please try again in {error.retry_after_seconds:.0f} s."
    ```
    """

    def __init__(self, name: str, retry_after_seconds: float) -> None:
        super().__init__(f"circuit breaker {name!r} is open; it tries again in {retry_after_seconds:.1f} s")
        self.name = name
        self.retry_after_seconds = retry_after_seconds
        """When the breaker will let a probe through, in seconds from now; infinite when it was forced open."""

    def __reduce__(self) -> tuple[type["CircuitOpenError"], tuple[str, float]]:
        return (type(self), (self.name, self.retry_after_seconds))


class SettingsError(LLMVitalsError, ValueError):
    """Settings that cannot be; its text has one line for each mistake."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)

    def __reduce__(self) -> tuple[type["SettingsError"], tuple[tuple[str, ...]]]:
        return (type(self), (self.problems,))
