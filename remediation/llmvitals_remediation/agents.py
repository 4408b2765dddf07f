"""The hub: where waiting agents and the executor's threads meet.

Agents poll on the event loop; `AgentHub.dispatch` blocks an executor's thread. Between them lies one dictionary of
pending commands under one lock, which is never held across an await or a wait.

A command is handed over once per poll. It is handed over again when its poll died before the answer was written, and
when no result came for a while: the agent answers a repeated id with what it stored, so asking again is always safe,
and it is how a lost result, or a lost hand-over, becomes a known outcome.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from llmvitals_remediation.protocol import CONNECTED_SECONDS, AgentHello, Command, CommandResult

_log = logging.getLogger(__name__)

REDELIVER_SECONDS = 5.0
# Agents and late results that are remembered. Bounds, not capacities: a stranger with the token cannot fill the memory.
_MAX_AGENTS = 1024
_MAX_RESULTS = 512


class HubClosedError(RuntimeError):
    """The service drains: polls are answered with 503, and the agent comes back to whoever starts next."""


@dataclass(slots=True)
class _Pending:
    command: Command
    done: threading.Event = field(default_factory=threading.Event)
    result: CommandResult | None = None
    handed_at: float | None = None  # monotonic; None: due now
    # Once it left this process nobody can say that it was not received.
    ever_handed: bool = False


@dataclass(slots=True)
class _Agent:
    hello: AgentHello
    seen: float  # monotonic
    # The poll that waits now. A newer poll of the agent makes it return empty-handed.
    poll: "_Poll | None" = None


@dataclass(slots=True, eq=False)
class _Poll:
    loop: asyncio.AbstractEventLoop
    wakeup: asyncio.Event
    replaced: bool = False

    def wake(self) -> None:
        # The loop is closed when the service is gone; then nobody waits.
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.wakeup.set)


class AgentHub:
    """Implements `protocol.Agents` for the engine, and `poll` and `answer` for the HTTP side."""

    def __init__(
        self, *, monotonic: Callable[[], float] = time.monotonic, redeliver_seconds: float = REDELIVER_SECONDS
    ) -> None:
        self._monotonic = monotonic
        self._redeliver = redeliver_seconds
        self._lock = threading.Lock()
        self._agents: dict[str, _Agent] = {}
        # By agent id, then attempt id; also for agents that are not here yet: after a restart they come back in time.
        self._pending: dict[str, dict[str, _Pending]] = {}
        self._results: OrderedDict[tuple[str, str], CommandResult] = OrderedDict()
        self._closed = False

    # --- the engine's side --------------------------------------------------------------------------------------------

    def connected(self) -> Mapping[str, AgentHello]:
        """Agents that polled within the last 45 s, by agent id."""
        oldest = self._monotonic() - CONNECTED_SECONDS
        with self._lock:
            return {name: agent.hello for name, agent in self._agents.items() if agent.seen >= oldest}

    def dispatch(self, agent_id: str, command: Command, *, timeout: float) -> CommandResult | None:
        """Hand *command* to the agent and block this thread for its answer, *timeout* seconds at most.

        None means that the outcome is unknown: no answer came in time, or the process that took the command is gone.
        The same attempt may be dispatched again, to learn what became of it.
        """
        with self._lock:
            if (known := self._results.get((agent_id, command.attempt_id))) is not None:
                return known
            agent = self._agents.get(agent_id)
            if agent is not None and agent.hello.boot_id != command.boot_id:
                return _other_boot(command)
            pending = self._pending.setdefault(agent_id, {}).setdefault(command.attempt_id, _Pending(command))
            poll = agent.poll if agent is not None else None
        if poll is not None:
            poll.wake()
        pending.done.wait(timeout)
        with self._lock:
            # Taken back under the lock: from here on no poll can pick it up.
            mine = self._pending.get(agent_id, {})
            if mine.get(command.attempt_id) is pending:
                del mine[command.attempt_id]
            if not mine:
                self._pending.pop(agent_id, None)
        return pending.result

    # --- the agents' side ---------------------------------------------------------------------------------------------

    async def poll(self, hello: AgentHello, *, gone: Callable[[], Awaitable[None]]) -> tuple[Command, ...]:
        """Wait for commands, `hello.wait_seconds` at most; *gone()* returns when the client has hung up.

        Returns nothing when a newer poll of the same agent took over. Raises `HubClosedError` when the service drains.
        """
        poll = _Poll(asyncio.get_running_loop(), asyncio.Event())
        agent = self._register(hello, poll)
        hung_up = asyncio.ensure_future(gone())
        end = self._monotonic() + hello.wait_seconds
        try:
            while True:
                if hung_up.done() or poll.replaced:
                    return ()
                poll.wakeup.clear()
                if commands := self._take(poll, hello):
                    return commands
                if self._closed:
                    raise HubClosedError
                left = end - self._monotonic()
                if left <= 0:
                    return ()
                # Bounded by the redelivery interval, so that an unanswered command is noticed within this poll.
                woken = asyncio.ensure_future(poll.wakeup.wait())
                try:
                    await asyncio.wait(
                        {woken, hung_up}, timeout=min(left, self._redeliver), return_when=asyncio.FIRST_COMPLETED
                    )
                finally:
                    woken.cancel()
        finally:
            hung_up.cancel()
            with self._lock:
                if agent.poll is poll:
                    agent.poll = None

    def undelivered(self, agent_id: str, commands: tuple[Command, ...]) -> None:
        """The answer that carried *commands* was not written: the next poll gets them."""
        with self._lock:
            mine = self._pending.get(agent_id, {})
            for command in commands:
                if (pending := mine.get(command.attempt_id)) is not None:
                    pending.handed_at = None

    def answer(self, agent_id: str, result: CommandResult) -> None:
        """Keep *result* and wake who waits for it. Results nobody waits for are kept too: the asker may come back."""
        with self._lock:
            pending = self._pending.get(agent_id, {}).get(result.attempt_id)
            if pending is not None and pending.result is None:
                pending.result = result
                pending.done.set()
            self._results.setdefault((agent_id, result.attempt_id), result)
            while len(self._results) > _MAX_RESULTS:
                self._results.popitem(last=False)

    def close(self) -> None:
        """Let every poll return now, and refuse new ones.

        Dispatches go on waiting: an agent that acts at this moment may still report, and what is cut off by the end
        of the process is looked up at the next start, which is better than calling it unknown.
        """
        with self._lock:
            self._closed = True
            polls = [agent.poll for agent in self._agents.values() if agent.poll is not None]
        for poll in polls:
            poll.wake()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _register(self, hello: AgentHello, poll: _Poll) -> _Agent:
        now = self._monotonic()
        with self._lock:
            if self._closed:
                raise HubClosedError
            agent = self._agents.get(hello.agent_id)
            if agent is None:
                self._forget_oldest()
                agent = self._agents[hello.agent_id] = _Agent(hello, seen=now)
            elif self._is_older_process(agent, hello, now):
                # Two live processes share one name, and this is the elder: it waits, and is handed nothing.
                _log.warning(
                    "agent %s: boot %s polls while the newer boot %s is connected; it gets no commands",
                    hello.agent_id,
                    hello.boot_id,
                    agent.hello.boot_id,
                )
                return _Agent(hello, seen=now, poll=poll)
            self._resolve_other_boots(hello)
            replaced, agent.poll = agent.poll, poll
            agent.hello, agent.seen = hello, now
        if replaced is not None:
            replaced.replaced = True
            replaced.wake()
        return agent

    @staticmethod
    def _is_older_process(agent: _Agent, hello: AgentHello, now: float) -> bool:
        return (
            agent.hello.boot_id != hello.boot_id
            and hello.started_at < agent.hello.started_at
            and now - agent.seen < CONNECTED_SECONDS
        )

    def _resolve_other_boots(self, hello: AgentHello) -> None:
        """Commands for another process of that name: what was never handed over is refused, the rest is unknown."""
        for pending in self._pending.get(hello.agent_id, {}).values():
            if pending.command.boot_id != hello.boot_id and not pending.done.is_set():
                if not pending.ever_handed:
                    pending.result = _other_boot(pending.command)
                pending.done.set()

    def _forget_oldest(self) -> None:
        if len(self._agents) >= _MAX_AGENTS:
            idle = [name for name, agent in self._agents.items() if agent.poll is None]
            if not idle:
                raise HubClosedError
            del self._agents[min(idle, key=lambda name: self._agents[name].seen)]

    def _take(self, poll: _Poll, hello: AgentHello) -> tuple[Command, ...]:
        now = self._monotonic()
        with self._lock:
            agent = self._agents.get(hello.agent_id)
            if agent is None or agent.poll is not poll:
                return ()
            due = [
                pending
                for pending in self._pending.get(hello.agent_id, {}).values()
                if not pending.done.is_set()
                and (pending.handed_at is None or now - pending.handed_at >= self._redeliver)
            ]
            for pending in due:
                pending.handed_at, pending.ever_handed = now, True
        return tuple(sorted((pending.command for pending in due), key=lambda command: command.fence))


def _other_boot(command: Command) -> CommandResult:
    """What the agent itself would answer: the process that the command means is gone, and never saw it from us."""
    return CommandResult(
        attempt_id=command.attempt_id,
        boot_id=command.boot_id,
        status="refused",
        error="the process that the command was meant for is gone",
        refusal="other_boot",
    )
