"""The HTTP side on a real port, over a real store, for the tests of this folder."""

import asyncio
import contextlib
import socket
import threading
from pathlib import Path

import uvicorn
from prometheus_client import CollectorRegistry

from llmvitals_remediation._metrics import Metrics
from llmvitals_remediation.agents import AgentHub
from llmvitals_remediation.clock import SystemClock
from llmvitals_remediation.store import Store
from llmvitals_remediation.web.app import build
from llmvitals_remediation.web.services import Services, Tokens
from llmvitals_remediation.web.tokens import TokenFile


INGEST = "ingest-token-0123456789"
ADMIN = "admin-token-0123456789"
AGENT = "agent-token-0123456789"


@contextlib.contextmanager
def listening(app):
    """Serve *app* with uvicorn in a thread; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        probe.listen(128)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none"))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[probe])), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{probe.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)


def token_files(folder: Path) -> Tokens:
    for name, token in (("ingest", INGEST), ("admin", ADMIN), ("agent", AGENT)):
        (folder / name).write_text(f"{token}\n", encoding="utf-8")
    return Tokens(TokenFile(folder / "ingest"), TokenFile(folder / "admin"), TokenFile(folder / "agent"))


def services(folder: Path, *, engine, store: Store, **others) -> Services:
    return Services(
        store=store,
        engine=engine,
        hub=AgentHub(),
        metrics=Metrics(CollectorRegistry()),
        tokens=token_files(folder),
        **others,
    )


def open_store(folder: Path) -> Store:
    return Store.open(folder / "remediation.db", SystemClock())


__all__ = ["ADMIN", "AGENT", "INGEST", "build", "listening", "open_store", "services"]
