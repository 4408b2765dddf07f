"""A port that can really be closed and opened again while the process lives."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Generator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

__all__ = ["Listener"]


def _is_unexpected(record: logging.LogRecord) -> bool:
    """Not what uvicorn says of a stream that the dials cut."""
    return "returned without completing response" not in record.msg


logging.getLogger("uvicorn.error").addFilter(_is_unexpected)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        # Several servers share the process; its main decides what a signal means.
        yield


class Listener:
    """
    Serves *app* on one port, or refuses connections to it.

    While closed, the port stays bound but unheard: the kernel refuses connections, and no other program can take it.
    """

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        self._app = app
        self._socket = _bound(host, port)
        self._host = host
        self.port: int = self._socket.getsockname()[1]
        self._server: _Server | None = None
        self._running: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        return self._server is not None

    async def open(self) -> None:
        if self._server is not None:
            return
        config = uvicorn.Config(
            self._app, http="h11", ws="none", lifespan="off", log_config=None, access_log=False, timeout_keep_alive=30
        )
        self._server = _Server(config)
        self._running = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started:
            if self._running.done():
                self._running.result()
                raise RuntimeError(f"the listener on port {self.port} ended before it started")
            await asyncio.sleep(0.005)

    async def close(self) -> None:
        """Stop listening and cut every connection, as a provider that died would."""
        server, running = self._server, self._running
        if server is None or running is None:
            return
        self._server = self._running = None
        for listening in server.servers:
            listening.close()
        self._socket = _bound(self._host, self.port)
        # What was being served notices that its client is gone, and ends.
        for connection in list(server.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()
        server.should_exit = server.force_exit = True
        await running

    async def shut(self) -> None:
        """Close and give the port back."""
        await self.close()
        self.give_back()

    def give_back(self) -> None:
        """Free the port of a listener that is not open."""
        self._socket.close()


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is said, because asyncio sets TCP_NODELAY only where it is: else answers and chunks wait for ACKs.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock
