import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmvitals import catalogue
from llmvitals._recording import Recorder
from llmvitals.agent._actions import Actions, Effect, Function
from llmvitals.agent._builtins import NAMES, Builtins, Reach
from llmvitals.agent._clock import SYSTEM_CLOCK, Clock
from llmvitals.agent._leases import Keeper, Leases
from llmvitals.agent._poller import Poller, Teller
from llmvitals.agent._profiles import Profiles
from llmvitals.agent._protocol import MAX_ID, PROTOCOL_VERSION, Command, Malformed, Result, Scalar
from llmvitals.agent._results import Results
from llmvitals.agent._tunables import Tunable, Tunables
from llmvitals.agent._worker import OnCommand, Worker

if TYPE_CHECKING:
    from llmvitals.agent._http import Controller

log = logging.getLogger("llmvitals")

_CLOSE_SECONDS = 5.0
# Until then an application may still be registering what it has.
_PROFILE_DUE_SECONDS = 10.0


class Agent:
    """What the application offers to have done to it, and, once started, the threads that ask what to do.

    An agent that was never started offers, and is asked nothing: no thread, no connection.
    *profile* names the profile to put in force as soon as it is registered.
    """

    def __init__(
        self,
        recorder: Recorder,
        *,
        service: str,
        profile: str | None = None,
        on_command: OnCommand | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._recorder = recorder
        self._service = service
        self._first_profile = profile
        self._on_command = on_command
        self._clock = clock
        self._agent_id = service
        self._started_at = clock.wall()
        self._told_of_profile = False
        self._profile_due_at = clock.monotonic() + _PROFILE_DUE_SECONDS
        self.reach = Reach()
        self._tunables = Tunables(recorder)
        self._profiles = Profiles(recorder, self._tunables)
        self._leases = Leases(recorder, self._tunables, self._profiles, clock)
        self._builtins = Builtins(self.reach, self._tunables, self._profiles, self._leases)
        self._actions = Actions(self._builtins.actions, NAMES)
        self._threads: _Threads | None = None
        # The labels of this agent in a parent process, still in the child's copy of the metrics.
        self._stale_info: tuple[str, str, str] | None = None
        self._lock = threading.Lock()
        self._begin()
        if profile is not None:
            recorder.look_at_scrape(self._look_for_first_profile)
        _agents.add(self)

    def _begin(self) -> None:
        """What belongs to one boot of one process."""
        self.boot_id = os.urandom(16).hex()
        self._results = Results()
        self._worker = self._make_worker(lambda: None)

    def _make_worker(self, tell: Callable[[], None]) -> Worker:
        return Worker(
            self._recorder,
            self._actions,
            self._results,
            self._clock,
            boot_id=self.boot_id,
            on_command=self._on_command,
            tell=tell,
        )

    # --- what the application offers ----------------------------------------------------------------------------------

    def action(
        self,
        *,
        effect: Effect,
        name: str | None = None,
        bounds: Mapping[str, tuple[float | None, float | None]] | None = None,
        description: str | None = None,
    ) -> Callable[[Function], Function]:
        """Offer the decorated function. Its parameters' types come from its annotations, their limits from *bounds* or
        from ``Annotated[float, Bounds(low, high)]``.
        """

        def register(function: Function) -> Function:
            return self._actions.register(function, effect=effect, name=name, bounds=bounds, description=description)

        return register

    def tunable(
        self,
        name: str,
        *,
        get: Callable[[], Any],
        set: Callable[[Any], object],  # noqa: A002 -- the face's word
        low: float | None = None,
        high: float | None = None,
        choices: tuple[Scalar, ...] = (),
    ) -> None:
        """Offer a number between *low* and *high*, or one of *choices*, to be changed."""
        self._tunables.register(Tunable(name, get=get, set=set, low=low, high=high, choices=tuple(choices)))

    def profile(self, name: str, values: Mapping[str, Any]) -> None:
        """Name a set of tunables, all registered before."""
        self._profiles.register(name, values)
        if name == self._first_profile:
            self.use_profile(name)

    def use_profile(self, name: str) -> None:
        """Put a profile in force for good, as the application's own choice. KeyError for one that is not there."""
        values = self._profiles.get(name)
        if values is None:
            raise KeyError(f"there is no profile {name!r}; known are {', '.join(self._profiles.names()) or 'none'}")
        lease_id = f"application-{os.urandom(16).hex()}"
        self._leases.grant(lease_id, values, 60.0, profile=name)
        self._leases.confirm(lease_id)

    def _look_for_first_profile(self) -> None:
        """Say once that the profile to begin with was never registered: a typing error changes nothing, silently."""
        name = self._first_profile
        if name is None or self._clock.monotonic() < self._profile_due_at:
            return
        known = self._profiles.names()
        if name not in known and not self._told_of_profile:
            log.warning(
                "llmvitals: profile %r (LLMVITALS_PROFILE, or profile= of start()) is not in force: the application "
                "has not registered it; it has registered %s",
                name,
                ", ".join(sorted(known)) or "none",
            )
            self._told_of_profile = True

    @property
    def active_profile(self) -> str | None:
        return self._profiles.active

    @property
    def leases(self) -> list[dict[str, Any]]:
        """The leases in force, as the controller is told of them."""
        return self._leases.as_json()

    # --- its life -----------------------------------------------------------------------------------------------------

    def start(self, url: str, token_file: Path | str, *, agent_id: str) -> None:
        """Ask the remediation service at *url* for commands from now on. ValueError for a URL that cannot be one.

        *agent_id* names this instance across its restarts: "companion@127.0.0.1:9464".
        """
        # Some 70 ms that only an agent that starts needs. Nothing is left for its threads to import, in a request or in
        # an action: a fork in the middle of an import leaves the child waiting for it for ever.
        import ctypes  # noqa: F401, PLC0415
        import encodings.idna  # noqa: F401, PLC0415
        import netrc  # noqa: F401, PLC0415

        from llmvitals.agent import _memory_trace, _profiler  # noqa: F401, PLC0415
        from llmvitals.agent._http import Controller  # noqa: PLC0415

        if not agent_id.isprintable() or not 0 < len(agent_id) <= MAX_ID:
            raise ValueError(f"agent id {agent_id!r} must be 1 to {MAX_ID} printable characters")
        with self._lock:
            if self._threads is not None:
                raise RuntimeError("the agent is started already")
            self._agent_id = agent_id
            self._builtins.stopping.clear()
            _agents.add(self)
            if self._stale_info is not None:
                self._recorder.forget(catalogue.AGENT_INFO, *self._stale_info)
                self._stale_info = None
            # One session a thread: a result must not wait for the end of a poll.
            polling, telling = Controller(url, token_file), Controller(url, token_file)
            teller = Teller(
                self._recorder, telling, self._results, self._clock, agent_id=agent_id, boot_id=self.boot_id
            )
            self._worker = self._make_worker(teller.tell)
            poller = Poller(
                self._recorder,
                self._clock,
                controller=polling,
                worker=self._worker,
                teller=teller,
                hello=self.hello,
            )
            self._threads = _Threads(poller, self._worker, Keeper(self._leases, self._clock), (polling, telling))
            self._recorder.child(catalogue.AGENT_INFO, agent_id, self.boot_id, self._service).set(1)
            self._recorder.child(catalogue.TUNABLE_LEASES).set(0)
            self._threads.start()

    def close(self) -> None:
        """Stop asking, let the running action end (5 s at most), and put back whatever is leased."""
        with self._lock:
            threads, self._threads = self._threads, None
        self._builtins.stopping.set()
        if threads is not None:
            threads.stop()
            self._recorder.forget(catalogue.AGENT_INFO, self._agent_id, self.boot_id, self._service)
        if len(self._leases):
            # In a thread: a setter that hangs must not keep the application from ending.
            closing = threading.Thread(target=self._leases.close, name="llmvitals-close", daemon=True)
            closing.start()
            closing.join(_CLOSE_SECONDS)
            if closing.is_alive():
                log.error("llmvitals: a tunable's setter hangs; its leased value was not put back")
        _agents.discard(self)

    def hello(self) -> dict[str, Any]:
        """What a poll says of this process, but for how long it waits."""
        return {
            "protocol": PROTOCOL_VERSION,
            "agent_id": self._agent_id,
            "boot_id": self.boot_id,
            "service": self._service,
            "pid": os.getpid(),
            "started_at": self._started_at,
            "actions": [action.as_json() for action in self._actions.all()],
            "tunables": [tunable.as_json() for tunable in self._tunables.all()],
            "profiles": self._profiles.as_json(),
            "active_profile": self._profiles.active,
            "leases": self._leases.as_json(),
        }

    def obey(self, command: Command | Malformed) -> Result | None:
        """Judge and carry out one command here and now, as the threads would: for tests, which start none."""
        self._worker.receive(command)
        self._worker.run_waiting()
        return self._results.get(command.attempt_id)

    def end_due_leases(self) -> None:
        """Put back the leases whose time is over, as the keeper's thread would: for tests with a clock of their own."""
        self._leases.end_due()

    def _after_fork(self) -> None:
        """In the child: another process, so another boot id, no threads, no results. It asks for commands only when it
        is started there. Leases are kept, because their values came along.
        """
        had_threads, self._threads = self._threads is not None, None
        self._lock = threading.Lock()
        self._tunables.after_fork()
        self._profiles.after_fork()
        self._leases.after_fork()
        self._actions.after_fork()
        self._builtins.stopping = threading.Event()
        if had_threads:
            # Taken off the metrics when the child starts: here another thread may have left the recorder locked.
            self._stale_info = (self._agent_id, self.boot_id, self._service)
        self._started_at = time.time()
        self._begin()
        if len(self._leases):
            Keeper(self._leases, self._clock).start()


class _Threads:
    """The three threads of a started agent, and what they talk through."""

    def __init__(self, poller: Poller, worker: Worker, keeper: Keeper, controllers: "tuple[Controller, ...]") -> None:
        self._poller = poller
        self._worker = worker
        self._keeper = keeper
        self._controllers = controllers

    def start(self) -> None:
        self._keeper.start()
        self._worker.start()
        self._poller.start()

    def stop(self) -> None:
        self._poller.stop()
        self._worker.stop(_CLOSE_SECONDS)
        self._keeper.stop()
        for controller in self._controllers:
            controller.interrupt()
            controller.close()


_agents: weakref.WeakSet[Agent] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for agent in list(_agents):
        agent._after_fork()  # noqa: SLF001 -- the same module


if hasattr(os, "register_at_fork"):  # Not on Windows.
    os.register_at_fork(after_in_child=_after_fork_in_child)
