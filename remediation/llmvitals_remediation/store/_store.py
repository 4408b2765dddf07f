"""The store's face: one file, one writing process, many readers."""

import fcntl
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from llmvitals_remediation import crash, inbox
from llmvitals_remediation._metrics import Metrics
from llmvitals_remediation.clock import Clock
from llmvitals_remediation.errors import StoreLockedError, StoreUnavailableError
from llmvitals_remediation.records import (
    Attempt,
    Breaker,
    Change,
    Conclusion,
    Controls,
    Incident,
    KnownAlert,
    Opening,
    Past,
    Plan,
    Report,
    State,
)
from llmvitals_remediation.store import (
    _attempts,
    _audit,
    _controls,
    _deliveries,
    _history,
    _incidents,
    _reads,
    _schema,
)
from llmvitals_remediation.store._deliveries import Event, Receipt
from llmvitals_remediation.store._writer import Writer

T = TypeVar("T")

# Above this many unprocessed events the engine is far behind, and Alertmanager keeps the rest better than we would.
INBOX_HIGH_WATER = 50_000


class Store:
    """Everything that must survive. Methods block for the commit and may be called from any thread."""

    def __init__(self, path: Path, clock: Clock, lock: int, writer: Writer) -> None:
        self._path = path
        self._clock = clock
        self._lock = lock
        self._writer = writer
        self._readers: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        self._metrics: Metrics | None = None
        self._inbox_depth = 0
        self._closed = False
        # Set when Alertmanager cut a delivery short: the rest must be fetched. Start-up reconciles anyway.
        self.truncated = threading.Event()

    @classmethod
    def open(cls, path: Path, clock: Clock) -> Self:
        """Open, or make, the database at *path*.

        Raises:
            StoreLockedError: another process has it.
            SchemaError: a newer version wrote it.
            StoreUnavailableError: it cannot be opened or is damaged.
        """
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreUnavailableError(f"{path}: {error.strerror}") from error
        connection: sqlite3.Connection | None = None
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StoreLockedError(f"{path}: another remediation process has this database") from None
            try:
                if not path.exists():
                    path.touch(0o600)
                connection = _schema.connect(path)
                _schema.prepare(connection, path)
            except (sqlite3.Error, OSError) as error:
                raise StoreUnavailableError(f"{path}: cannot be opened as a database: {error}") from error
        except BaseException:
            if connection is not None:
                connection.close()
            os.close(lock)
            raise
        return cls(path, clock, lock, Writer(connection))

    def close(self) -> None:
        """Finish waiting writes and let go of the file."""
        if self._closed:
            return
        self._closed = True
        self._writer.close()
        while not self._readers.empty():
            self._readers.get_nowait().close()
        os.close(self._lock)

    def count_on(self, metrics: Metrics) -> None:
        """Count accepted, duplicate and quarantined deliveries there."""
        self._metrics = metrics

    # --- what comes in ------------------------------------------------------------------------------------------------

    def accept(self, body: bytes, *, received_at: float) -> Receipt:
        """Store a webhook's body; returns after the commit, which concurrent callers share.

        Raises:
            NotJSONError: it can never be right.
            StoreUnavailableError: not now; nothing was kept.
        """
        if self._inbox_depth > INBOX_HIGH_WATER:
            raise StoreUnavailableError(f"{self._inbox_depth} events wait to be processed")
        told = inbox.parse(body)
        packed = _deliveries.compress(body)
        delivery_id = _incidents.new_id()

        def work(connection: sqlite3.Connection) -> Receipt:
            receipt = _deliveries.accept(
                connection, delivery_id=delivery_id, body=packed, size=len(body), told=told, at=received_at
            )
            crash.point("before_commit")
            return receipt

        receipt = self._writer.run(work)
        crash.point("after_commit")
        if told.truncated:
            self.truncated.set()
        if self._metrics is not None:
            self._metrics.deliveries.labels(receipt.result).inc()
        return receipt

    def ready(self) -> str | None:
        """None when a write goes through, else the reason why not."""
        try:
            self._write(lambda c: _schema.probe(c, self._clock.now()), timeout=2.0)
        except StoreUnavailableError as error:
            return str(error)
        return None

    # --- what is shown ------------------------------------------------------------------------------------------------

    def incidents(
        self, *, state: str | None = None, handler: str | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        """Incidents as JSON, newest first; `state="active"` means all that are not closed."""
        return self._read(lambda c: _reads.incidents(c, state=state, handler=handler, limit=limit))

    def incident(self, incident_id: str) -> dict[str, Any] | None:
        """One incident as JSON, with its alerts, attempts, approval and timeline."""
        return self._read(lambda c: _reads.incident(c, incident_id))

    def incident_of_alert(self, told: str) -> str | None:
        """The id of the newest incident with the alert that has this fingerprint in Alertmanager."""
        return self._read(lambda c: _reads.incident_of_alert(c, told))

    def audit(self, limit: int = 200) -> list[dict[str, Any]]:
        """The audit log as JSON, newest first."""
        return self._read(lambda c: _reads.audit(c, limit))

    def audit_break(self) -> int | None:
        """The first row at which the audit log's chain of hashes is broken; None when it is whole."""
        return self._read(_audit.verify)

    # --- what the engine asks -----------------------------------------------------------------------------------------

    def events(self, limit: int = 500) -> list[Event]:
        return self._read(lambda c: _deliveries.unprocessed(c, limit))

    def inbox(self) -> tuple[int, float | None]:
        depth, oldest = self._read(_reads.inbox)
        self._inbox_depth = depth
        return depth, oldest

    def last_seen(self, alertname: str) -> float | None:
        return self._read(lambda c: _reads.last_seen(c, alertname))

    def knows(self, fingerprint: str, starts_at: float) -> bool:
        return self._read(lambda c: _deliveries.known(c, fingerprint, starts_at))

    def last_outcome(self, opening: Opening) -> str | None:
        """How the latest incident of the same episode of the same alert ended."""

        def query(connection: sqlite3.Connection) -> str | None:
            row = _incidents.last_of(connection, opening)
            return None if row is None else str(row["outcome"])

        return self._read(query)

    def active(self, *, due_at: float | None = None) -> list[Incident]:
        return self._read(lambda c: _incidents.active(c, due_at=due_at))

    def next_due(self) -> float | None:
        """When the next incident wants to be looked at."""
        return self._read(_incidents.next_due)

    def find(self, incident_id: str) -> Incident | None:
        return self._read(lambda c: _incidents.find(c, incident_id))

    def alerts(self, incident_id: str) -> list[KnownAlert]:
        return self._read(lambda c: _incidents.alerts(c, incident_id))

    def attempt(self, incident_id: str) -> Attempt | None:
        """The latest attempt of an incident."""
        return self._read(lambda c: _attempts.latest(c, incident_id))

    def controls(self) -> Controls:
        return self._read(_controls.read)

    def kill_switch(self) -> dict[str, Any]:
        """Whether it is engaged, and who last set it, why and when."""
        return self._read(_controls.kill_switch)

    def past(self, incident: Incident, *, relapse_seconds: float, storm_seconds: float) -> Past:
        return self._read(
            lambda c: _history.past(
                c,
                incident_id=incident.id,
                handler=incident.handler,
                service=incident.service,
                target=incident.target,
                alertname=incident.alertname,
                relapse_seconds=relapse_seconds,
                storm_seconds=storm_seconds,
                now=self._clock.now(),
            )
        )

    def states(self) -> Mapping[str, int]:
        return self._read(_incidents.states)

    def executing(self) -> int:
        return self._read(_attempts.executing)

    def breaker(self, handler: str, service: str) -> Breaker:
        return self._read(lambda c: _history.breaker(c, handler, service))

    def open_breakers(self) -> Mapping[tuple[str, str], bool]:
        return self._read(_history.open_breakers)

    def effectiveness(self) -> Mapping[str, tuple[int, int]]:
        return self._read(_history.effectiveness)

    # --- what the engine changes --------------------------------------------------------------------------------------

    def triage(
        self, event_ids: Sequence[int], openings: Sequence[Opening], over: Sequence[tuple[str, float]]
    ) -> list[tuple[str, str | None]]:
        """Look at events once: open or attach, note what is said to be over, and mark them, in one transaction."""

        def work(connection: sqlite3.Connection) -> list[tuple[str, str | None]]:
            now = self._clock.now()
            told = [_incidents.open_or_attach(connection, opening, now) for opening in openings]
            for fingerprint, starts_at in over:
                _incidents.note_resolved(connection, fingerprint, starts_at, now)
            _deliveries.mark_processed(connection, list(event_ids), now)
            return told

        return self._write(work)

    def change(self, incident_id: str, expected: tuple[State, ...], change: Change) -> None:
        """Take a step; raises `ConflictError` when the incident has moved on."""

        def work(connection: sqlite3.Connection) -> None:
            now = self._clock.now()
            _incidents.apply(connection, incident_id, expected, change, now)
            if change.state == "awaiting_approval" and change.deadline_at is not None:
                _controls.ask(connection, incident_id, change.deadline_at, now)
            if change.outcome == "expired":
                _controls.expire(connection, incident_id, now)

        self._write(work)

    def wake_waiting(self) -> None:
        """Have every waiting incident looked at now."""
        self._write(lambda c: _incidents.wake_waiting(c, self._clock.now()))

    def postpone(self, incident_id: str, next_at: float) -> None:
        self._write(lambda c: _incidents.postpone(c, incident_id, next_at))

    def watch(self, incident_id: str, *, next_at: float, healthy_since: float | None) -> None:
        """Go on verifying."""
        self._write(lambda c: _incidents.watch(c, incident_id, next_at, healthy_since))

    def hold(self, incident_id: str, *, next_at: float, quiet_since: float | None) -> None:
        """Go on holding."""
        self._write(lambda c: _incidents.hold(c, incident_id, next_at, quiet_since))

    def renewed(self, incident_id: str, renew_at: float) -> None:
        self._write(lambda c: _incidents.renewed(c, incident_id, renew_at))

    def begin(self, incident: Incident, plan: Plan) -> Attempt:
        """Make the intent durable; raises `ConflictError` when it may not be any more."""
        return self._write(lambda c: _attempts.begin(c, incident, plan, self._clock.now()))

    def next_fence(self) -> int:
        return self._write(_attempts.next_fence)

    def refence(self, attempt: Attempt, expires_at: float) -> Attempt:
        return self._write(lambda c: _attempts.refence(c, attempt.id, expires_at))

    def started(self, attempt: Attempt) -> None:
        self._write(lambda c: _attempts.started(c, attempt, self._clock.now()))

    def acted(self, attempt: Attempt, report: Report, change: Change) -> None:
        self._write(lambda c: _attempts.acted(c, attempt, report, change, self._clock.now()))

    def finish(self, attempt: Attempt, conclusion: Conclusion, change: Change) -> None:
        self._write(lambda c: _attempts.finish(c, attempt, conclusion, change, self._clock.now()))

    def set_control(self, key: str, value: str | None, *, who: str, why: str) -> None:
        self._write(lambda c: _controls.set_value(c, key, value, who=who, why=why, now=self._clock.now()))

    def decide(self, incident_id: str, decision: str, *, who: str, why: str, deadline_at: float) -> None:
        now = self._clock.now()
        self._write(
            lambda c: _controls.decide(c, incident_id, decision, who=who, why=why, deadline_at=deadline_at, now=now)
        )

    def note(self, event: str, *, who: str = "engine", incident_id: str | None = None, **detail: Any) -> None:
        """Write something into the audit log that changes no row."""
        self._write(
            lambda c: _audit.append(c, at=self._clock.now(), who=who, event=event, incident_id=incident_id, **detail)
        )

    def forget(self, *, bodies_days: float, events_days: float) -> None:
        """Drop what is past its retention."""
        now = self._clock.now()
        self._write(
            lambda c: _deliveries.forget(
                c, bodies_before=now - bodies_days * _history.DAY, events_before=now - events_days * _history.DAY
            )
        )

    # --- inside -------------------------------------------------------------------------------------------------------

    def _write(self, work: Callable[[sqlite3.Connection], T], *, timeout: float = 10.0) -> T:
        return self._writer.run(work, timeout=timeout)

    def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        with self._reader() as connection:
            try:
                # One snapshot for all the statements of a question.
                connection.execute("BEGIN")
                try:
                    return query(connection)
                finally:
                    connection.execute("COMMIT")
            except sqlite3.Error as error:
                raise StoreUnavailableError(f"the database cannot be read: {error}") from error

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        if self._closed:
            raise StoreUnavailableError("the store is closed")
        try:
            connection = self._readers.get_nowait()
        except queue.Empty:
            connection = _schema.connect(self._path, read_only=True)
        try:
            yield connection
        finally:
            if self._closed:
                connection.close()
            else:
                self._readers.put(connection)
