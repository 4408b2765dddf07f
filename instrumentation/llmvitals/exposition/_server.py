"""An HTTP server for ``/metrics`` that no idle, slow or numerous client can stop.

One daemon thread accepts, one serves each connection. A request's head has a deadline as a whole, so sending it byte by
byte does not help; connections are capped, and at the cap the one that has been idle longest makes room for the new
one. Only when all of them are being served does a client get 503, or, when many do at once, nothing.
"""

import logging
import os
import selectors
import socket
import threading
import time
import weakref
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from prometheus_client.registry import Collector

from llmvitals.exposition._encode import OnError
from llmvitals.exposition._http import BadRequestError, parse
from llmvitals.exposition._respond import Guard, Pages, Response, Select, Site, plain

if TYPE_CHECKING:
    import ssl

log = logging.getLogger("llmvitals")

#: As many clients beyond the cap are told so at once, each in a thread of its own, and others hung up on.
_REFUSALS = 8
#: For the answer, and for the client to have asked.
_REFUSAL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server grants its clients."""

    connections: int = 64

    header_seconds: float = 5.0
    """For a whole request head, and for the first byte on a new connection."""

    idle_seconds: float = 75.0
    """Between two requests of a kept connection; above Prometheus' usual scrape interval of a minute."""

    send_seconds: float = 10.0
    """For a whole response."""

    header_bytes: int = 16_384


class Security(Protocol):
    """How a server's connections become TLS ones."""

    def wrap(self, client: socket.socket) -> "ssl.SSLSocket":
        """Return *client* as the server's side of a TLS connection, its handshake not yet begun."""

    def check(self, client: "ssl.SSLSocket") -> None:
        """Raise OSError for a client that is not to be answered, after its handshake."""


class ServeError(OSError):
    """The address cannot be listened on; the text says why and, where it can be told, which program holds it."""


def serve(
    registry: Collector,
    host: str = "127.0.0.1",
    port: int = 9464,
    *,
    limits: Limits | None = None,
    on_error: OnError | None = None,
    pages: Pages | None = None,
    select: Select | None = None,
    guard: Guard | None = None,
    headers: Mapping[str, str] | None = None,
    security: Security | None = None,
    listener: socket.socket | None = None,
) -> "Server":
    """Serve *registry* on ``http://host:port/metrics`` from daemon threads; port 0 takes a free one.

    Args:
        registry: Whose metrics are served.
        host: The address to listen on.
        port: The port to listen on.
        limits: What is granted to clients.
        on_error: Told of what could not be encoded.
        pages: More to serve, by path: fixed plain texts, such as ``/-/healthy``, which a probe can ask for without a
            collection; or functions that make a `Page` of a request's headers (by lower-case name).
        select: Gives what is collected for a request's query and headers instead of all of *registry*, or a `Page`.
        guard: Given each request's headers, returns the `Page` that refuses it, or None.
        headers: Added to every answer.
        security: Makes connections TLS ones.
        listener: Accept on this one instead of a new one: another process's, which serves the same.

    Raises:
        ServeError: When the address cannot be listened on.
    """
    site = Site(registry, pages or {}, on_error, select, guard, headers or {})
    return Server(site, host, port, limits=limits or Limits(), security=security, listener=listener)


class Server:
    """A running exposition server; made by `serve`."""

    def __init__(
        self,
        site: Site,
        host: str,
        port: int,
        *,
        limits: Limits,
        security: Security | None = None,
        listener: socket.socket | None = None,
    ) -> None:
        self.site = site
        self.security = security
        self.limits = limits
        self.listener = _listen(host, port) if listener is None else listener
        self.host = host
        self.port: int = self.listener.getsockname()[1]
        self._lock = threading.Lock()
        self._connections: set[_Connection] = set()
        self._refusals = threading.Semaphore(_REFUSALS)
        self._closed = threading.Event()
        with ExitStack() as undo:
            # Without descriptors or threads to be had: nobody would answer on an address that stays taken.
            undo.callback(self.listener.close)
            self._waker, self._wakened = socket.socketpair()
            undo.callback(self._waker.close)
            undo.callback(self._wakened.close)
            self._thread = threading.Thread(target=self._accept_all, name="llmvitals-metrics", daemon=True)
            self._thread.start()
            undo.pop_all()
        _servers.add(self)

    @property
    def url(self) -> str:
        """Of ``/metrics``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' if self.security else ''}://{host}:{self.port}/metrics"

    def close(self) -> None:
        """Stop listening, hang up on everybody, and wait a moment for the threads."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._waker.send(b"x")
        self._thread.join(timeout=5)
        for end in (self.listener, self._waker, self._wakened):
            end.close()
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.hang_up()
        for connection in connections:
            connection.thread.join(timeout=1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close_inherited(self) -> None:
        """In a forked child: let go of the port, which would else stay taken when the parent has gone."""
        for end in (self.listener, self._waker, self._wakened):
            end.close()
        # A new one: the old one's lock may be held by a thread that does not exist here.
        self._closed = threading.Event()
        self._closed.set()

    def forget(self, connection: "_Connection") -> None:
        with self._lock:
            self._connections.discard(connection)

    def _accept_all(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self.listener, selectors.EVENT_READ)
            selector.register(self._wakened, selectors.EVENT_READ)
            while not self._closed.is_set():
                selector.select()
                try:
                    client, _ = self.listener.accept()
                except BlockingIOError:  # It has gone, or it was the waker.
                    continue
                except OSError as error:
                    # Out of file descriptors, mostly: the client stays in the queue, so without a pause this spins.
                    log.warning("llmvitals: /metrics cannot accept a connection: %s", error)
                    self._closed.wait(0.5)
                    continue
                self._admit(client)

    def _admit(self, client: socket.socket) -> None:
        connection = _Connection(self, client)
        with self._lock:
            if len(self._connections) >= self.limits.connections:
                idle = [known for known in self._connections if known.idle_since is not None]
                if not idle:
                    self._refuse(connection)
                    return
                longest = min(idle, key=lambda known: known.idle_since or 0.0)
                self._connections.discard(longest)
                longest.hang_up()
            self._connections.add(connection)
        try:
            connection.thread.start()
        except RuntimeError:  # No more threads to be had, or the interpreter is shutting down.
            self.forget(connection)
            client.close()

    def _refuse(self, connection: "_Connection") -> None:
        def run() -> None:
            try:
                connection.refuse()
            finally:
                self._refusals.release()

        if not self._refusals.acquire(blocking=False):
            connection.close()
            return
        try:
            threading.Thread(target=run, name="llmvitals-metrics-refusal", daemon=True).start()
        except RuntimeError:
            self._refusals.release()
            connection.close()


class _Connection:
    def __init__(self, server: Server, client: socket.socket) -> None:
        self._server = server
        self._limits = server.limits
        self._client = client
        self._buffer = b""
        self.idle_since: float | None = time.monotonic()
        """None while a request is being answered."""
        self.thread = threading.Thread(target=self._serve, name="llmvitals-metrics-client", daemon=True)

    def hang_up(self) -> None:
        """Make whatever the connection's thread is waiting for end now."""
        try:
            # Not TLS' own, which takes the connection's state from under the thread that is using it.
            socket.socket.shutdown(self._client, socket.SHUT_RDWR)
        except OSError:  # The client was quicker.
            return

    def close(self) -> None:
        self._client.close()

    def refuse(self) -> None:
        """Answer 503."""
        try:
            self._secure()
            self._client.settimeout(_REFUSAL_SECONDS)
            why = f"All {self._limits.connections} connections are busy answering."
            self._client.sendall(_told("503 Service Unavailable", why))
            self._client.shutdown(socket.SHUT_WR)
            # Closing with the request unread would reset the connection, answer and all.
            self._client.recv(self._limits.header_bytes)
        except OSError:  # The client went away, or is a slow one.
            return
        finally:
            self._client.close()

    def _serve(self) -> None:
        try:
            self._secure()
            first = True
            while self._answer_one(first=first):
                first = False
        except OSError:  # The client went away or did not read its answer in time.
            return
        except Exception:
            # Nothing of a scrape may reach the application's own threading.excepthook.
            log.exception("llmvitals: a scrape failed")
        finally:
            self._client.close()
            self._server.forget(self)

    def _secure(self) -> None:
        """Shake hands in this connection's own thread, where a client that says nothing holds up nobody."""
        security = self._server.security
        if security is not None:
            self._client.settimeout(self._limits.header_seconds)
            client = self._client = security.wrap(self._client)
            client.do_handshake()
            security.check(client)

    def _answer_one(self, *, first: bool) -> bool:
        """Read a request and answer it; return whether the connection is kept."""
        self.idle_since = time.monotonic()
        try:
            head = self._read_head(first=first)
            if head is None:
                return False
            self.idle_since = None
            request = parse(head)
        except BadRequestError as error:
            self._send(_told(error.status, str(error)), seconds=1)
            return False
        response = self._server.site.respond(request.method, request.path, request.headers, request.query)
        self._send(_written(response, keep_alive=request.keep_alive), self._limits.send_seconds)
        return request.keep_alive

    def _send(self, data: bytes, seconds: float) -> None:
        # Not sendall: through TLS its time-out is that of each of many parts.
        deadline = time.monotonic() + seconds
        rest = memoryview(data)
        while rest:
            self._client.settimeout(max(deadline - time.monotonic(), 0.001))
            rest = rest[self._client.send(rest) :]

    def _read_head(self, *, first: bool) -> bytes | None:
        """Return the next head, or None when the client has none to send."""
        limits = self._limits
        deadline = time.monotonic() + (limits.header_seconds if first or self._buffer else limits.idle_seconds)
        while b"\r\n\r\n" not in self._buffer:
            if len(self._buffer) > limits.header_bytes:
                raise BadRequestError("431 Request Header Fields Too Large", f"more than {limits.header_bytes} bytes")
            remaining = deadline - time.monotonic()
            try:
                # 0 would mean "do not wait" instead of "too late".
                self._client.settimeout(max(remaining, 0.001))
                data = self._client.recv(8192)
            except TimeoutError:
                if self._buffer:
                    raise BadRequestError(
                        "408 Request Timeout", f"the head was not complete within {limits.header_seconds:g} s"
                    ) from None
                return None
            if not data:
                return None
            if not self._buffer:
                deadline = min(deadline, time.monotonic() + limits.header_seconds)
            self._buffer += data
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return head


def _written(response: Response, *, keep_alive: bool) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in response.headers.items())
    head = f"HTTP/1.1 {response.status}\r\n{lines}Connection: {'keep-alive' if keep_alive else 'close'}\r\n\r\n"
    return head.encode("latin-1") + response.body


def _told(status: str, why: str) -> bytes:
    """Written to a client that is hung up on."""
    return _written(plain(status, why), keep_alive=False)


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65_535:
        raise ServeError(f"cannot listen on {host}:{port}: a port is a number from 0 to 65535")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        errno = getattr(error, "errno", None)
        why = os.strerror(errno) if errno and errno > 0 else str(error)
        raise ServeError(f"cannot listen on {host}:{port}: {why}{_holder_of(port)}") from error
    # A client that has gone between select() and accept() must not make accept() wait for the next one.
    listener.setblocking(False)
    return listener


def _holder_of(port: int) -> str:
    import psutil  # noqa: PLC0415 -- 10 ms that only this error need cost

    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and _port(connection.laddr) == port and connection.pid:
                return f" (held by {psutil.Process(connection.pid).name()}, pid {connection.pid})"
    except (psutil.Error, OSError):
        return ""
    return ""


def _port(address: Any) -> int | None:
    return address.port if address else None


_servers: "weakref.WeakSet[Server]" = weakref.WeakSet()


def _close_inherited() -> None:
    for server in list(_servers):
        server.close_inherited()
    _servers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)
