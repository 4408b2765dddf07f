"""The metrics in a server of one's own."""

import asyncio
import gzip
import http.client
import socket
import threading
import time
from contextlib import ExitStack, contextmanager
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.validate import validator

import pytest
import uvicorn
from prometheus_client import CollectorRegistry, Gauge
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from llmvitals.exposition import asgi_app, encode, encode_openmetrics, serve, wsgi_app
from llmvitals.exposition._apps import ANSWERS_AT_ONCE


class Blocking:
    """A collector that waits for its release."""

    def __init__(self):
        self.entered = threading.Semaphore(0)
        self.release = threading.Event()

    def describe(self):
        return ()

    def collect(self):
        self.entered.release()
        self.release.wait(20)
        return ()


@pytest.fixture(name="registry")
def _registry():
    registry = CollectorRegistry()
    gauge = Gauge("answer", "The answer.", ["to"], registry=registry)
    for number in range(100):
        gauge.labels(f"question {number}").set(42)
    return registry


@contextmanager
def uvicorn_with(app):
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(10)


class Quiet(WSGIRequestHandler):
    def log_message(self, *args): ...


@contextmanager
def wsgiref_with(app):
    with make_server("127.0.0.1", 0, validator(app), handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join(10)


@contextmanager
def ours_with(served):
    yield served.port


def ask(port, method, path, **headers):
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    client.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = client.getresponse()
    body = answer.read()
    client.close()
    told = {name: answer.headers[name] for name in ("Content-Type", "Content-Length", "Content-Encoding", "Vary")}
    return answer.status, told | {"Allow": answer.headers["Allow"]}, body


def test_all_three_answer_alike(registry):
    """Our server, uvicorn with the ASGI application and wsgiref with the WSGI one: status, headers and bytes."""
    settings = {"pages": {"/-/healthy": "alive\n"}}
    requests = [
        ("GET", "/metrics", {}),
        ("GET", "/metrics?name=x", {"Accept": "application/openmetrics-text;version=1.0.0", "Accept_Encoding": "gzip"}),
        ("HEAD", "/metrics", {"Accept_Encoding": "gzip"}),
        ("GET", "/-/healthy", {}),
        ("POST", "/metrics", {"Content_Length": "0"}),
        ("DELETE", "/-/healthy", {}),
        ("GET", "/elsewhere", {}),
        ("GET", "/", {}),
    ]
    with ExitStack() as stack:
        ports = [
            stack.enter_context(ours_with(stack.enter_context(serve(registry, "127.0.0.1", 0, **settings)))),
            stack.enter_context(uvicorn_with(asgi_app(registry, **settings))),
            stack.enter_context(wsgiref_with(wsgi_app(registry, **settings))),
        ]

        answered = [[ask(port, method, path, **headers) for method, path, headers in requests] for port in ports]

    assert [200, 200, 200, 200, 405, 405, 404, 404] == [status for status, _, _ in answered[0]]
    assert encode(registry) == answered[0][0][2]
    assert encode_openmetrics(registry) == gzip.decompress(answered[0][1][2])
    assert answered[0] == answered[1] == answered[2]


def test_it_mounts_in_a_starlette_application(registry):
    """Behind the application's own routes, below a path, or as one route."""
    app = Starlette(
        routes=[
            Route("/hello", lambda request: PlainTextResponse("hello")),
            Route("/alone", asgi_app(registry, pages={"/alone": "alone"})),
            Mount("/below", asgi_app(registry)),
            Mount("/", asgi_app(registry, pages={"/-/healthy": "alive"})),
        ]
    )
    with uvicorn_with(app) as port:
        bodies = {
            path: ask(port, "GET", path)[2]
            for path in ("/hello", "/alone", "/below/", "/below/metrics", "/metrics", "/-/healthy")
        }

    assert {
        "/hello": b"hello",
        "/alone": b"alone",
        "/below/": encode(registry),
        "/below/metrics": encode(registry),
        "/metrics": encode(registry),
        "/-/healthy": b"alive",
    } == bodies


async def get(app, send=None, **scope):
    """Ask *app* without a server; the messages that it sends."""
    sent = []

    async def note(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    await app({"type": "http", "method": "GET", "path": "/metrics", "headers": []} | scope, receive, send or note)
    return sent


def test_the_loop_goes_on_while_a_scrape_is_made(registry):
    """A collector that hangs holds up its own scrape and nothing else."""
    blocking = Blocking()
    registry.register(blocking)
    app = asgi_app(registry)

    async def scenario():
        scrape = asyncio.create_task(get(app))
        await asyncio.to_thread(blocking.entered.acquire)
        assert not scrape.done()
        blocking.release.set()
        return await scrape

    assert 200 == asyncio.run(scenario())[0]["status"]


def test_more_than_enough_scrapes_are_told_to_come_again(registry):
    """A collector that hangs takes so many threads, no more; and afterwards all is as before."""
    blocking = Blocking()
    registry.register(blocking)
    app = asgi_app(registry)

    async def scenario():
        hanging = [asyncio.create_task(get(app)) for _ in range(ANSWERS_AT_ONCE)]
        await asyncio.sleep(0)
        refused = await get(app)
        blocking.release.set()
        answered = await asyncio.gather(*hanging)
        return refused[0]["status"], {messages[0]["status"] for messages in answered}, await get(app)

    refused, answered, after = asyncio.run(scenario())

    assert (503, {200}, 200) == (refused, answered, after[0]["status"])


def test_a_cancelled_scrape_leaves_nothing_behind(registry, caplog):
    """Its thread finds nobody who waits, even when the loop has been closed meanwhile."""
    blocking = Blocking()
    registry.register(blocking)
    app = asgi_app(registry)

    async def scenario():
        scrape = asyncio.create_task(get(app))
        await asyncio.to_thread(blocking.entered.acquire)
        scrape.cancel()
        with pytest.raises(asyncio.CancelledError):
            await scrape

    asyncio.run(scenario())
    threads = [thread for thread in threading.enumerate() if thread.name == "llmvitals-metrics-app"]
    blocking.release.set()
    for thread in threads:
        thread.join(5)

    assert (1, "") == (len(threads), caplog.text)
    assert 200 == asyncio.run(get(app))[0]["status"]


def test_a_client_that_has_gone_is_nobodys_error(registry):
    """Servers may raise OSError from send; nothing of it comes out."""

    async def send(message):
        raise BrokenPipeError

    assert [] == asyncio.run(get(asgi_app(registry), send))


def test_without_asyncio_it_answers_on_the_spot(registry):
    """On another library's event loop there is nobody to wake us up from a thread."""
    sent = []

    async def send(message):
        sent.append(message)

    with pytest.raises(StopIteration):
        get(asgi_app(registry), send).send(None)

    assert encode(registry) == sent[1]["body"]


def test_a_websocket_is_refused(registry):
    """By closing it before it was accepted, as the protocol wants."""
    assert [{"type": "websocket.close"}] == asyncio.run(get(asgi_app(registry), type="websocket"))


def test_headers_given_twice_are_one(registry):
    """As HTTP says of lists."""
    headers = [(b"accept-encoding", b"br"), (b"Accept-Encoding", b"gzip")]

    start, body = asyncio.run(get(asgi_app(registry), headers=headers))

    assert (b"content-encoding", b"gzip") in start["headers"]
    assert encode(registry) == gzip.decompress(body["body"])


def test_the_applications_of_vitals_have_metrics_and_health(vitals):
    """What `start` serves on a port of its own, in the same words."""
    vitals.operation("talker")
    with uvicorn_with(vitals.asgi_app()) as asgi, wsgiref_with(vitals.wsgi_app()) as wsgi:
        for port in (asgi, wsgi):
            status, headers, body = ask(port, "GET", "/healthz")

            assert (200, "application/json") == (status, headers["Content-Type"])
            assert b'"status": "green"' in body
            assert b"llmvitals_build_info" in ask(port, "GET", "/metrics")[2]
            assert b"llmvitals is alive\n" == ask(port, "GET", "/-/healthy")[2]


def test_a_scrape_is_not_kept_waiting_by_a_busy_executor(registry):
    """The loop's own threads may all be taken: that is when somebody wants to see numbers."""

    async def scenario():
        release = threading.Event()
        loop = asyncio.get_running_loop()
        busy = [loop.run_in_executor(None, release.wait, 20) for _ in range(64)]
        started = time.monotonic()
        sent = await get(asgi_app(registry))
        took = time.monotonic() - started
        release.set()
        await asyncio.gather(*busy)
        return sent[0]["status"], took < 5

    assert (200, True) == asyncio.run(scenario())
