"""The other end of `_child`: a process that asks one driver, and answers each line with one line of JSON."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO

Reading = tuple[str, list[str], float]
"""A family's name without ``llmvitals_gpu_``, the values of its labels but ``uuid``, and a number in base units."""

_PROCESSES_TOLD = 50
_NAME_LENGTH = 64


class DriverFailedError(Exception):
    """The driver, a card or the library is gone.

    Args:
        code: What the vendor's library returned.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class DriverAbsentError(DriverFailedError):
    """There is no driver or library here at all."""


class Talk:
    """What a driver says, from its start to its first failure; after that, nothing but the failure.

    Args:
        start: Starts the library, and returns what collects an answer.
    """

    def __init__(self, start: Callable[[], Callable[[], dict[str, Any]]]) -> None:
        self._failure: dict[str, Any] | None = None
        try:
            self._collect = start()
        except DriverFailedError as error:
            self._failure = _failed(error)

    def answer(self) -> dict[str, Any]:
        """One answer, without its id."""
        if self._failure is not None:
            return self._failure
        try:
            return {"status": "ok", "code": 0, **self._collect()}
        except DriverFailedError as error:
            self._failure = _failed(error)
            return self._failure


def answers_only() -> TextIO:
    """Standard output, kept for answers: what else is printed, by a library say, goes to standard error from now on."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def converse(output: TextIO, answer: Callable[[], dict[str, Any]]) -> None:
    """Answer until the input ends, which it does with the parent."""
    for line in sys.stdin:
        output.write(json.dumps({"id": json.loads(line)["id"], **answer()}) + "\n")
        output.flush()


def process_readings(used: Mapping[int, int], name_of: Callable[[int], str]) -> Iterator[Reading]:
    """The memory of the largest processes one by one, and of the rest together.

    Args:
        used: Bytes by pid.
        name_of: The name, path or command line of a pid; only the name is told, because an argument may be a secret.
    """
    largest = sorted(used, key=lambda pid: (-used[pid], pid))
    for pid in largest[:_PROCESSES_TOLD]:
        name = name_of(pid).split(" ")[0].rpartition("/")[2][:_NAME_LENGTH]
        yield "process_memory_bytes", [str(pid), name], float(used[pid])
    rest = largest[_PROCESSES_TOLD:]
    if rest:
        yield "process_memory_bytes", ["other", ""], float(sum(used[pid] for pid in rest))


def _failed(error: DriverFailedError) -> dict[str, Any]:
    status = "absent" if isinstance(error, DriverAbsentError) else "failed"
    return {"status": status, "code": error.code, "error": str(error)}
