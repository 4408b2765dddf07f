import logging
import random
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from llmvitals import catalogue
from llmvitals._recording import Recorder
from llmvitals.agent._clock import Clock
from llmvitals.agent._failures import ControllerError, NeverError, RefusedError, UnauthorizedError
from llmvitals.agent._protocol import ProtocolError, parse_commands
from llmvitals.agent._results import Results
from llmvitals.agent._worker import Worker

if TYPE_CHECKING:
    from llmvitals.agent._http import Controller

log = logging.getLogger("llmvitals")

WAIT_SECONDS = 20.0
# While what the application offers still changes (it has just started), the service should hear of it soon.
SETTLING_SECONDS = 10.0
SETTLING_WAIT_SECONDS = 1.0
LONGEST_BACKOFF_SECONDS = 30.0
# Nobody listening on this machine is told at once and costs nothing.
LONGEST_REFUSED_BACKOFF_SECONDS = 5.0
# A service that answers an empty poll at once must not be asked in a tight loop.
LEAST_ROUND_SECONDS = 0.25


def backoff_seconds(failures: int, error: ControllerError, *, loopback: bool, dice: Callable[[], float]) -> float:
    """How long to stay away after that many failures in a row; *dice* gives 0 to 1."""
    if isinstance(error, UnauthorizedError):
        longest, exponent = LONGEST_BACKOFF_SECONDS, 16
    elif loopback and isinstance(error, RefusedError):
        longest, exponent = LONGEST_REFUSED_BACKOFF_SECONDS, failures - 1
    else:
        longest, exponent = LONGEST_BACKOFF_SECONDS, failures - 1
    # Half fixed, half by chance: a fleet that lost its controller at once does not come back at once.
    return min(2.0 ** min(exponent, 16), longest) * (0.5 + 0.5 * dice())


class Teller:
    """Sends results until they are acknowledged. Thread-safe: the worker tells at once, the poller what is left.

    One that the service will never take is dropped: sent for ever, it would only be refused for ever.
    """

    def __init__(
        self,
        recorder: Recorder,
        controller: "Controller",
        results: Results,
        clock: Clock,
        *,
        agent_id: str,
        boot_id: str,
    ) -> None:
        self._recorder = recorder
        self._controller = controller
        self._results = results
        self._clock = clock
        self._agent_id = agent_id
        self._boot_id = boot_id
        self._failing = False
        self._lock = threading.Lock()

    def tell(self, *, all_of_them: bool = False) -> None:
        """One try for each result that is due, or for all that are not acknowledged. Never raises."""
        with self._lock:
            for result in self._results.to_tell(float("inf") if all_of_them else self._clock.monotonic()):
                try:
                    self._controller.send(result, agent_id=self._agent_id, boot_id=self._boot_id)
                except NeverError as error:
                    self._recorder.fault(
                        "agent", error, f"the result of {result.verb} ({result.attempt_id}) is dropped"
                    )
                    self._results.acknowledge(result.attempt_id)
                except ControllerError as error:
                    self._results.postpone(result.attempt_id, self._clock.monotonic())
                    if not self._failing:
                        log.warning("llmvitals: a command's result is not taken, and is sent again: %s", error)
                    self._failing = True
                else:
                    self._results.acknowledge(result.attempt_id)
                    self._failing = False

    def next_try(self) -> float | None:
        return self._results.next_try()


class Poller:
    """The thread that asks for commands, for ever. It never acts: a command goes to the worker."""

    def __init__(
        self,
        recorder: Recorder,
        clock: Clock,
        *,
        controller: "Controller",
        worker: Worker,
        teller: Teller,
        hello: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._recorder = recorder
        self._controller = controller
        self._worker = worker
        self._teller = teller
        self._clock = clock
        self._hello = hello
        self._offered: object = None
        self._settled_at = 0.0
        self._failures = 0
        self._told: set[str] = set()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="llmvitals-poller", daemon=True)

    def start(self) -> None:
        self._connected(0)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        for _ in range(20):
            # Again, for a request that was only about to begin.
            self._controller.interrupt()
            self._thread.join(timeout=0.1)
            if not self._thread.is_alive():
                break

    def _run(self) -> None:
        while not self._stopped.is_set():
            started = self._clock.monotonic()
            try:
                commands = self._round()
            except ControllerError as error:
                self._stay_away(error)
            except Exception as error:  # noqa: BLE001 -- this thread must outlive whatever the application's getters do
                self._recorder.fault("agent", error)
                self._stopped.wait(1.0)
            else:
                if not commands and self._clock.monotonic() - started < LEAST_ROUND_SECONDS:
                    self._stopped.wait(LEAST_ROUND_SECONDS)
        self._connected(0)

    def _round(self) -> int:
        self._worker.refuse_expired()
        # After failures this is the first contact in a while: what was done meanwhile is told before anything new.
        self._teller.tell(all_of_them=self._failures > 0)
        hello = self._hello()
        wait_seconds = self._wait_seconds(hello)
        body = self._controller.poll({**hello, "wait_seconds": wait_seconds}, wait_seconds=wait_seconds)
        if self._stopped.is_set():
            return 0
        try:
            commands = parse_commands(body)
        except ProtocolError as error:
            raise ControllerError(f"the remediation service does not speak this protocol: {error}") from error
        self._reached()
        for command in commands:
            self._worker.receive(command)
        return len(commands)

    def _wait_seconds(self, hello: Mapping[str, Any]) -> float:
        offered = [hello[key] for key in ("actions", "profiles")] + [[tunable["name"] for tunable in hello["tunables"]]]
        now = self._clock.monotonic()
        if offered != self._offered:
            self._offered, self._settled_at = offered, now + SETTLING_SECONDS
        wait_seconds = SETTLING_WAIT_SECONDS if now < self._settled_at else WAIT_SECONDS
        next_try = self._teller.next_try()
        return wait_seconds if next_try is None else min(max(next_try - now, LEAST_ROUND_SECONDS), wait_seconds)

    def _reached(self) -> None:
        if self._failures or self._told:
            log.info("llmvitals: the agent reaches the remediation service again")
        self._failures = 0
        self._told.clear()
        self._connected(1)

    def _stay_away(self, error: ControllerError) -> None:
        if self._stopped.is_set():
            return
        self._failures += 1
        self._connected(0)
        kind = type(error).__name__
        if kind not in self._told:
            self._told.add(kind)
            log.warning("llmvitals: the agent gets no commands, and keeps trying: %s", error)
        dice = random.random
        self._stopped.wait(backoff_seconds(self._failures, error, loopback=self._controller.loopback, dice=dice))

    def _connected(self, value: int) -> None:
        self._recorder.child(catalogue.AGENT_CONNECTED).set(value)
