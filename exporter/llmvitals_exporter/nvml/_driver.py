"""The driver as this process sees it: what a question to it can come to."""

import ctypes
import logging
from collections.abc import Callable
from typing import Any, Protocol

from llmvitals_exporter._answering import DriverFailedError

_log = logging.getLogger("llmvitals_exporter")


class Nvml(Protocol):
    """The part of the module `pynvml` that is always there; everything else may be missing in an old driver."""

    NVMLError: type[Exception]

    def nvmlInit(self) -> None: ...  # noqa: N802 -- NVIDIA's name

    def nvmlDeviceGetCount(self) -> int: ...  # noqa: N802 -- NVIDIA's name


NO_PERMISSION = 4
DRIVER_NOT_LOADED, LIBRARY_NOT_FOUND, TIMEOUT, UNKNOWN = 9, 12, 10, 999
#: At start these say that there is nothing here.
ABSENT = frozenset({DRIVER_NOT_LOADED, LIBRARY_NOT_FOUND})
#: After these no reading of this process can be trusted: uninitialised, driver not loaded, GPU lost, reset required,
#: library and driver of different versions, GPU not found.
LIFECYCLE = frozenset({1, DRIVER_NOT_LOADED, 15, 16, 18, 28})


def code_of(error: Exception) -> int:
    code = getattr(error, "value", None)
    return code if isinstance(code, int) else UNKNOWN


def ask(nvml: Nvml, function: str, *arguments: Any) -> Any:
    """What NVML says, or None when card, driver, library or permission do not allow the question.

    Raises:
        DriverFailedError: When the driver or a card is gone, so that nothing else of it can be trusted either.
    """
    call: Callable[..., Any] | None = getattr(nvml, function, None)
    if call is None:
        return None
    try:
        return call(*arguments)
    except nvml.NVMLError as error:
        code = code_of(error)
        if code in LIFECYCLE:
            raise DriverFailedError(code, f"{function}: {error}") from error
        if code == NO_PERMISSION and function not in _forbidden:
            _forbidden.add(function)
            _log.warning("NVML does not let this user ask %s: what it would tell is absent", function)
        return None


#: Told once in this process, which is one driver's.
_forbidden: set[str] = set()


def number(value: object) -> int | None:
    """The number, unless it is none, or one of the driver's ways to write "no value"."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    top_32, top_64 = 0x7FFFFFF0, 0x7FFFFFFFFFFFFFF0
    blank = value < 0 or top_32 <= value <= top_32 + 15 or 0xFFFFFFF0 <= value <= 0xFFFFFFFF or value >= top_64
    return None if blank else value


def text(value: object) -> str:
    if isinstance(value, bytes):  # Older pynvml.
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else ""


def identity(handle: Any) -> object:
    """What is equal for two handles, which ctypes has as pointers, of one thing."""
    try:
        contents = getattr(handle, "contents", None)
    except ValueError:  # A null pointer.
        return None
    if contents is not None:
        return ctypes.addressof(contents)
    return handle if isinstance(handle, str) else id(handle)
