"""websockets, its asyncio clients and servers: the connections that are open, as two pools without a limit."""

import functools
import weakref
from collections.abc import Callable
from typing import Any

from websockets.asyncio.connection import Connection

from llmvitals import catalogue
from llmvitals.integrations._session import Session


def install(session: Session) -> None:
    # Each connection keeps the series that it was counted in, to be taken out of that very one.
    counted: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()

    def let_go() -> None:
        while counted:
            counted.popitem()[1].dec()

    session.undo_with(let_go)
    session.patch(Connection, "connection_made", functools.partial(_wrap_made, session, counted))
    session.patch(Connection, "connection_lost", functools.partial(_wrap_lost, counted))


def _wrap_made(
    session: Session, counted: "weakref.WeakKeyDictionary[Any, Any]", original: Callable[..., Any]
) -> Callable[..., Any]:
    @functools.wraps(original)
    def connection_made(self: Any, transport: Any) -> Any:
        vitals = session.vitals
        if vitals is not None:
            with vitals.recorder.guard("websockets"):
                side = "client" if self.protocol.side.name == "CLIENT" else "server"
                gauge = vitals.recorder.child(catalogue.POOL_CONNECTIONS, f"websockets_{side}", "used")
                counted[self] = gauge
                gauge.inc()
        return original(self, transport)

    return connection_made


def _wrap_lost(counted: "weakref.WeakKeyDictionary[Any, Any]", original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def connection_lost(self: Any, exc: Exception | None) -> Any:
        gauge = counted.pop(self, None)
        if gauge is not None:
            gauge.dec()
        return original(self, exc)

    return connection_lost
