"""Puts the companion together, runs it until it is told to stop, and takes it apart in order."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette

import llmvitals
from companion._bodies import MAX_BODY_BYTES
from companion._chat import Chat
from companion._demo import demo_routes, dials_route, late_start
from companion._dials import Dials
from companion._effects import EffectLedger
from companion._inner import InnerLife
from companion._journal import Journal
from companion._llm import LLM
from companion._page import page_routes
from companion._responses import Responses
from companion._settings import Settings
from companion._socket import Sockets
from companion._store import Store
from companion._summary import Summary
from companion._tuning import Tuning, offer_tunables
from companion._turns import Turns
from companion._voice import VoiceChat
from companion._web import application
from llmvitals import CleanUp, HealthCheck, Vitals

__all__ = ["serve"]

log = logging.getLogger("companion")

_GRACE_SECONDS = 5
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]", "::1"})


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises OSError when a port is taken or the data directory cannot be used."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    listening = _listen(settings.host, settings.port)
    async with AsyncExitStack() as stack:
        stack.callback(listening.close)
        ledger = EffectLedger(settings.data_dir / "effects.jsonl")
        stack.callback(ledger.close)
        vitals = _start_vitals(settings, ledger)
        stack.callback(vitals.close)
        app = await stack.enter_async_context(_assembled(settings, vitals, ledger))
        config = uvicorn.Config(
            app,
            http="h11",
            ws="websockets-sansio",
            ws_max_size=MAX_BODY_BYTES,
            lifespan="off",
            log_config=None,
            access_log=False,
            limit_concurrency=1000,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        server = _Server(config)
        begun = _stop_on_signals(server)
        log.info("companion on http://%s:%d", settings.host, listening.getsockname()[1])
        if settings.demo_faults:
            log.warning("--demo-faults: whoever reaches this port can crash the companion, by POST to /demo/crash")
        await server.serve(sockets=[listening])
    log.info("companion stopped in %.1f s", time.monotonic() - (begun[0] if begun else time.monotonic()))


@asynccontextmanager
async def _assembled(settings: Settings, vitals: Vitals, ledger: EffectLedger) -> AsyncGenerator[Starlette, None]:
    async with AsyncExitStack() as stack:
        startup = vitals.startup("store", "journal", "models", "inner_life", "sockets")
        # Last, so that a shutdown that takes long can be seen; in a thread, for the agent may be waiting for this loop.
        stack.push_async_callback(asyncio.to_thread, vitals.close)
        # What takes questions is closed before what answers them, and the store that both write to last.
        shutdown = vitals.shutdown(timeout_seconds=30)
        stack.push_async_callback(shutdown.arun)
        dials = Dials()
        with startup.phase("store"):
            store = await Store.open(settings.data_dir / "companion.db", vitals, dials)
            shutdown.register("store", store.close)
        with startup.phase("journal"):
            journal = await Journal.open(
                settings.data_dir / "journal.db", vitals, dials, max_documents=settings.journal_max_documents
            )
            shutdown.register("journal", journal.close)
        tuning = Tuning()
        with startup.phase("models"):
            if settings.demo_faults:
                await asyncio.sleep(late_start(settings.data_dir))
            llm = LLM(settings, vitals, tuning)
            shutdown.register("models", llm.close, priority=1)
        with startup.phase("inner_life"):
            inner = InnerLife(vitals, dials, settings.numbers, llm, store, every_seconds=settings.thoughts_seconds)
            shutdown.register("inner_life", inner.close, priority=2)
        with startup.phase("sockets"):
            turns = Turns(vitals, dials, per_second=settings.requests_per_second, burst=settings.requests_burst)
            responses = Responses(vitals, tuning, settings.redis_url)
            shutdown.register("responses", responses.close)
            chat = Chat(
                settings,
                vitals,
                tuning,
                dials,
                llm=llm,
                store=store,
                journal=journal,
                inner=inner,
                turns=turns,
                responses=responses,
            )
            voice = VoiceChat(vitals, dials, chat)
            sockets = Sockets(settings, vitals, chat)
            shutdown.register("sockets", sockets.close, priority=2)
        offer_tunables(vitals, tuning, llm.providers, sockets.outbox)
        _offer(vitals, chat)
        looking = _look_after(settings, vitals, llm, store)
        tidying = _tidy_up(settings, vitals, dials, store, journal)

        def rest() -> None:
            for check in looking:
                check.stop()
            for cleanup in tidying:
                cleanup.stop()

        # Nothing may be asked of what is being taken apart.
        shutdown.register("background", rest, priority=3)
        summary = Summary(vitals, settings, tuning, llm, chat)
        # Last, because starting is allowed to hold the loop up.
        vitals.watch_loop(name="main")
        startup.ready()
        routes = [sockets.route(), voice.route(), *page_routes(vitals)]
        if settings.demo_faults:
            routes += [*demo_routes(settings, chat, journal, ledger), dials_route(dials)]
        hosts = _LOOPBACK if settings.host in _LOOPBACK else None
        yield application(chat, routes, summary.as_json, vitals=vitals, hosts=hosts)


def _offer(vitals: Vitals, chat: Chat) -> None:
    """What may be done to the companion."""

    @vitals.action(effect="idempotent", bounds={"questions": (1, 200)})
    def warm_response_cache(questions: int = 20) -> dict[str, int]:
        """Ask the talker again what was asked most in the last day, and cache the answers."""
        return chat.warm(questions, timeout_seconds=60)


def _look_after(settings: Settings, vitals: Vitals, llm: LLM, store: Store) -> list[HealthCheck]:
    """What is looked at in the background."""
    checks: dict[str, Callable[[], Awaitable[None]]] = {"database": store.check}
    checks |= {f"llm_{provider}": partial(llm.check, provider) for provider in llm.providers}
    every = settings.health_interval_seconds
    return [vitals.health_check(name, check, interval_seconds=every) for name, check in checks.items()]


def _tidy_up(settings: Settings, vitals: Vitals, dials: Dials, store: Store, journal: Journal) -> list[CleanUp]:
    """What is removed now and then, and how often."""
    numbers = settings.numbers
    made: list[CleanUp] = []

    def cleanup(name: str, seconds: float, clean: Callable[[], Awaitable[int]] | None = None) -> None:
        # Nobody waits five minutes in a demo to see that it is clean.
        interval = min(seconds, 20.0) if settings.demo_faults else seconds
        made.append(vitals.cleanup(name, clean, interval_seconds=interval))

    cleanup("idle_users", 300.0)
    cleanup("expired_cache_entries", numbers.cleanup_cache_seconds)
    cleanup("idle_connections", numbers.cleanup_connections_seconds)
    cleanup("stuck_batches", numbers.cleanup_batches_seconds)
    cleanup("journal", 300.0, journal.tidy)
    keep = settings.history_days * 86_400

    def old_exchanges() -> Awaitable[int]:
        # In the clean-up's own thread.
        time.sleep(dials.cleanup_seconds)
        return store.delete_before(time.time() - keep)

    cleanup("old_exchanges", 3600.0, old_exchanges)
    return made


def _start_vitals(settings: Settings, ledger: EffectLedger) -> Vitals:
    vitals = llmvitals.start(
        service="companion",
        host=settings.host,
        port=settings.metrics_port,
        history_file=settings.data_dir / "history.jsonl",
        remediation_url=settings.remediation_url,
        agent_token_file=settings.agent_token_file,
        # The environment is a profile like the others: visible, and to be switched while it runs.
        profile=os.environ.get("LLMVITALS_PROFILE") or settings.numbers.environment,
        on_command=ledger.note,
    )
    if vitals.metrics_port is None:
        # The library goes on without; a companion that nobody can watch is of no use.
        vitals.close()
        raise OSError(f"cannot show metrics on {settings.host}:{settings.metrics_port} (--metrics-port), see the log")
    llmvitals.instrument(vitals, providers=_names_by_address(settings))
    return vitals


def _names_by_address(settings: Settings) -> dict[str, str]:
    """Under which name each provider's server is shown: two local servers would otherwise both be "openai"."""
    addresses = {"primary": settings.llm_url} | ({"backup": settings.backup_url} if settings.backup_url else {})
    return {urlsplit(url).netloc.rpartition("@")[2]: name for name, url in addresses.items()}


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is said, because asyncio sets TCP_NODELAY only where it is: else answers and chunks wait for ACKs.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise OSError(error.errno, f"cannot listen on {host}:{port} (--port): {error.strerror}") from error
    return listening


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        # Uvicorn's own handlers raise the signal again after the shutdown: an orderly end would look like a kill.
        yield


def _stop_on_signals(server: uvicorn.Server) -> list[float]:
    """SIGTERM and SIGINT stop the server; a second one does so without waiting. The list gets the time of the first."""
    told: list[float] = []

    def stop() -> None:
        server.force_exit = bool(told)
        server.should_exit = True
        told.append(time.monotonic())

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    return told
