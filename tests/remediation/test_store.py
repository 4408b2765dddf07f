"""What is acknowledged is kept; one process writes; the log cannot be changed in silence."""

import sqlite3
import threading
import time

import pytest
from tests.remediation.world import webhook

from llmvitals_remediation.clock import ManualClock
from llmvitals_remediation.errors import ConflictError, NotJSONError, SchemaError, StoreUnavailableError
from llmvitals_remediation.records import Change, Opening
from llmvitals_remediation.store import Store, _schema


@pytest.fixture(name="path")
def _path(tmp_path):
    return tmp_path / "remediation.db"


@pytest.fixture(name="store")
def _store(path):
    store = Store.open(path, ManualClock())
    yield store
    store.close()


def alert(name="A", **labels):
    return {
        "status": "firing",
        "labels": {"alertname": name, "job": "j", "instance": "i", **labels},
        "annotations": {},
        "startsAt": "2026-11-01T00:00:00Z",
        "endsAt": "0001-01-01T00:00:00Z",
    }


def opening(fingerprint="f", target="i", starts_at=1.0):
    return Opening(
        handler="h",
        service="j",
        instance=target,
        fingerprint=fingerprint,
        starts_at=starts_at,
        labels={"alertname": "A"},
        annotations={},
        received_at=1.0,
        cooldown_seconds=300,
        deadline_seconds=60,
        policy_hash="p",
        source="webhook",
    )


def test_a_delivery_is_accepted_once_and_a_duplicate_afterwards(store):
    """The same alert in another group, or with other words around it, is the same alert."""
    first = store.accept(webhook(alert()), received_at=1.0)
    second = store.accept(webhook(alert(), groupKey="other"), received_at=2.0)
    mixed = store.accept(webhook(alert(), alert("B")), received_at=3.0)

    assert ["accepted", "duplicate", "accepted"] == [first.result, second.result, mixed.result]
    assert 2 == len(store.events())


def test_a_resolution_is_news(store):
    """It has another status and another end."""
    store.accept(webhook(alert()), received_at=1.0)
    over = store.accept(webhook({**alert(), "status": "resolved", "endsAt": "2026-11-01T00:05:00Z"}), received_at=2.0)

    assert "accepted" == over.result


def test_what_is_odd_is_set_aside_with_its_reason_in_the_log(store):
    """Told, and kept for a person."""
    receipt = store.accept(webhook(alert(), version="5"), received_at=1.0)

    assert ("quarantined", 0) == (receipt.result, receipt.alerts)
    assert 'is "5", not' in receipt.reason
    assert ["set_aside"] == [row["event"] for row in store.audit()]


def test_what_is_not_json_leaves_no_row(store):
    """Nothing to keep."""
    with pytest.raises(NotJSONError):
        store.accept(b"no", received_at=1.0)
    assert [] == store.events()


def test_a_hundred_at_once_are_one_alert(store):
    """One event, ninety-nine duplicates, whatever the order of the threads."""
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(store.accept(webhook(alert()), received_at=1.0).result))
        for _ in range(100)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (1, 99) == (results.count("accepted"), results.count("duplicate"))
    assert 1 == len(store.events())


def test_a_closure_that_fails_takes_nothing_else_with_it(store):
    """Each has its own savepoint inside the shared commit."""
    gate = threading.Event()
    store._writer._queue.put((lambda connection: gate.wait(5), __import__("concurrent.futures").futures.Future()))
    outcomes = []

    def good():
        outcomes.append(store.accept(webhook(alert()), received_at=1.0).result)

    def bad():
        try:
            store.change("nothing", ("open",), Change("x", "gated"))
        except ConflictError:
            outcomes.append("conflict")

    threads = [threading.Thread(target=good), threading.Thread(target=bad)]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join()

    assert {"accepted", "conflict"} == set(outcomes)
    assert 1 == len(store.events())


def test_one_active_incident_per_handler_and_target_is_the_databases_own_rule(store, path):
    """Even for code that forgets to look."""
    assert [("opened", "attached")] == [tuple(what for what, _ in store.triage([], [opening(), opening("g")], []))]
    other = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError):
        other.execute(
            "INSERT INTO incidents SELECT 'x', "
            + ", ".join(row[1] for row in other.execute("PRAGMA table_info(incidents)").fetchall()[1:])
            + " FROM incidents"
        )
    other.rollback()
    other.close()


def test_the_audit_log_cannot_be_changed_and_shows_when_it_was(store, path):
    """Triggers refuse; who goes around them breaks the chain."""
    store.note("first", n=1)
    store.note("second", n=2)
    other = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        other.execute("UPDATE audit SET who = 'me'")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        other.execute("DELETE FROM audit")
    other.rollback()
    assert store.audit_break() is None
    other.execute("DROP TRIGGER audit_keeps_text")
    other.execute("UPDATE audit SET detail = '{}' WHERE seq = 1")
    other.commit()
    other.close()

    assert 1 == store.audit_break()


def test_a_database_of_a_newer_program_is_refused(path):
    """A downgrade would misread it."""
    store = Store.open(path, ManualClock())
    store.close()
    other = sqlite3.connect(path)
    other.execute(f"PRAGMA user_version = {_schema.VERSION + 1}")
    other.close()

    with pytest.raises(SchemaError, match="newer program"):
        Store.open(path, ManualClock())


def test_a_file_that_is_no_database_is_refused_with_a_reason(path):
    """And nobody's file is overwritten."""
    path.write_bytes(b"precious" * 1000)
    with pytest.raises(StoreUnavailableError, match="cannot be opened as a database"):
        Store.open(path, ManualClock())
    assert path.read_bytes().startswith(b"precious")


def test_it_is_ready_until_it_cannot_write(store):
    """A full disk is said, nothing is acknowledged, and it recovers by itself."""
    assert store.ready() is None
    (pages,) = store._read(lambda c: c.execute("PRAGMA page_count").fetchone())
    store._write(lambda c: c.execute(f"PRAGMA max_page_count = {pages}").fetchone())
    # More than what may be left in the last page.
    many = webhook(*[alert(str(number), long="x" * 4000) for number in range(20)])
    with pytest.raises(StoreUnavailableError, match="full"):
        store.accept(many, received_at=1.0)
    kept = len(store.events(1000))
    store._write(lambda c: c.execute("PRAGMA max_page_count = 1000000").fetchone())
    accepted = store.accept(webhook(alert("after")), received_at=1.0).result

    assert store.ready() is None
    assert "accepted" == accepted
    assert kept + 1 == len(store.events(1000))


def test_it_is_durable_by_its_settings(store):
    """WAL and FULL, said aloud, and the file is for its owner only."""
    settings = store._write(
        lambda c: [
            c.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    )

    assert ["wal", 2, 1] == settings
    assert 0o600 == store._path.stat().st_mode & 0o777


def test_a_closed_store_says_so(path):
    """Not a traceback from the database's innards."""
    store = Store.open(path, ManualClock())
    store.close()
    store.close()

    with pytest.raises(StoreUnavailableError):
        store.accept(webhook(alert()), received_at=1.0)
    with pytest.raises(StoreUnavailableError):
        store.incidents()
    assert store.ready() is not None


def test_incidents_are_listed_by_state_and_handler(store):
    """As the API asks."""
    store.triage([], [opening(), opening("g", "other")], [])
    first = store.incidents()[0]["id"]
    store.change(first, ("open",), Change("c", "closed", outcome="self_resolved"))

    assert 1 == len(store.incidents(state="closed"))
    assert 1 == len(store.incidents(state="open")) == len(store.incidents(state="active"))
    assert [] == store.incidents(handler="none")
    assert 1 == len(store.incidents(limit=1))
    assert store.incident("none") is None


def test_a_hundred_thousand_closed_incidents_do_not_slow_the_start(path):
    """Ready within five seconds, and the engine's questions stay quick."""
    store = Store.open(path, ManualClock())
    store._write(
        lambda c: (
            c.execute(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)"
                " INSERT INTO incidents (id, handler, target, service, instance, alertname, state, outcome,"
                " alert_started_at, received_at, opened_at, state_since, next_at, deadline_at, policy_hash, closed_at,"
                " attempts_used)"
                " SELECT i, 'h', 'j/' || (i % 50), 'j', i % 50, 'A', 'closed', 'remediated',"
                " i, i, i, i, i, i, 'p', i, 1"
                " FROM n"
            )
            and None
        ),
        timeout=60,
    )
    store.close()
    began = time.monotonic()
    store = Store.open(path, ManualClock())
    assert store.ready() is None
    store.triage([], [opening()], [])
    (incident,) = store.active()
    store.past(incident, relapse_seconds=14_400, storm_seconds=180)
    store.incidents()
    store.states()
    took = time.monotonic() - began
    store.close()

    assert took < 5
