"""Tables, and how a database file becomes one of ours."""

import sqlite3
from pathlib import Path

from llmvitals_remediation.errors import SchemaError

VERSION = 1

_TABLES = """
CREATE TABLE meta (
  key TEXT PRIMARY KEY, value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE deliveries (
  id TEXT PRIMARY KEY,
  received_at REAL NOT NULL,
  result TEXT NOT NULL CHECK (result IN ('accepted', 'duplicate', 'quarantined')),
  reason TEXT,
  alerts INTEGER NOT NULL,
  size INTEGER NOT NULL,
  body BLOB                          -- zlib; NULL for a duplicate and after its retention
) STRICT;
CREATE INDEX deliveries_by_time ON deliveries (received_at);

CREATE TABLE alert_events (
  id INTEGER PRIMARY KEY,
  delivery_id TEXT NOT NULL REFERENCES deliveries (id),
  fingerprint TEXT NOT NULL,
  starts_at REAL NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('firing', 'resolved')),
  ends_at REAL NOT NULL,             -- 0 while it fires
  alertname TEXT NOT NULL,
  labels TEXT NOT NULL,
  annotations TEXT NOT NULL,
  first_seen REAL NOT NULL,
  last_seen REAL NOT NULL,
  seen INTEGER NOT NULL DEFAULT 1,
  processed_at REAL,
  UNIQUE (fingerprint, starts_at, status, ends_at)
) STRICT;
CREATE INDEX alert_events_unprocessed ON alert_events (id) WHERE processed_at IS NULL;
CREATE INDEX alert_events_by_name ON alert_events (alertname, last_seen);
CREATE INDEX alert_events_by_delivery ON alert_events (delivery_id);

CREATE TABLE incidents (
  id TEXT PRIMARY KEY,
  handler TEXT NOT NULL,
  target TEXT NOT NULL,              -- the key of "one active incident": service and instance as the alert names them
  service TEXT NOT NULL,
  instance TEXT NOT NULL,
  alertname TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN
    ('open', 'gated', 'awaiting_approval', 'scheduled', 'executing', 'verifying', 'holding', 'closed')),
  gate TEXT,                         -- the gate that holds it back
  reason TEXT,
  outcome TEXT CHECK (outcome IN
    ('remediated', 'self_resolved', 'exhausted', 'vetoed', 'expired', 'shadow', 'escalated')),
  spent INTEGER NOT NULL DEFAULT 0,  -- closed, and the same alert episode opens no other: people have it
  alert_started_at REAL NOT NULL,
  received_at REAL NOT NULL,
  opened_at REAL NOT NULL,
  state_since REAL NOT NULL,
  next_at REAL NOT NULL,
  deadline_at REAL NOT NULL,
  attempts_used INTEGER NOT NULL DEFAULT 0,
  duplicates INTEGER NOT NULL DEFAULT 0,
  healthy_since REAL,                -- verifying: since when the value is healthy without a break
  lease_id TEXT,                     -- the held change: the attempt that made it
  lease_renew_at REAL,
  quiet_since REAL,                  -- holding: since when the release condition holds
  released_at REAL,
  policy_hash TEXT NOT NULL,
  closed_at REAL,
  CHECK ((state = 'closed') = (outcome IS NOT NULL AND closed_at IS NOT NULL))
) STRICT;
CREATE UNIQUE INDEX incidents_one_active ON incidents (handler, target) WHERE state <> 'closed';
CREATE INDEX incidents_due ON incidents (next_at) WHERE state <> 'closed';
CREATE INDEX incidents_by_target ON incidents (handler, target, closed_at);
CREATE INDEX incidents_by_time ON incidents (opened_at);

CREATE TABLE incident_alerts (
  incident_id TEXT NOT NULL REFERENCES incidents (id),
  fingerprint TEXT NOT NULL,
  starts_at REAL NOT NULL,
  alertname TEXT NOT NULL,
  labels TEXT NOT NULL,
  annotations TEXT NOT NULL,
  first_seen REAL NOT NULL,
  last_seen REAL NOT NULL,
  seen INTEGER NOT NULL DEFAULT 1,
  resolved_at REAL,
  PRIMARY KEY (incident_id, fingerprint)
) STRICT, WITHOUT ROWID;
CREATE INDEX incident_alerts_by_episode ON incident_alerts (fingerprint, starts_at);

CREATE TABLE attempts (
  id TEXT PRIMARY KEY,               -- the idempotency key
  incident_id TEXT NOT NULL REFERENCES incidents (id),
  number INTEGER NOT NULL,
  handler TEXT NOT NULL,
  service TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('executing', 'verifying', 'done')),
  instance TEXT NOT NULL,
  claim TEXT NOT NULL,               -- what is acted on: an agent's id, or a unit
  driver TEXT NOT NULL,
  boot_id TEXT NOT NULL,
  fence INTEGER NOT NULL UNIQUE,
  verb TEXT NOT NULL,
  parameters TEXT NOT NULL,
  planned_at REAL NOT NULL,          -- the intent is durable
  expires_at REAL NOT NULL,          -- the command is refused after it
  started_at REAL,                   -- handed to the one who acts
  acted_at REAL,                     -- it answered
  answer TEXT CHECK (answer IN ('done', 'failed', 'refused', 'unknown')),
  proved_at REAL,
  finished_at REAL,
  result TEXT,
  error TEXT,
  verdict TEXT CHECK (verdict IN ('effective', 'ineffective', 'inconclusive', 'failed', 'unknown')),
  UNIQUE (incident_id, number)
) STRICT;
CREATE UNIQUE INDEX attempts_one_per_target ON attempts (claim) WHERE state = 'executing';
CREATE INDEX attempts_by_handler ON attempts (handler, planned_at);

CREATE TABLE breakers (
  handler TEXT NOT NULL,
  service TEXT NOT NULL,
  failures INTEGER NOT NULL,         -- failed incidents in a row
  open_until REAL,                   -- NULL: closed
  probe TEXT REFERENCES incidents (id),
  PRIMARY KEY (handler, service)
) STRICT, WITHOUT ROWID;

CREATE TABLE controls (
  key TEXT PRIMARY KEY,              -- 'kill_switch', or 'mode:<handler>'
  value TEXT NOT NULL, who TEXT NOT NULL, why TEXT NOT NULL, at REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE approvals (
  incident_id TEXT PRIMARY KEY REFERENCES incidents (id),
  requested_at REAL NOT NULL,
  expires_at REAL NOT NULL,
  decision TEXT CHECK (decision IN ('approved', 'vetoed', 'expired')),
  who TEXT, why TEXT, decided_at REAL
) STRICT, WITHOUT ROWID;

CREATE TABLE effectiveness (
  handler TEXT NOT NULL, alertname TEXT NOT NULL, tried INTEGER NOT NULL, effective INTEGER NOT NULL,
  PRIMARY KEY (handler, alertname)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
  seq INTEGER PRIMARY KEY,
  at REAL NOT NULL,
  who TEXT NOT NULL,
  event TEXT NOT NULL,
  incident_id TEXT,
  detail TEXT NOT NULL,
  previous TEXT NOT NULL,
  hash TEXT NOT NULL
) STRICT;
CREATE INDEX audit_by_incident ON audit (incident_id) WHERE incident_id IS NOT NULL;
CREATE TRIGGER audit_keeps_rows BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_keeps_text BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
"""


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection with the settings that durability rests on. Transactions are begun and ended by hand."""
    uri = f"{path.absolute().as_uri()}{'?mode=ro' if read_only else ''}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=5.0)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA busy_timeout = 5000")
    connection.execute("PRAGMA foreign_keys = ON")
    if not read_only:
        connection.execute("PRAGMA journal_mode = WAL")
        # FULL, said aloud: a 202 must survive a power cut, and builds differ in their default for WAL.
        connection.execute("PRAGMA synchronous = FULL")
    return connection


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables in a new file; refuse a file of a newer program.

    Raises:
        SchemaError: the file's schema version is above ours.
    """
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found > VERSION:
        raise SchemaError(
            f"{path}: its schema is version {found}, this program knows up to {VERSION}: "
            "run the newer program again, or start with another --database"
        )
    if found == 0:
        connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {VERSION}; COMMIT;")


def probe(connection: sqlite3.Connection, now: float) -> None:
    """A real write, small: the only way to know that writing works."""
    connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('ready', ?)", (str(now),))
