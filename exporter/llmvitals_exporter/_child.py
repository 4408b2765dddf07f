"""A process that answers one line with one line of JSON, and is replaced, never waited for, when it does not.

A call into a driver can block for ever, in a state that no signal ends. In a process of its own it costs us nothing but
that process.
"""

import json
import os
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from llmvitals_exporter._pipe import Pipe, ThreadedPipe, pipe

_ANSWER_BYTES = 4 << 20


class ChildFailedError(Exception):
    """The child died, said what is not an answer, or ran out of patience; a new one is started by the next question."""


class ChildBusyError(Exception):
    """The child has not answered yet, and still has time."""


class Child:
    """Asks a child process, and starts it when there is none.

    Args:
        command: What to run. It must read lines like ``{"id": 1}`` and write lines like ``{"id": 1, ...}``.
        start_patience: Seconds until a new child must have answered its first question.
        patience: Seconds until it must have answered any later one.
    """

    def __init__(self, command: Sequence[str], *, start_patience: float = 30.0, patience: float = 10.0) -> None:
        self._command = list(command)
        self._start_patience = start_patience
        self._patience = patience
        self._process: subprocess.Popen[bytes] | None = None
        self._output: Pipe | ThreadedPipe | None = None
        self._ended: list[subprocess.Popen[bytes]] = []
        self._parent = os.getpid()
        self._buffer = b""
        self._question = 0
        self._asked_at: float | None = None
        self._answered = False

    def ask(self, wait: float) -> dict[str, Any]:
        """The answer to a question put now.

        Args:
            wait: Seconds that the caller can spare; they are kept whatever the child does.
        """
        deadline = time.monotonic() + wait
        self._leave_to_parent()
        self._bury()
        if self._process is None:
            self._start()
        if self._asked_at is not None:
            self._await_answer(deadline)  # Of an earlier question: it is old, so it is dropped.
        self._put_question()
        return self._await_answer(deadline)

    def begin(self) -> None:
        """Start the child and put the first question, so that a slow start is over before someone waits for it."""
        self._leave_to_parent()
        if self._process is None:
            self._start()
            self._put_question()

    def replace(self) -> None:
        """End the child, which said that it is of no use any more; the next question starts another."""
        self._drop()

    def close(self) -> None:
        """End the child, and wait a moment for it; one that the kernel holds is left behind."""
        self._leave_to_parent()
        self._drop()
        deadline = time.monotonic() + 1.0
        for process in self._ended:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        self._bury()

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def answered(self) -> bool:
        """Whether this child has answered any question, be it too late."""
        return self._answered

    # --- The process --------------------------------------------------------------------------------------------------

    def _leave_to_parent(self) -> None:
        """After a fork the child is still the parent's: one who asks it here would take the answers meant for there."""
        if self._parent == os.getpid():
            return
        self._parent = os.getpid()
        process, self._process, self._ended = self._process, None, []
        self._let_go(process)

    def _start(self) -> None:
        try:
            self._process = subprocess.Popen(  # noqa: S603 -- our own module, or what a test gives
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
            )
        except OSError as error:
            raise ChildFailedError(f"could not start {self._command[0]}: {error}") from error
        self._buffer = b""
        self._asked_at = None
        self._answered = False
        assert self._process.stdout is not None  # noqa: S101 -- mypy cannot see what PIPE gives
        self._output = pipe(self._process.stdout)

    def _drop(self) -> None:
        process, self._process = self._process, None
        self._asked_at = None
        if process is not None:
            process.kill()
            self._let_go(process)
            self._ended.append(process)

    def _let_go(self, process: "subprocess.Popen[bytes] | None") -> None:
        if process is not None and process.stdin is not None:
            process.stdin.close()
        if self._output is not None:
            self._output.close()
            self._output = None

    def _bury(self) -> None:
        self._ended = [process for process in self._ended if process.poll() is None]

    # --- The conversation ---------------------------------------------------------------------------------------------

    def _put_question(self) -> None:
        assert self._process is not None  # noqa: S101 -- both callers have just made sure
        assert self._process.stdin is not None  # noqa: S101 -- see _start
        self._question += 1
        self._asked_at = time.monotonic()
        try:
            self._process.stdin.write(json.dumps({"id": self._question}).encode() + b"\n")
        except OSError as error:
            raise self._failure("ended") from error

    def _await_answer(self, deadline: float) -> dict[str, Any]:
        while True:
            answer = self._parse(self._await_line(deadline))
            if answer.get("id") == self._question:
                self._asked_at = None
                self._answered = True
                return answer

    def _await_line(self, deadline: float) -> bytes:
        assert self._output is not None  # noqa: S101 -- see _put_question
        while b"\n" not in self._buffer:
            chunk = self._output.read(max(0.0, deadline - time.monotonic()))
            if chunk is None:
                raise self._late()
            if not chunk:
                raise self._failure("ended")
            self._buffer += chunk
            if len(self._buffer) > _ANSWER_BYTES:
                raise self._failure(f"wrote more than {_ANSWER_BYTES} bytes")
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _parse(self, line: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise self._failure("wrote a line that is not JSON") from error
        if not isinstance(answer, dict):
            raise self._failure("wrote a line that is not a JSON object")
        return answer

    def _late(self) -> Exception:
        patience = self._patience if self._answered else self._start_patience
        asked = time.monotonic() if self._asked_at is None else self._asked_at
        silent = time.monotonic() - asked
        if silent < patience:
            return ChildBusyError(f"no answer for {silent:.1f} s")
        return self._failure(f"did not answer for {silent:.0f} s")

    def _failure(self, what: str) -> ChildFailedError:
        self._drop()
        return ChildFailedError(f"the child process {what}; it is replaced")
