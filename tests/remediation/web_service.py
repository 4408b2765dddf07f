"""The HTTP side on a real port, over a real store, for the tests of this folder."""

import asyncio
import contextlib
import socket
import threading
import time
from pathlib import Path

import uvicorn
from prometheus_client import CollectorRegistry

from llmvitals_remediation import inbox
from llmvitals_remediation._metrics import Metrics
from llmvitals_remediation.agents import AgentHub
from llmvitals_remediation.clock import SystemClock
from llmvitals_remediation.engine import Engine
from llmvitals_remediation.errors import SourceError
from llmvitals_remediation.policy import PolicySource
from llmvitals_remediation.records import Change, Opening
from llmvitals_remediation.store import Store
from llmvitals_remediation.web.app import build
from llmvitals_remediation.web.patience import ImpatientProtocol
from llmvitals_remediation.web.services import Services, Tokens
from llmvitals_remediation.web.tokens import TokenFile

INGEST = "ingest-token-0123456789"
POLICY = Path(__file__).parents[2] / "remediation" / "policies" / "demo.yml"
ADMIN = "admin-token-0123456789"
AGENT = "agent-token-0123456789"


@contextlib.contextmanager
def listening(app):
    """Serve *app* with uvicorn in a thread; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        probe.listen(128)
        server = uvicorn.Server(
            uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none", http=ImpatientProtocol)
        )
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


class _Away:
    """A Prometheus and an Alertmanager that are away: nothing here asks them."""

    def query(self, _promql):
        raise SourceError("away")

    def alerts(self):
        raise SourceError("away")


def engine_on(store: Store, *, policy: Path = POLICY) -> Engine:
    """A real engine that is not started: it answers for status and controls, and does nothing by itself."""
    metrics = Metrics(CollectorRegistry())
    return Engine(store, PolicySource(policy), _Away(), _Away(), AgentHub(), {}, metrics, SystemClock())


def open_incident(store: Store, *, instance: str, waiting: bool = False, **labels: str) -> str:
    """An open incident of `evict_users` on shop/*instance*; *waiting* for approval when told."""
    told = {"alertname": "LLMUserProfilesHigh", "job": "shop", "instance": instance, **labels}
    now = time.time()
    opening = Opening(
        handler="evict_users",
        service="shop",
        instance=instance,
        fingerprint=inbox.fingerprint(told),
        starts_at=now - 5,
        labels=told,
        annotations={"summary": f"too many users on {instance}"},
        received_at=now - 1,
        cooldown_seconds=1.0,
        deadline_seconds=3600.0,
        policy_hash="0" * 12,
        source="webhook",
    )
    store.triage([], [opening], [])
    incident_id = next(row["id"] for row in store.incidents() if row["instance"] == instance)
    if waiting:
        change = Change("asked", "awaiting_approval", next_at=now + 600, deadline_at=now + 600)
        store.change(incident_id, ("open",), change)
    return incident_id


__all__ = ["ADMIN", "AGENT", "INGEST", "build", "engine_on", "listening", "open_incident", "open_store", "services"]
