"""Changes that end by themselves.

A lease puts values on tunables and remembers what was there. Unless it is confirmed in time, or renewed, the
application itself puts the old values back, whether or not anybody can still be reached. Leases on one tunable lie on
top of each other (`Layers`): they may end in any order, and when the last one has ended the tunable has the very value
that it had before the first.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

from llmvitals import catalogue
from llmvitals._recording import Recorder
from llmvitals.agent._clock import Clock
from llmvitals.agent._layers import Layers
from llmvitals.agent._profiles import Profiles
from llmvitals.agent._protocol import cut
from llmvitals.agent._tunables import Tunable, Tunables

log = logging.getLogger("llmvitals")

LEAST_SECONDS = 1.0
MOST_SECONDS = 86_400.0
_ENDED_KEPT = 256
_LONGEST_RETRY_SECONDS = 30.0

How = Literal["expired", "reverted", "closed", "failed", "confirmed"]


class LeaseError(Exception):
    """The lease is not there, or no longer in a state in which that can be done."""


@dataclass(slots=True, eq=False)
class Lease:
    lease_id: str
    values: Mapping[str, Any]
    profile: str | None
    expires_at: float
    deadline: float
    # "active" → "ending" → gone; an end whose setters raise comes back as "stuck" and is tried again at `deadline`.
    state: Literal["active", "ending", "stuck"] = "active"
    how: How = "expired"
    tries: int = 0
    # What each tunable was, for the answer: not what is put back, which may be another lease's value.
    before: dict[str, Any] = field(default_factory=dict)


class Leases:
    """Grants, confirms, renews, reverts. Thread-safe; nothing here starts a thread.

    `end_due` must be called at `next_deadline`: by `Keeper`, or by a test with a clock of its own. A setter that hangs
    holds up its own tunable only.
    """

    def __init__(self, recorder: Recorder, tunables: Tunables, profiles: Profiles, clock: Clock) -> None:
        self._recorder = recorder
        self._tunables = tunables
        self._profiles = profiles
        self._clock = clock
        self._leases: dict[str, Lease] = {}
        self._ended: OrderedDict[str, How] = OrderedDict()
        self._lock = threading.Lock()
        self.changed = threading.Event()

    # --- what commands do ---------------------------------------------------------------------------------------------

    def grant(self, lease_id: str, values: Mapping[str, Any], seconds: float, *, profile: str | None = None) -> Lease:
        """Set checked *values* for *seconds*. When one setter raises, all are put back, and its error is raised."""
        now = self._clock.monotonic()
        lease = Lease(lease_id, dict(values), profile, self._clock.wall() + seconds, now + seconds)
        with self._lock:
            if lease_id in self._leases or lease_id in self._ended:
                raise LeaseError(f"lease {lease_id!r} was granted before")
            self._leases[lease_id] = lease
        # From here on the lease ends by itself, even if a setter below never returns.
        self._tell()
        try:
            for name in lease.values:
                self._put(lease, name)
        except BaseException as error:
            if self._claim(lease, "failed"):
                for trouble in self._finish(lease):
                    error.add_note(f"and putting back failed: {trouble}")
            raise
        with self._lock:
            if lease.state != "active":
                raise LeaseError(f"lease {lease_id!r} ended while its values were being set; they are put back")
            if profile is not None:
                self._profiles.put(lease_id, profile)
        return lease

    def confirm(self, lease_id: str) -> None:
        """Keep the values for good. What other leases hold on top stays on top, and now ends on these values."""
        with self._lock:
            if self._ended.get(lease_id) == "confirmed":
                return
            lease = self._in_force(lease_id)
        with ExitStack() as stack:
            # All or none: in the order of their names, so that two confirmations cannot wait for each other.
            held = [self._tunables.get(name) for name in sorted(lease.values)]
            for tunable in held:
                if tunable is not None:
                    stack.enter_context(tunable.changing())
            with self._lock:
                self._in_force(lease_id)
                for tunable in held:
                    if tunable is not None and tunable.layers is not None:
                        tunable.layers.confirm(lease_id)
                        _forget_if_bare(tunable)
                self._profiles.confirm(lease_id)
                self._bury(lease, "confirmed")
        self._tell()

    def renew(self, lease_id: str, seconds: float) -> Lease:
        """Let the lease end *seconds* from now."""
        with self._lock:
            lease = self._in_force(lease_id)
            lease.expires_at = self._clock.wall() + seconds
            lease.deadline = self._clock.monotonic() + seconds
        self._tell()
        return lease

    def revert(self, lease_id: str) -> How:
        """End the lease now and say how it ended: "reverted", or how it had ended before. Raises `LeaseError` when it
        was confirmed (there is nothing to put back), is unknown, or cannot be put back yet.
        """
        with self._lock:
            ended = self._ended.get(lease_id)
            lease = self._leases.get(lease_id)
        if ended == "confirmed":
            raise LeaseError(f"lease {lease_id!r} was confirmed: its values are the application's own now")
        if ended is not None:
            return ended
        if lease is None:
            raise LeaseError(f"there is no lease {lease_id!r} in this process")
        if not self._claim(lease, "reverted"):
            raise LeaseError(f"lease {lease_id!r} is being put back already")
        troubles = self._finish(lease)
        if troubles:
            raise LeaseError("; ".join(troubles) + "; this is tried again until it succeeds")
        return "reverted"

    # --- what time does -----------------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """The monotonic time at which `claim_due` has something to do."""
        with self._lock:
            return min((lease.deadline for lease in self._leases.values() if lease.state != "ending"), default=None)

    def claim_due(self) -> list[Lease]:
        """Leases whose time is over, each given out once, to be passed to `end`."""
        now = self._clock.monotonic()
        with self._lock:
            due = [lease for lease in self._leases.values() if lease.state != "ending" and lease.deadline <= now]
            for lease in due:
                lease.state = "ending"
        return due

    def end(self, lease: Lease) -> None:
        """Put back what a claimed lease changed. Never raises: what fails is logged and tried again."""
        self._finish(lease)

    def end_due(self) -> None:
        for lease in self.claim_due():
            self.end(lease)

    def close(self) -> None:
        """Put everything back, the newest lease first."""
        with self._lock:
            leases = list(self._leases.values())
        for lease in reversed(leases):
            if self._claim(lease, "closed"):
                self._finish(lease)

    # --- what others see ----------------------------------------------------------------------------------------------

    def as_json(self) -> list[dict[str, Any]]:
        with self._lock:
            return [
                {"lease_id": lease.lease_id, "values": dict(lease.values), "expires_at": lease.expires_at}
                for lease in self._leases.values()
            ]

    def __len__(self) -> int:
        with self._lock:
            return len(self._leases)

    def after_fork(self) -> None:
        """The child has the leased values too, so it keeps the leases; the locks may be held by threads it lacks."""
        self._lock = threading.Lock()
        self.changed = threading.Event()
        for lease in self._leases.values():
            # Whoever was ending it is not here any more.
            lease.state = "stuck" if lease.state == "ending" else lease.state

    # --- one tunable --------------------------------------------------------------------------------------------------

    def _put(self, lease: Lease, name: str) -> None:
        tunable = self._tunables.get(name)
        if tunable is None:
            raise LeaseError(f"there is no tunable {name!r}")
        with tunable.changing():
            if lease.state != "active":
                raise LeaseError(f"lease {lease.lease_id!r} ended before tunable {name!r} was set")
            lease.before[name] = before = tunable.get()
            if tunable.layers is None:
                tunable.layers = Layers(before)
            # Laid before it is set: a setter that raises half-way is put back by the same path as any other.
            tunable.layers.put(lease.lease_id, lease.values[name])
            tunable.set(lease.values[name])

    def _take(self, lease: Lease, tunable: Tunable) -> None:
        with tunable.changing():
            layers = tunable.layers
            if layers is None or not layers.holds(lease.lease_id):
                return
            if layers.leased[-1][0] == lease.lease_id:
                tunable.set(layers.without(lease.lease_id))
            layers.remove(lease.lease_id)
            _forget_if_bare(tunable)

    # --- one lease ----------------------------------------------------------------------------------------------------

    def _claim(self, lease: Lease, how: How) -> bool:
        with self._lock:
            if lease.state == "ending" or lease.lease_id not in self._leases:
                return False
            lease.state, lease.how = "ending", how
            return True

    def _finish(self, lease: Lease) -> list[str]:
        """Put back a claimed lease, the last change first; what went wrong comes back as texts, and is tried again."""
        troubles = []
        for name in reversed(list(lease.values)):
            tunable = self._tunables.get(name)
            try:
                if tunable is not None:
                    self._take(lease, tunable)
            except Exception as error:  # noqa: BLE001 -- the application's setter; the rest must still be put back
                self._recorder.fault("leases", error, f"tunable {name!r} keeps its leased value until a retry succeeds")
                troubles.append(cut(f"tunable {name!r}: {type(error).__name__}: {error}", 500))
        with self._lock:
            if troubles:
                lease.tries += 1
                lease.deadline = self._clock.monotonic() + min(2.0 ** (lease.tries - 1), _LONGEST_RETRY_SECONDS)
                lease.state = "stuck"
            else:
                self._profiles.remove(lease.lease_id)
                self._bury(lease, lease.how)
        self._tell()
        if not troubles:
            log.info(
                "llmvitals: lease %s %s; old values are back: %s", lease.lease_id, lease.how, ", ".join(lease.values)
            )
        return troubles

    def _in_force(self, lease_id: str) -> Lease:
        lease = self._leases.get(lease_id)
        if lease is not None and lease.state == "active" and self._clock.monotonic() < lease.deadline:
            return lease
        ended = self._ended.get(lease_id)
        if ended is not None:
            raise LeaseError(f"lease {lease_id!r} is over: {ended}")
        if lease is None:
            raise LeaseError(f"there is no lease {lease_id!r} in this process")
        raise LeaseError(f"lease {lease_id!r} is over: its values are being put back")

    def _bury(self, lease: Lease, how: How) -> None:
        del self._leases[lease.lease_id]
        self._ended[lease.lease_id] = how
        while len(self._ended) > _ENDED_KEPT:
            self._ended.popitem(last=False)

    def _tell(self) -> None:
        self._recorder.child(catalogue.TUNABLE_LEASES).set(len(self))
        self.changed.set()


def _forget_if_bare(tunable: Tunable) -> None:
    if tunable.layers is not None and not tunable.layers.leased:
        tunable.layers = None


class Keeper:
    """The thread that ends leases in time. Each end gets a thread of its own: a setter that hangs delays no other."""

    def __init__(self, leases: Leases, clock: Clock) -> None:
        self._leases = leases
        self._clock = clock
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="llmvitals-leases", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped = True
        self._leases.changed.set()
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        while not self._stopped:
            self._leases.changed.clear()
            for lease in self._leases.claim_due():
                threading.Thread(
                    target=self._leases.end, args=(lease,), name=f"llmvitals-lease-{lease.lease_id}", daemon=True
                ).start()
            deadline = self._leases.next_deadline()
            self._leases.changed.wait(None if deadline is None else max(deadline - self._clock.monotonic(), 0.0))
