"""AMD's driver as this process sees it: what a question to it can come to."""

from collections.abc import Callable
from typing import Any, Protocol

from llmvitals_exporter._answering import DriverFailedError


class AmdSmi(Protocol):
    """The part of the module `amdsmi` that is always there; everything else may be missing in an old version."""

    AmdSmiException: type[Exception]

    def amdsmi_init(self) -> None: ...

    def amdsmi_get_processor_handles(self) -> list[Any]: ...


# AMDSMI_STATUS_..., of amdsmi.h.
NOT_FOUND, NOT_INITIALISED, DRIVER_NOT_LOADED, NO_DRIVER, RESTART_FAILED = 31, 32, 34, 51, 54
UNKNOWN = 0xFFFFFFFF
#: At start these say that there is nothing here.
ABSENT = frozenset({NOT_INITIALISED, DRIVER_NOT_LOADED, NO_DRIVER})
#: After these no reading of this process can be trusted.
LIFECYCLE = frozenset({NOT_INITIALISED, DRIVER_NOT_LOADED, RESTART_FAILED})
#: What the library's integers say for "no value", where its Python side does not write "N/A".
_BLANK = frozenset({0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF})


def code_of(error: Exception) -> int:
    code = getattr(error, "err_code", None)
    return code if isinstance(code, int) else UNKNOWN


def ask(smi: AmdSmi, function: str, *arguments: Any) -> Any:
    """What amdsmi says, or None when card, driver, version or permission do not allow the question.

    Raises:
        DriverFailedError: When the driver is gone, so that nothing else of it can be trusted either.
    """
    call: Callable[..., Any] | None = getattr(smi, function, None)
    if call is None:
        return None
    try:
        return call(*arguments)
    except smi.AmdSmiException as error:
        code = code_of(error)
        if code in LIFECYCLE:
            raise DriverFailedError(code, f"{function}: {told(error)}") from error
        return None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        # It decodes and reckons with what a card says, and not every card or library says what it expects.
        return None


def told(error: Exception) -> str:
    """What an error says, on one line."""
    return " ".join(str(error).split())


def number(value: object) -> float | None:
    """The number, unless it is none, or one of the library's ways to write "no value"."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or value in _BLANK:
        return None
    return float(value)


def part(answer: object, *keys: str) -> object:
    """What stands in an answer under the first of *keys* that it has; versions differ in their names."""
    if not isinstance(answer, dict):
        return None
    return next((answer[key] for key in keys if key in answer), None)


def text(value: object) -> str:
    return value if isinstance(value, str) and value != "N/A" else ""
