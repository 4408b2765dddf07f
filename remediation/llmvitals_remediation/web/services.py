"""What the HTTP side stands on: the store and the engine as it sees them, the hub, the tokens."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import anyio

from llmvitals_remediation._metrics import Metrics
from llmvitals_remediation.agents import AgentHub
from llmvitals_remediation.web.runbooks import Runbooks
from llmvitals_remediation.web.tokens import TokenFile


class Receipt(Protocol):
    @property
    def delivery_id(self) -> str: ...
    @property
    def result(self) -> str: ...
    @property
    def reason(self) -> str | None: ...


class Store(Protocol):
    """Every method blocks; call through `Threads`."""

    def accept(self, body: bytes, *, received_at: float) -> Receipt: ...
    def incidents(
        self, *, state: str | None = None, handler: str | None = None, limit: int = 100
    ) -> list[dict[str, Any]]: ...
    def incident(self, incident_id: str) -> dict[str, Any] | None: ...
    def incident_of_alert(self, told: str) -> str | None: ...
    def audit(self, limit: int = 200) -> list[dict[str, Any]]: ...
    def ready(self) -> str | None: ...


class Engine(Protocol):
    """Every method but `wake` may block; call through `Threads`."""

    def status(self) -> Mapping[str, Any]: ...
    def handlers(self) -> list[dict[str, Any]]: ...
    def approve(self, incident_id: str, *, who: str, why: str) -> None: ...
    def veto(self, incident_id: str, *, who: str, why: str) -> None: ...
    def set_kill_switch(self, engaged: bool, *, who: str, why: str) -> None: ...
    def set_mode(self, handler: str, mode: str, *, who: str, why: str) -> None: ...
    def wake(self) -> None: ...
    def stop(self, timeout: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Tokens:
    ingest: TokenFile
    admin: TokenFile
    agent: TokenFile


@dataclass(slots=True)
class Lifecycle:
    draining: bool = False


@dataclass(frozen=True, slots=True)
class Threads:
    """Where blocking calls go: intake has threads of its own, so that a slow page cannot keep an alert waiting."""

    intake: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(32))
    rest: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(8))


@dataclass(frozen=True, slots=True)
class Services:
    store: Store
    engine: Engine
    hub: AgentHub
    metrics: Metrics
    tokens: Tokens
    # Names, besides localhost and bare addresses, under which browsers and Prometheus may call this service.
    hosts: frozenset[str] = frozenset()
    # Asked by /readyz, by name: None, or what is amiss with it.
    sources: Mapping[str, Callable[[], str | None]] = field(default_factory=dict)
    runbooks: Runbooks = field(default_factory=Runbooks)
    # Where the dashboards are for a person's browser; None when nobody said.
    dashboards_url: str | None = None
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    threads: Threads = field(default_factory=Threads)
