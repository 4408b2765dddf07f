import asyncio

import pytest

import llmvitals

websockets = pytest.importorskip("websockets")


def connections(vitals):
    return {
        dict(labels)["pool"]: value
        for labels, value in vitals.samples("llmvitals_pool_connections").items()
        if dict(labels)["state"] == "used"
    }


async def echo(connection):
    async for message in connection:
        await connection.send(message)


def test_open_connections_of_clients_and_servers(vitals):
    """While they are open, and however they end."""
    from websockets.asyncio.client import ClientConnection, connect
    from websockets.asyncio.server import serve

    async def main():
        async with serve(echo, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with connect(f"ws://127.0.0.1:{port}") as first, connect(f"ws://127.0.0.1:{port}") as second:
                assert type(first) is ClientConnection
                await first.send("hello")
                assert "hello" == await first.recv()
                both = connections(vitals)
                second.transport.abort()
                with pytest.raises(websockets.ConnectionClosedError):
                    await second.recv()
            server.close()
            await server.wait_closed()
        return both

    assert {"websockets_client": 2, "websockets_server": 2} == asyncio.run(main())
    assert {"websockets_client": 0, "websockets_server": 0} == connections(vitals)


def test_uninstrument_restores_exactly_and_counts_nothing_more():
    """What is still open then is let go of."""
    from websockets.asyncio.client import connect
    from websockets.asyncio.connection import Connection
    from websockets.asyncio.server import serve

    names = ["connection_made", "connection_lost"]
    before = [vars(Connection)[name] for name in names]

    async def main(vitals):
        async with serve(echo, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            assert "websockets" in llmvitals.instrument(vitals)
            async with connect(f"ws://127.0.0.1:{port}") as connection:
                assert 1 == connections(vitals)["websockets_client"]
                llmvitals.uninstrument()
                assert before == [vars(Connection)[name] for name in names]
                await connection.send("hello")
                assert "hello" == await connection.recv()

    with llmvitals.testing.fresh() as vitals:
        asyncio.run(main(vitals))
        assert {"websockets_client": 0, "websockets_server": 0} == connections(vitals)
