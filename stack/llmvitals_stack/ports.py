"""Who holds a port that we need."""

import socket
from collections.abc import Iterator

import psutil

from llmvitals_stack.settings import PORTS, Settings


class PortsTakenError(RuntimeError):
    """Ports that we need are taken; the text says which, by whom, and what to set."""


def check(settings: Settings, *, ours: frozenset[int] = frozenset()) -> None:
    """See that every port is free, or held by one of our own processes.

    Args:
        ours: Process ids that may hold them (a second `make up`).

    Raises:
        PortsTakenError: With all that are taken.
    """
    taken = list(_taken(settings, ours))
    if taken:
        raise PortsTakenError(
            "\n".join([*taken, "Set another port in .env, or end that program; then `make up` again."])
        )


def _taken(settings: Settings, ours: frozenset[int]) -> Iterator[str]:
    for key, program in PORTS.items():
        port = int(settings[key])
        if _free(port):
            continue
        pid = _holder(port)
        if pid in ours:
            continue
        yield f"Port {port} ({key}, for {program}) is taken by {_describe(pid)}."


def _free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: a connection of the last run that lingers is no holder.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _holder(port: int) -> int | None:
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return None
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
            return connection.pid
    return None


def _describe(pid: int | None) -> str:
    if pid is None:
        return "a process of another user, or one that cannot be seen from here"
    try:
        process = psutil.Process(pid)
        return f"{process.name()} (pid {pid}, of {process.username()})"
    except psutil.Error:
        return f"pid {pid}"
