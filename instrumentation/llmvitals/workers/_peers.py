"""The workers of one service talk over Unix sockets in their directory: one line is asked, one line is answered.

Each has one thread that answers. Only processes of the same user, or root's, are answered and believed.
"""

import json
import os
import random
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from llmvitals.workers._merge import OnFault
from llmvitals.workers._retained import SOCKET

NUMBERS, LISTENER = b"numbers\n", b"listener\n"

ASKED_SECONDS = 1.0
"""For all peers together, when they are asked for numbers."""
_IMPATIENT_SECONDS = 0.1  # For one that did not answer the last time.
_LISTENER_SECONDS = 0.5
_SEND_SECONDS = 0.5
_MOST_BYTES = 1 << 26
_TICK_SECONDS = 1.0
_CLOSED_BY_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class Peers:
    """This worker's ear: answers what others ask, in a thread of its own, until it is closed."""

    def __init__(
        self,
        path: Path,
        *,
        answer: Callable[[], dict[str, Any]],
        listener: Callable[[], socket.socket | None],
        tick: Callable[[], bool],
        on_fault: OnFault,
    ) -> None:
        """*path* is this worker's file without an ending. *tick* is called each second while it returns True.

        Raises OSError when there can be no socket.
        """
        self._answer = answer
        self._listener = listener
        self._tick = tick
        self._on_fault = on_fault
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with _short(path.with_name(f"{path.name}{SOCKET}")) as address:
            self._socket.bind(address)
        self._socket.listen(64)
        self._socket.setblocking(False)
        self._waker, self._wakened = socket.socketpair()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="llmvitals-peers", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Look at once whether there is something to tick for."""
        with suppress(OSError):
            self._waker.send(b"x")

    def close(self) -> None:
        self._closed = True
        self.wake()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(2.0)
        self.drop()

    def drop(self) -> None:
        """Close the sockets: in a forked child, where the thread is not."""
        for end in (self._socket, self._waker, self._wakened):
            end.close()

    def _run(self) -> None:
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._socket, selectors.EVENT_READ)
                selector.register(self._wakened, selectors.EVENT_READ)
                while not self._closed:
                    again = self._tick()
                    for key, _ in selector.select(_TICK_SECONDS if again else None):
                        if key.fileobj is self._wakened:
                            self._wakened.recv(64)
                        else:
                            self._accept()
        except Exception as error:  # noqa: BLE001 -- nothing of ours may reach the application's threading.excepthook
            if not self._closed:
                self._on_fault("workers", error, "this worker does not answer the others any more")

    def _accept(self) -> None:
        try:
            peer, _ = self._socket.accept()
        except OSError:  # It has gone.
            return
        try:
            with peer:
                peer.settimeout(_SEND_SECONDS)
                if is_trusted(peer):
                    self._reply(peer)
        except OSError:  # It asked nothing, or did not wait for the answer.
            return
        except Exception as error:  # noqa: BLE001 -- this answer is lost, and not the next
            self._on_fault("workers", error, "another worker was not answered")

    def _reply(self, peer: socket.socket) -> None:
        asked = peer.recv(64)
        if asked == NUMBERS:
            peer.sendall(json.dumps(self._answer()).encode() + b"\n")
        elif asked == LISTENER:
            listener = self._listener()
            if listener is None:
                peer.sendall(b"none\n")
            else:
                socket.send_fds(peer, [b"here\n"], [listener.fileno()])


class Asking:
    """Asks other workers; remembers who did not answer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._hung: set[str] = set()

    def numbers(self, names: Iterable[str], meanwhile: Callable[[], None]) -> tuple[dict[str, Any], list[str]]:
        """Ask the workers of these *names* all at once, do something *meanwhile*, and return what each answered.

        Then the names of those that did not in time.
        """
        started = time.monotonic()
        answers: dict[str, Any] = {}
        hung: list[str] = []
        with selectors.DefaultSelector() as selector:
            for name in names:
                peer = self._connected(name)
                if peer is None:
                    hung.append(name)
                    continue
                with suppress(OSError):
                    peer.send(NUMBERS)
                patience = _IMPATIENT_SECONDS if name in self._hung else ASKED_SECONDS
                selector.register(peer, selectors.EVENT_READ, _Reply(name, started + patience))
            meanwhile()
            while selector.get_map():
                now = time.monotonic()
                for key, _ in selector.select(max(min(k.data.until for k in selector.get_map().values()) - now, 0)):
                    reply: _Reply = key.data
                    if reply.read(key.fileobj):  # type: ignore[arg-type]  # it is the socket that was registered
                        _hang_up(selector, key)
                        with suppress(ValueError):
                            answers[reply.name] = reply.value()
                for key in list(selector.get_map().values()):
                    if time.monotonic() >= key.data.until:
                        _hang_up(selector, key)
                        hung.append(key.data.name)
        self._hung = set(hung)
        return answers, hung

    def listener(self, names: list[str]) -> tuple[socket.socket | None, bool]:
        """Return the socket that one of these workers accepts scrapes on, and whether all were asked in vain.

        When none shares one, and not all have answered, it may be asked for again.
        """
        until = time.monotonic() + ASKED_SECONDS
        in_vain = True
        # Not all ask the same one first.
        for name in random.sample(names, len(names)):
            peer = self._connected(name) if time.monotonic() < until else None
            if peer is None:
                in_vain = False
                continue
            try:
                with peer:
                    peer.settimeout(_LISTENER_SECONDS)
                    peer.sendall(LISTENER)
                    said, descriptors, _, _ = socket.recv_fds(peer, 64, 1, _CLOSED_BY_EXEC)
            except OSError:
                in_vain = False
                continue
            in_vain = in_vain and bool(said)
            if descriptors:
                listener = socket.socket(fileno=descriptors[0])
                listener.setblocking(False)
                return listener, False
        return None, in_vain

    def _connected(self, name: str) -> socket.socket | None:
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            peer.setblocking(False)
            with _short(self._path / f"{name}{SOCKET}") as address:
                peer.connect(address)
            if is_trusted(peer):
                return peer
        except OSError:  # It has no socket, or its queue is full.
            pass
        peer.close()
        return None


class _Reply:
    """An answer as it comes in."""

    def __init__(self, name: str, until: float) -> None:
        self.name = name
        self.until = until
        self._parts: list[bytes] = []
        self._bytes = 0

    def read(self, peer: socket.socket) -> bool:
        """Read what there is; return whether that was all."""
        try:
            part = peer.recv(1 << 18)
        except BlockingIOError:
            return False
        except OSError:
            part = b""
        self._parts.append(part)
        self._bytes += len(part)
        return not part or self._bytes > _MOST_BYTES

    def value(self) -> dict[str, Any]:
        """Raises ValueError when it is none."""
        text = b"".join(self._parts)
        if not text.endswith(b"\n"):
            raise ValueError("the answer was cut off")
        said = json.loads(text)
        if isinstance(said, dict) and isinstance(said.get("foreign"), list):
            return said
        raise ValueError("the answer has no families")


def is_trusted(peer: socket.socket) -> bool:
    """Whether the process at the other end is this user's, or root's."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True  # The directory is this user's alone.
    _, user, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return user in (os.geteuid(), 0)


def _hang_up(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    selector.unregister(key.fileobj)
    key.fileobj.close()  # type: ignore[union-attr]  # it is the socket that was registered


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """Give a socket's path in the 107 bytes that the kernel allows."""
    if len(os.fsencode(path)) < 100:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
