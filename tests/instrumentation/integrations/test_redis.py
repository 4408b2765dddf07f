"""Against a server that speaks enough of Redis' protocol."""

import asyncio
import inspect
import socketserver
import threading

import pytest

import llmvitals

redis = pytest.importorskip("redis")


class Handler(socketserver.StreamRequestHandler):
    """SET and GET; all else is an error. SLOW waits until the server's `go` is set."""

    def handle(self):
        while words := self.words():
            command = words[0].upper()
            if command == b"SET":
                self.server.entries[words[1]] = words[2]
                self.wfile.write(b"+OK\r\n")
            elif command == b"GET":
                value = self.server.entries.get(words[1])
                self.wfile.write(b"$-1\r\n" if value is None else b"$%d\r\n%s\r\n" % (len(value), value))
            elif command == b"SLOW":
                self.server.asked.set()
                self.server.go.wait(10)
                self.wfile.write(b"+OK\r\n")
            else:
                self.wfile.write(b"-ERR unknown command\r\n")

    def words(self):
        line = self.rfile.readline()
        if not line.startswith(b"*"):
            return None
        words = []
        for _ in range(int(line[1:])):
            length = int(self.rfile.readline()[1:])
            words.append(self.rfile.read(length + 2)[:-2])
        return words


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass


@pytest.fixture(name="server")
def _server():
    with Server(("127.0.0.1", 0), Handler) as server:
        server.entries, server.asked, server.go = {}, threading.Event(), threading.Event()
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.go.set()
        server.shutdown()
        thread.join()


@pytest.fixture(name="settings")
def _settings(server):
    return {"port": server.server_address[1], "protocol": 2}


def operations(vitals):
    return {
        (dict(labels)["db_operation_name"], dict(labels)["error_type"]): value
        for labels, value in vitals.samples("db_client_operation_duration_seconds_count").items()
    }


def test_commands_and_pipelines(vitals, settings):
    """By their names, and no key or value."""
    with redis.Redis(**settings) as client:
        assert client.set("secret", "value") is True
        assert b"value" == client.get("secret")
        pipeline = client.pipeline(transaction=False)
        assert isinstance(pipeline, redis.client.Pipeline)
        assert [True, b"b"] == pipeline.set("a", "b").get("a").execute()

    assert {("SET", ""): 1, ("GET", ""): 1, ("PIPELINE", ""): 1} == operations(vitals)
    assert 3 == vitals.value("db_client_operation_duration_seconds_count", db_system_name="redis")
    assert "secret" not in str(vitals.samples("db_client_operation_duration_seconds_count"))


def test_async_commands_and_pipelines(vitals, settings):
    """The same."""

    async def main():
        async with redis.asyncio.Redis(**settings) as client:
            await client.set("a", "b")
            async with client.pipeline(transaction=False) as pipeline:
                return await pipeline.get("a").get("none").execute()

    assert [b"b", None] == asyncio.run(main())
    assert {("SET", ""): 1, ("PIPELINE", ""): 1} == operations(vitals)


def test_errors_come_out_as_they_are(vitals, settings):
    """And count by their class; a command of nobody's is another."""
    with redis.Redis(**settings) as client:
        with pytest.raises(redis.ResponseError, match="unknown command"):
            client.execute_command("FROB", "x")
        with pytest.raises(redis.ResponseError):
            client.execute_command("what a user said: *!", "x")
        with pytest.raises(redis.ResponseError):
            client.execute_command("ünicode")
    with redis.Redis(port=9, retry=None) as client, pytest.raises(redis.ConnectionError):
        client.get("a")

    assert {
        ("FROB", "ResponseError"): 1,
        ("WHAT", "ResponseError"): 1,
        ("_OTHER", "ResponseError"): 1,
        ("GET", "ConnectionError"): 1,
    } == operations(vitals)


def test_a_cancelled_command_is_cancelled(vitals, server, settings):
    """The task ends as cancelled, and the command counts."""

    async def main():
        # With a time-out of its own, redis-py 8 now and then takes a cancellation for that one's.
        async with redis.asyncio.Redis(**settings, socket_timeout=None) as client:
            await client.get("a")
            task = asyncio.create_task(client.execute_command("SLOW"))
            assert await asyncio.to_thread(server.asked.wait, 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert {("GET", ""): 1, ("SLOW", "CancelledError"): 1} == operations(vitals)


def test_uninstrument_restores_exactly():
    """The very same functions, of the same kind."""
    methods = [(redis.client.Redis, "execute_command"), (redis.client.Pipeline, "execute")]
    methods += [(redis.asyncio.client.Redis, "execute_command"), (redis.asyncio.client.Pipeline, "execute")]
    methods += [(redis.cluster.RedisCluster, "execute_command"), (redis.asyncio.RedisCluster, "execute_command")]
    before = [vars(owner)[name] for owner, name in methods]
    assert "redis" in llmvitals.instrument()
    during = [vars(owner)[name] for owner, name in methods]
    llmvitals.uninstrument()

    assert not set(map(id, before)) & set(map(id, during))
    assert [inspect.signature(f) for f in before] == [inspect.signature(f) for f in during]
    assert [inspect.iscoroutinefunction(f) for f in before] == [inspect.iscoroutinefunction(f) for f in during]
    assert before == [vars(owner)[name] for owner, name in methods]
