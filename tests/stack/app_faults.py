"""Faults of the application and of what it stands on: its disk, its cache, its users, its own mistakes."""

import base64
import contextlib
import os
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import psutil
import requests
from tests.stack.demo_world import Undo, World
from tests.stack.fault import Fault

from companion._speech import speak


def _database(world: World) -> Path:
    return world.settings.run / "companion" / "companion.db"


def _held_reader(world: World) -> Undo:
    """Somebody reads a database and does not end, while much is written: its log cannot be begun anew."""
    reader = sqlite3.connect(_database(world), check_same_thread=False)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM exchanges").fetchone()
    log = _database(world).with_name("companion.db-wal")

    def write(number: int) -> None:
        if log.stat().st_size < 100 * 2**20:
            world.ask(f"{number} {base64.b64encode(os.urandom(700_000)).decode()}")

    stop = world.repeat(write, 0.2)

    def undo() -> None:
        stop()
        reader.close()

    return undo


def _locked(world: World) -> Undo:
    """Another program keeps the right to write a database to itself, and everybody asks meanwhile."""
    writer = sqlite3.connect(_database(world), timeout=60, isolation_level=None, check_same_thread=False)
    writer.execute("BEGIN IMMEDIATE")
    stop = world.repeat(lambda _: world.ask("Tell me something nice."), 0.1)

    def undo() -> None:
        writer.close()
        stop()

    return undo


def _overwritten(world: World) -> Undo:
    """A database's file is overwritten with noise."""
    path = _database(world)
    with contextlib.closing(sqlite3.connect(path, timeout=60)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = path.read_bytes()
    with path.open("r+b") as file:
        file.write(os.urandom(len(before)))

    def undo() -> None:
        with contextlib.suppress(Exception):
            world.supervisor._ask("stopProcess", "companion")
        for name in ("companion.db-wal", "companion.db-shm"):
            path.with_name(name).unlink(missing_ok=True)
        path.write_bytes(before)
        with contextlib.suppress(Exception):
            world.supervisor._ask("startProcess", "companion")

    return undo


def _new_thoughts(world: World) -> Undo:
    def ask(_: int) -> None:
        words = " ".join(base64.b32encode(os.urandom(5)).decode().lower() for _ in range(6))
        world.ask(words, mode="thinker")

    # Far more than the people who ask what they asked before.
    stops = [world.repeat(ask, 0.5) for _ in range(9)]

    def undo() -> None:
        for stop in stops:
            stop()

    return undo


def _noisy_yes(world: World) -> Undo:
    """Just so much noise that short words are understood, and not well."""
    undo = world.companion(voice_noise=0.25)
    url = f"{world.settings.url('COMPANION')}/v1/voice?user=vera"
    stop = world.repeat(lambda _: requests.post(url, data=speak("yes"), timeout=30), 0.2)

    def both() -> None:
        stop()
        undo()

    return both


def _unloadable(world: World) -> Undo:
    """The companion starts anew while a provider refuses connections, and is asked for the models."""
    undo = world.llm("primary", refuse=True)
    world.supervisor._ask("stopProcess", "companion")
    # Remediation may have started it already.
    with contextlib.suppress(Exception):
        world.supervisor._ask("startProcess", "companion", False)
    url = f"{world.settings.url('COMPANION')}/v1/models"
    stop = world.repeat(lambda _: requests.get(url, timeout=30), 5)

    def both() -> None:
        stop()
        undo()

    return both


def _wrong_token(world: World) -> Undo:
    """Alertmanager is given another token than the service that it tells; and user profiles pile up."""
    token = world.settings.run / "secrets" / "another_token"
    token.write_text("not-the-token-that-was-agreed-on", encoding="utf-8")
    path = world.settings.run / "alertmanager" / "alertmanager.yml"
    before = path.read_text(encoding="utf-8")
    path.write_text(before.replace(str(world.settings.secret_file("ingest")), str(token)), encoding="utf-8")
    world.reload("ALERTMANAGER")
    stop = world.repeat(lambda number: world.apis.companion("/demo/users", {"count": 20 + number}), 45)

    def undo() -> None:
        stop()
        path.write_text(before, encoding="utf-8")
        world.reload("ALERTMANAGER")

    return undo


def _slow_end(world: World) -> Undo:
    world.companion(close_seconds=90)
    pid = world.supervisor.pids()["companion"]
    # Not the supervisor's way: it would kill it after fifteen seconds.
    psutil.Process(pid).send_signal(signal.SIGTERM)
    return lambda: None


def _slow_start(world: World) -> Undo:
    world.apis.companion("/demo/next-start", {"seconds": 480})
    world.supervisor._ask("stopProcess", "companion")
    # Remediation may have started it already.
    with contextlib.suppress(Exception):
        world.supervisor._ask("startProcess", "companion", False)
    return lambda: None


def _model(name: str, **dials: float) -> Callable[[World], Undo]:
    """Dials of one of the primary provider's models, also when another fault's end turns all of them back."""

    def turn_on(world: World) -> Undo:
        stop = world.repeat(lambda _: world.model("primary", name, **dials), 10)

        def undo() -> None:
            stop()
            world.model("primary", name, **dials)()

        return undo

    return turn_on


def _made(path: str, count: int) -> Callable[[World], Undo]:
    def turn_on(world: World) -> Undo:
        world.apis.companion(path, {"count": count})
        return lambda: None

    return turn_on


# The last ones each end the companion, or keep it from answering: they come in turn.
APP_FAULTS: tuple[Fault, ...] = (
    Fault(
        "the primary provider does not say how many tokens an answer took",
        ("LLMUsageMissing",),
        0,
        780,
        lambda world: world.llm("primary", usage_missing_ratio=1),
    ),
    Fault(
        "the primary's thinker has a context of ten tokens",
        ("LLMContextLengthExceeded",),
        1540,
        1200,
        _model("thinker", context_tokens=10),
    ),
    Fault(
        "the primary's talker ends each answer after eight tokens, and a content filter ends each third before",
        ("LLMTruncatedOutputs", "LLMContentFiltered"),
        0,
        2160,
        _model("talker", most_tokens=8, filtered_ratio=0.3),
    ),
    Fault("people ask what they never spoke of", ("LLMSemanticSearchWeak",), 0, 840, _new_thoughts),
    Fault(
        "95,000 documents are in the journal",
        ("LLMSemanticMemoryNearlyFull",),
        0,
        720,
        _made("/demo/documents", 95_000),
    ),
    Fault("Redis is stopped", ("LLMCacheTierDown", "LLMCacheFallbacks"), 0, 600, lambda world: world.stop("redis")),
    Fault(
        "each clean-up of old exchanges takes five minutes",
        ("LLMCleanupLate",),
        0,
        300,
        lambda world: world.companion(cleanup_seconds=300),
    ),
    Fault(
        "a callback of the application's fails each time that it is scraped",
        ("InstrumentationErrors",),
        0,
        240,
        lambda world: world.companion(size_error_ratio=1),
    ),
    Fault(
        "operations have a number in their name",
        ("InstrumentationLabelsDropped",),
        0,
        960,
        lambda world: world.companion(numbered_operations=1),
    ),
    Fault("forty connections are never closed", ("LLMConnectionsNotClosed",), 0, 1300, _made("/demo/connections", 40)),
    Fault(
        "a reader of the database does not end, while 100 MB are written", ("LLMSqliteWalLarge",), 0, 1150, _held_reader
    ),
    Fault(
        "Alertmanager has another token than remediation, and user profiles pile up",
        ("RemediationWebhooksLost",),
        2550,
        600,
        _wrong_token,
    ),
    Fault(
        "the microphone is so noisy that only short words are understood, and not well",
        ("LLMVoiceQualityLow",),
        2500,
        600,
        _noisy_yes,
    ),
    Fault(
        "another program keeps the right to write the database to itself",
        ("LLMCleanupFailing", "LLMDatabaseQueueSlow", "LLMBatchQueueGrowing"),
        3100,
        600,
        _locked,
    ),
    Fault("the database's file is overwritten with noise", ("LLMHealthCheckFailing",), 3760, 150, _overwritten),
    Fault("the companion needs a minute and a half to close its store", ("LLMShutdownSlow",), 3990, 150, _slow_end),
    Fault("the companion needs eight minutes to start", ("LLMStartupIncomplete",), 4220, 480, _slow_start),
    Fault(
        "two hundred threads wait for what never comes",
        ("LLMThreadsGrowing",),
        4790,
        900,
        _made("/demo/threads", 200),
    ),
    Fault(
        "the companion starts anew, and a provider does not tell its models",
        ("LLMLoadFailing",),
        5750,
        120,
        _unloadable,
    ),
)
