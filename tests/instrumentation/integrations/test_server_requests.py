"""Starlette, ASGI and WSGI."""

import asyncio
import contextvars
import wsgiref.util
from wsgiref.validate import validator

import pytest

import llmvitals
from llmvitals.integrations import ASGIMiddleware, WSGIMiddleware

starlette = pytest.importorskip("starlette")


def requests(vitals):
    """Method, route, status and error of what was answered."""
    wanted = ("http_request_method", "http_route", "http_response_status_code", "error_type")
    return {
        tuple(dict(labels)[name] for name in wanted): value
        for labels, value in vitals.samples("http_server_request_duration_seconds_count").items()
    }


def active(vitals):
    return vitals.value("http_server_active_requests")


def get(app, path, method="GET"):
    """Ask *app* as a server would; the messages that it sent."""
    sent, received = [], []

    async def receive():
        if received:
            await asyncio.Event().wait()  # The client stays connected.
        received.append(True)
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "root_path": "", "query_string": b"", "headers": []}

    async def main():
        await app(scope, receive, send)

    asyncio.run(main())
    return sent


@pytest.fixture(name="app")
def _app():
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.responses import PlainTextResponse, StreamingResponse
    from starlette.routing import Mount, Route

    async def user(request):
        return PlainTextResponse(request.path_params["name"])

    async def broken(request):
        raise ZeroDivisionError

    async def refused(request):
        return PlainTextResponse("", status_code=503)

    async def stream(request):
        async def parts():
            yield "a"
            yield "b"

        async def afterwards():
            raise LookupError("in the background")

        return StreamingResponse(parts(), background=BackgroundTask(afterwards))

    return Starlette(
        routes=[
            Route("/users/{name}", user),
            Route("/broken", broken),
            Route("/refused", refused),
            Route("/stream", stream),
            Mount("/api/{version}", routes=[Route("/users/{name:str}", user)]),
            Mount("/inner", app=Starlette(routes=[Route("/users/{name}", user)])),
        ]
    )


def test_the_route_is_a_template(vitals, app):
    """Of mounts and of mounted applications too, and never the raw path."""
    for path in ("/users/ann", "/users/bob", "/api/v1/users/ann", "/inner/users/ann", "/nowhere/ann"):
        get(app, path)

    assert {
        ("GET", "/users/{name}", "200", ""): 2,
        ("GET", "/api/{version}/users/{name:str}", "200", ""): 1,
        ("GET", "/inner/users/{name}", "200", ""): 1,
        ("GET", "", "404", ""): 1,
    } == requests(vitals)
    assert 0 == active(vitals)
    assert "ann" not in str(vitals.samples("http_server_request_duration_seconds_count"))


def test_errors_by_status_and_by_exception(vitals, app):
    """The exception comes out, as the server expects."""
    get(app, "/refused")
    get(app, "/users/ann", method="BREW")
    with pytest.raises(ZeroDivisionError):
        get(app, "/broken")

    assert {
        ("GET", "/refused", "503", "503"): 1,
        ("_OTHER", "/users/{name}", "405", ""): 1,
        # Starlette answers 500, and raises for the server's log.
        ("GET", "/broken", "500", "500"): 1,
    } == requests(vitals)
    assert 0 == active(vitals)


def test_a_stream_ends_with_its_last_byte(vitals, app):
    """What runs in the background after it is not the answer."""
    with pytest.raises(LookupError):
        get(app, "/stream")

    assert {("GET", "/stream", "200", ""): 1} == requests(vitals)


def test_middleware_for_any_asgi_application(vitals):
    """The messages are the application's own; its context is the caller's; nothing is counted twice."""
    name = contextvars.ContextVar("name", default="nobody")
    seen = []
    body = {"type": "http.response.body", "body": b"x"}

    async def app(scope, receive, send):
        seen.append((name.get(), active(vitals)))
        scope["llmvitals.route"].append("/things/{id}")
        await send({"type": "http.response.start", "status": 201, "headers": []})
        await send(body)

    name.set("caller")
    sent = get(ASGIMiddleware(ASGIMiddleware(app), vitals), "/things/7")

    assert sent[1] is body
    assert [("caller", 1)] == seen
    assert {("GET", "/things/{id}", "201", ""): 1} == requests(vitals)


def test_middleware_around_starlette(vitals, app):
    """The outermost counts, with the routes of within."""
    get(ASGIMiddleware(app, vitals), "/users/ann")

    assert {("GET", "/users/{name}", "200", ""): 1} == requests(vitals)


def test_an_answer_that_is_cancelled(vitals):
    """Or fails before its start: the error is the application's."""

    async def cancelled(scope, receive, send):
        raise asyncio.CancelledError

    async def failed(scope, receive, send):
        raise LookupError

    async def websocket(scope, receive, send):
        assert "llmvitals.route" not in scope

    with pytest.raises(asyncio.CancelledError):
        get(ASGIMiddleware(cancelled, vitals), "/")
    with pytest.raises(LookupError):
        get(ASGIMiddleware(failed, vitals), "/")
    asyncio.run(ASGIMiddleware(websocket, vitals)({"type": "websocket"}, None, None))

    assert {("GET", "", "", "CancelledError"): 1, ("GET", "", "500", "LookupError"): 1} == requests(vitals)
    assert 0 == active(vitals)


def ask_wsgi(app, **environ):
    """Ask *app* as a server would; status and body."""
    wsgiref.util.setup_testing_defaults(environ)
    started = []

    def start_response(status, headers, exc_info=None):
        started.append(status)
        return lambda data: None

    body = app(environ, start_response)
    try:
        return started, b"".join(body)
    finally:
        if hasattr(body, "close"):
            body.close()


def test_wsgi(vitals):
    """By the template that a function gives; it conforms to the standard on both sides."""

    def app(environ, start_response):
        start_response("201 Created", [("Content-Type", "text/plain")])
        return [b"a", b"b"]

    watched = validator(WSGIMiddleware(validator(app), vitals, route=lambda environ: "/things/{id}"))

    assert (["201 Created"], b"ab") == ask_wsgi(watched, PATH_INFO="/things/7", SCRIPT_NAME="", QUERY_STRING="")
    assert {("GET", "/things/{id}", "201", ""): 1} == requests(vitals)
    assert 0 == active(vitals)


def test_wsgi_knows_what_frameworks_leave(vitals):
    """Flask's rule, Bottle's; and a route function that fails is our fault, not the application's."""
    from types import SimpleNamespace

    def app(environ, start_response):
        start_response("200 OK", [])
        if environ["PATH_INFO"] == "/flask":
            environ["werkzeug.request"] = SimpleNamespace(url_rule=SimpleNamespace(rule="/users/<name>"))
        elif environ["PATH_INFO"] == "/bottle":
            environ["bottle.route"] = SimpleNamespace(rule="/users/<id:int>")
        return []

    def broken(environ):
        raise KeyError("route")

    for path in ("/flask", "/bottle", "/none"):
        ask_wsgi(WSGIMiddleware(app, vitals), PATH_INFO=path)
    ask_wsgi(WSGIMiddleware(app, vitals, route=broken))

    assert {
        ("GET", "/users/<name>", "200", ""): 1,
        ("GET", "/users/<id:int>", "200", ""): 1,
        ("GET", "", "200", ""): 2,
    } == requests(vitals)
    assert 1 == vitals.value("llmvitals_instrumentation_errors_total", component="wsgi")


def test_wsgi_errors_and_unfinished_bodies(vitals):
    """At the call, amid the body, and a body that the server closes early, which is told."""
    closed = []

    def refuses(environ, start_response):
        raise LookupError

    def breaks(environ, start_response):
        start_response("200 OK", [])
        yield b"a"
        raise ValueError

    class Body:
        def __iter__(self):
            return iter([b"a", b"b"])

        def __len__(self):
            return 2

        def close(self):
            closed.append(True)

    def left(environ, start_response):
        start_response("200 OK", [])
        return Body()

    with pytest.raises(LookupError):
        ask_wsgi(WSGIMiddleware(refuses, vitals))
    with pytest.raises(ValueError):  # noqa: PT011 -- the very one
        ask_wsgi(WSGIMiddleware(breaks, vitals))
    environ = {}
    wsgiref.util.setup_testing_defaults(environ)
    body = WSGIMiddleware(left, vitals)(environ, lambda *args: None)
    assert 2 == len(body)
    assert b"a" == next(iter(body))
    assert 1 == active(vitals)
    body.close()

    assert [True] == closed
    assert {
        ("GET", "", "500", "LookupError"): 1,
        ("GET", "", "200", "ValueError"): 1,
        ("GET", "", "200", ""): 1,
    } == requests(vitals)
    assert 0 == active(vitals)


def test_a_file_goes_to_the_server_as_it_is(vitals, tmp_path):
    """So that it can be sent by the kernel."""
    path = tmp_path / "file"
    path.write_bytes(b"content")

    with path.open("rb") as file:
        wrapper = wsgiref.util.FileWrapper(file)

        def app(environ, start_response):
            start_response("200 OK", [])
            return wrapper

        environ = {"wsgi.file_wrapper": wsgiref.util.FileWrapper}
        wsgiref.util.setup_testing_defaults(environ)

        assert wrapper is WSGIMiddleware(app, vitals)(environ, lambda *args: None)
    assert 0 == active(vitals)


def test_without_vitals_nothing_happens():
    """The application is called as it is."""

    def app(environ, start_response):
        return body

    body = []
    assert body is WSGIMiddleware(app)({}, None)


def test_uninstrument_restores_exactly():
    """The very same functions."""
    from starlette.applications import Starlette
    from starlette.routing import Mount, Route

    methods = [(Starlette, "__call__"), (Mount, "handle"), (Route, "handle")]
    before = [vars(owner)[name] for owner, name in methods]
    assert "starlette" in llmvitals.instrument()
    assert not {id(vars(owner)[name]) for owner, name in methods} & set(map(id, before))
    llmvitals.uninstrument()

    assert before == [vars(owner)[name] for owner, name in methods]
