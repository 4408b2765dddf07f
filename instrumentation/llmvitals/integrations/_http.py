"""What all HTTP clients have in common: a request's duration, and the state of their pools."""

import threading
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from sys import modules
from time import perf_counter
from typing import Any

from llmvitals import catalogue
from llmvitals._recording import Recorder, error_type
from llmvitals._traces import OPENTELEMETRY, current_trace, exemplify
from llmvitals.integrations._session import Session

_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})


def method_label(method: str) -> str:
    """The method, or ``_OTHER`` for one that OpenTelemetry does not know: anybody may invent one."""
    return method if method in _METHODS else "_OTHER"


def status_error(status: int | None, error: BaseException | None, *, errors_from: int = 400) -> str:
    """Name the error of an exchange for a label: its exception's class, or a status from *errors_from* on."""
    if error is not None:
        return error_type(error)
    return str(status) if status is not None and status >= errors_from else ""


# The errors of httpx, httpx2 and urllib3.
_PHASES = {
    "ConnectTimeout": "connect", "ConnectTimeoutError": "connect", "EmptyPoolError": "pool", "PoolTimeout": "pool",
    "ReadTimeout": "read", "ReadTimeoutError": "read", "WriteTimeout": "write",
}  # fmt: skip


def record_timeout(recorder: Recorder, pool: str, error: BaseException) -> None:
    """Record what a request waited for, if *error* says that it waited too long."""
    phase = _PHASES.get(type(error).__name__)
    if phase is not None:
        recorder.child(catalogue.POOL_TIMEOUTS, pool, phase).inc()


def record_request(
    recorder: Recorder,
    started: float,
    method: str,
    host: str,
    port: int | str,
    *,
    status: int | None = None,
    error: BaseException | None = None,
) -> None:
    """Record a request of a client, sent at *started*, that brought *status* or *error*."""
    seconds = perf_counter() - started
    duration = recorder.child(
        catalogue.HTTP_CLIENT_DURATION,
        method_label(method),
        host,
        str(port),
        "" if status is None else str(status),
        status_error(status, error),
    )
    duration.observe(seconds)
    if OPENTELEMETRY in modules:
        # Where a client's request ends is where it began: in the function that sent it.
        exemplify(duration, seconds, current_trace())


@dataclass(slots=True)
class Reading:
    """What the pools of one library hold at a moment."""

    used: int = 0
    idle: int = 0
    limit: int = 0
    """How many there may be, all pools together; means nothing when one is `unlimited`."""

    unlimited: bool = False

    pending: int = 0
    """Requests that wait for a connection."""

    hosts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Connections by state (active, idle), host and port."""

    def connection(self, host: str, port: int | str, *, idle: bool) -> None:
        self.idle += idle
        self.used += not idle
        self.hosts["idle" if idle else "active", host, str(port)] += 1


# Two libraries may talk to one host, and share its series then.
_open: "weakref.WeakKeyDictionary[Recorder, dict[str, Counter[tuple[str, str, str]]]]" = weakref.WeakKeyDictionary()


class ClientPools:
    """The pools of one library's clients that have been used, read whenever they are scraped.

    All pools of a library are one ``pool`` here, because a client has no name; where they lead to is told by host.
    """

    def __init__(self, session: Session, read: Callable[[Any, Reading], None], *, tells_pending: bool) -> None:
        """*read* adds one owner's pool to a `Reading`; *tells_pending* is whether it knows who waits."""
        self.library = session.library
        self._session = session
        self._tells_pending = tells_pending
        self._read = read
        self._owners: weakref.WeakSet[Any] = weakref.WeakSet()
        self._recorders: weakref.WeakSet[Recorder] = weakref.WeakSet()
        self._lock = threading.Lock()
        session.undo_with(self._forget)

    def saw(self, recorder: Recorder, owner: Any) -> None:
        """Keep an eye on what *owner* has pooled, as long as somebody else holds it."""
        if owner in self._owners and recorder in self._recorders:
            return
        with self._lock:
            self._owners.add(owner)
            self._recorders.add(recorder)
        self._session.look_at_scrape(recorder, self._look)
        self._look(recorder)

    def _look(self, recorder: Recorder) -> None:
        with self._lock:
            owners = list(self._owners)
        reading = Reading()
        for owner in owners:
            self._read(owner, reading)
        library, child = self.library, recorder.child
        child(catalogue.POOL_CONNECTIONS, library, "used").set(reading.used)
        child(catalogue.POOL_CONNECTIONS, library, "idle").set(reading.idle)
        if reading.limit and not reading.unlimited:
            child(catalogue.POOL_MAX_CONNECTIONS, library).set(reading.limit)
        else:
            recorder.forget(catalogue.POOL_MAX_CONNECTIONS, library)
        if self._tells_pending:
            child(catalogue.POOL_PENDING_REQUESTS, library).set(reading.pending)
        self._show_hosts(recorder, reading.hosts)

    def _show_hosts(self, recorder: Recorder, hosts: Counter[tuple[str, str, str]]) -> None:
        with _hosts_lock:
            libraries = _open.setdefault(recorder, {})
            before: Counter[tuple[str, str, str]] = sum(libraries.values(), Counter())
            libraries[self.library] = hosts
            now: Counter[tuple[str, str, str]] = sum(libraries.values(), Counter())
            for labels in before.keys() - now.keys():
                recorder.forget(catalogue.HTTP_CLIENT_OPEN, *labels)
            for labels, count in now.items():
                recorder.child(catalogue.HTTP_CLIENT_OPEN, *labels).set(count)

    def _forget(self) -> None:
        library = self.library
        for recorder in list(self._recorders):
            for state in ("used", "idle"):
                recorder.forget(catalogue.POOL_CONNECTIONS, library, state)
            recorder.forget(catalogue.POOL_MAX_CONNECTIONS, library)
            recorder.forget(catalogue.POOL_PENDING_REQUESTS, library)
            self._show_hosts(recorder, Counter())


_hosts_lock = threading.Lock()
