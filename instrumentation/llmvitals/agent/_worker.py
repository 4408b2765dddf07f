import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from llmvitals import catalogue
from llmvitals._recording import Recorder
from llmvitals.agent._actions import Action, Actions
from llmvitals.agent._clock import Clock
from llmvitals.agent._parameters import BadParametersError, check_parameters
from llmvitals.agent._protocol import Command, Malformed, Refusal, Result, Status, cut, encodable
from llmvitals.agent._results import Results

log = logging.getLogger("llmvitals")

MAX_WAITING = 64
_SUBJECTS_KEPT = 1024

OnCommand = Callable[[str, str, str], object]


@dataclass(frozen=True, slots=True)
class _Job:
    command: Command
    action: Action
    parameters: Mapping[str, Any]


class Worker:
    """Judges each command when it comes, and carries out the good ones, one at a time, in a thread of its own.

    `receive` never acts and never waits for an action, so the thread that polls may call it: a hanging action holds up
    only the commands behind it, which are refused as expired when their time is over.
    *on_command*(attempt id, verb, boot id) is called just before an accepted command acts, once for each; when it
    raises, the command does not act. *tell* is called when there is a result to send.
    """

    def __init__(
        self,
        recorder: Recorder,
        actions: Actions,
        results: Results,
        clock: Clock,
        *,
        boot_id: str,
        on_command: OnCommand | None = None,
        tell: Callable[[], None] = lambda: None,
    ) -> None:
        self._recorder = recorder
        self._actions = actions
        self._results = results
        self._clock = clock
        self._boot_id = boot_id
        self._on_command = on_command
        self._tell = tell
        self._fences: OrderedDict[str, int] = OrderedDict()
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="llmvitals-worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Let the running action end, *timeout* seconds at most. What waits is dropped: it did not act."""
        with self._changed:
            self._stopped = True
            self._waiting.clear()
            self._changed.notify_all()
        if self._thread is not threading.current_thread() and self._thread.is_alive():
            self._thread.join(timeout)

    def receive(self, command: Command | Malformed) -> None:
        """Queue the command, refuse it, or, where its attempt id was seen before, let its result be told again."""
        known = self._actions.get(command.verb)
        verb = known.name if known is not None else "unknown"
        seen = self._results.begin(command.attempt_id)
        if seen != "new":
            if seen == "known":
                self._count(verb, "repeated")
            return
        if isinstance(command, Malformed):
            self._refuse(command, verb, "bad_parameters", command.problem)
        elif command.boot_id != self._boot_id:
            self._refuse(command, verb, "other_boot", "the process that was meant is gone; this is another one")
        elif self._clock.wall() >= command.expires_at:
            self._refuse(command, verb, "expired", self._lateness(command))
        elif known is None:
            self._refuse(command, verb, "unknown_verb", f"this application offers no action {cut(command.verb, 128)!r}")
        else:
            self._accept(command, known)

    def refuse_expired(self) -> None:
        """Answer the waiting commands whose time is over. The one that runs is left alone."""
        now = self._clock.wall()
        with self._changed:
            late = [job for job in self._waiting if now >= job.command.expires_at]
            for job in late:
                self._waiting.remove(job)
        for job in late:
            self._refuse(job.command, job.action.name, "expired", self._lateness(job.command))

    def run_waiting(self) -> None:
        """Carry out what waits, in the caller's thread: for tests, which start none."""
        while (job := self._next(wait=False)) is not None:
            self._carry_out(job)

    # --- judging ------------------------------------------------------------------------------------------------------

    def _accept(self, command: Command, action: Action) -> None:
        try:
            parameters = check_parameters(action.parameters, command.parameters)
            if action.check is not None:
                action.check(parameters)
        except BadParametersError as fault:
            self._refuse(command, action.name, "bad_parameters", str(fault))
            return
        subject = _subject(action.name, parameters)
        seen = self._fences.get(subject, 0)
        if command.fence < seen:
            text = f"fence {command.fence} is older than {seen}, which was seen for {subject}"
            self._refuse(command, action.name, "old_fence", text)
            return
        with self._changed:
            full = len(self._waiting) >= MAX_WAITING
            if not full:
                self._raise_fence(subject, command.fence)
                if subject == "tunables":
                    self._raise_fence(f"lease {command.attempt_id}", command.fence)
                self._waiting.append(_Job(command, action, parameters))
                self._changed.notify_all()
        if full:
            self._answer(command, action.name, "failed", error=f"{MAX_WAITING} commands wait already; it did not act")

    def _raise_fence(self, subject: str, fence: int) -> None:
        self._fences[subject] = fence
        self._fences.move_to_end(subject)
        if len(self._fences) > _SUBJECTS_KEPT:
            self._fences.popitem(last=False)

    def _lateness(self, command: Command) -> str:
        return f"it expired {self._clock.wall() - command.expires_at:.1f} s ago by this machine's clock"

    # --- acting -------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while (job := self._next(wait=True)) is not None:
            self._carry_out(job)
            self._tell()

    def _next(self, *, wait: bool) -> _Job | None:
        with self._changed:
            while wait and not self._waiting and not self._stopped:
                self._changed.wait()
            return self._waiting.popleft() if self._waiting else None

    def _carry_out(self, job: _Job) -> None:
        command, verb = job.command, job.action.name
        if self._clock.wall() >= command.expires_at:
            self._refuse(command, verb, "expired", self._lateness(command))
            return
        try:
            if self._on_command is not None:
                self._on_command(command.attempt_id, verb, self._boot_id)
        except Exception as error:  # noqa: BLE001 -- the application's callback
            text = f"on_command raised {type(error).__name__}: {error}; the command did not act"
            self._answer(command, verb, "failed", error=text)
            return
        log.info("llmvitals: carrying out %s (attempt %s)", verb, command.attempt_id)
        try:
            returned = job.action.run(command, job.parameters)
        except BaseException as error:  # SystemExit in an action must not end the agent either.
            log.warning("llmvitals: %s (attempt %s) failed", verb, command.attempt_id, exc_info=error)
            notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
            self._answer(command, verb, "failed", error=f"{type(error).__name__}: {error}{notes}")
        else:
            self._answer(command, verb, "done", result=encodable(returned))

    # --- answering ----------------------------------------------------------------------------------------------------

    def _refuse(self, command: Command | Malformed, verb: str, refusal: Refusal, error: str) -> None:
        log.info("llmvitals: refused %s (attempt %s): %s: %s", verb, command.attempt_id, refusal, error)
        self._answer(command, verb, "refused", error=error, refusal=refusal)

    def _answer(
        self,
        command: Command | Malformed,
        verb: str,
        status: Status,
        *,
        result: Mapping[str, Any] | None = None,
        error: str | None = None,
        refusal: Refusal | None = None,
    ) -> None:
        text = None if error is None else cut(error)
        self._results.finish(
            Result(command.attempt_id, command.verb, status, result, text, refusal, self._clock.wall())
        )
        self._count(verb, status)

    def _count(self, verb: str, outcome: str) -> None:
        self._recorder.child(catalogue.AGENT_COMMANDS, verb, outcome).inc()


def _subject(verb: str, parameters: Mapping[str, Any]) -> str:
    """What a command is about: the highest fence is remembered for each, so that commands about different things may
    overtake each other on their way.
    """
    if verb in ("confirm_lease", "renew_lease", "revert_lease"):
        return f"lease {parameters['lease_id']}"
    if verb in ("reset_breaker", "force_breaker"):
        return f"breaker {parameters['name']}"
    if verb in ("apply_tunables", "switch_profile"):
        return "tunables"
    return f"action {verb}"
