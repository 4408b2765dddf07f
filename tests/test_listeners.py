"""The sockets that our HTTP servers listen on."""

import asyncio
import socket
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from companion import _serve as companion
from faulty_llm import _listener as faulty_llm
from llmvitals_remediation import serve as remediation


@contextmanager
def owned(listener):
    with listener:
        yield listener


LISTENERS = {
    "companion": lambda: owned(companion._listen("127.0.0.1", 0)),
    "faulty_llm": lambda: owned(faulty_llm._bound("127.0.0.1", 0)),
    "remediation": lambda: remediation._listen(SimpleNamespace(host="127.0.0.1", port=0)),
}


@pytest.mark.parametrize("name", LISTENERS)
def test_an_answer_does_not_wait_for_the_clients_acknowledgement(name):
    """Accepted connections have TCP_NODELAY: a head and a body in two writes would else be 40 ms apart."""
    with LISTENERS[name]() as listener:
        assert asyncio.run(_has_no_delay(listener))


async def _has_no_delay(listener):
    found = asyncio.get_running_loop().create_future()

    def accepted(_reader, writer):
        found.set_result(bool(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))
        writer.close()

    async with await asyncio.start_server(accepted, sock=listener):
        _, writer = await asyncio.open_connection(*listener.getsockname())
        writer.close()
        return await asyncio.wait_for(found, 5)
