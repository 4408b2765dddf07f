"""The page about the integrations: each of its programs runs, and shows what its section says."""

import json
import re
import threading
import wsgiref.util
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from tests.instrumentation.integrations.conftest import Server
from tests.instrumentation.integrations.test_anthropic import EVENTS
from tests.instrumentation.integrations.test_redis import Handler as RedisHandler
from tests.instrumentation.integrations.test_redis import Server as RedisServer
from tests.instrumentation.integrations.test_server_requests import get

import llmvitals
from llmvitals import integrations, testing
from llmvitals.exposition import encode

PAGE = Path(__file__).parents[3] / "docs" / "integrations.md"
# Each has a title, a text, a program, and what that shows.
SECTION = re.compile(r"^### (.+?)\n\n(.*?)```python\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", re.DOTALL | re.MULTILINE)
SECTIONS = SECTION.findall(PAGE.read_text())
USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
COMPLETION = {"id": "1", "object": "chat.completion", "created": 1, "model": "talker", "choices": [], "usage": USAGE}
PARTS = {"model": "talker", "message": {"role": "assistant", "content": "Fine"}}
REPLIES = {
    "/v1/chat/completions": json.dumps(COMPLETION),
    "/v1/messages": "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in EVENTS),
    "/api/chat": json.dumps(PARTS | {"done": True, "prompt_eval_count": 7, "eval_count": 5}),
}


class Handler(BaseHTTPRequestHandler):
    """Answers as the provider whose path was asked."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        text = REPLIES.get(self.path, "{}")
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream" if text.startswith("event") else "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    do_POST = do_GET  # noqa: N815 -- http.server's way


@pytest.fixture(name="ports", scope="module")
def _ports():
    """Where the servers of the page are, by the ports that the page gives them."""
    with Server(("127.0.0.1", 0), Handler) as web, RedisServer(("127.0.0.1", 0), RedisHandler) as redis:
        redis.entries = {}
        threads = [threading.Thread(target=server.serve_forever, args=(0.01,)) for server in (web, redis)]
        for thread in threads:
            thread.start()
        yield {"8081": str(web.server_port), "6379": str(redis.server_address[1])}
        for server, thread in zip((web, redis), threads, strict=True):
            server.shutdown()
            thread.join()


@pytest.fixture(name="vitals")
def _vitals():
    """As the page's first block makes them."""
    with testing.fresh() as vitals:
        llmvitals.instrument(vitals)
        yield vitals
        llmvitals.uninstrument()


@pytest.mark.parametrize("section", SECTIONS, ids=[section[0] for section in SECTIONS])
def test_a_section_shows_what_it_says(vitals, ports, section):
    """Its program runs, the metrics are those that it shows, and every family that its text names in full is there."""
    title, text, code, shown = section
    for package in re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE):
        pytest.importorskip(package)
    for port, free in ports.items():
        code = code.replace(port, free)
    scope = {"vitals": vitals, "__name__": "__main__"}

    exec(compile(code, f"{PAGE}: {title}", "exec"), scope)
    ask(scope.get("app"))
    page = encode(vitals.registry).decode()
    for port, free in ports.items():
        page = page.replace(f'"{free}"', f'"{port}"')
    if title == "ollama":
        scope["client"]._client.close()  # The oldest has no way of its own.

    named = re.findall(r"`((?:gen_ai|llmvitals|http|db)_\w+)`", text)
    # Those of a client that is closed by now are gone again; that they were there is what counts.
    families = set(vitals.recorder._series)
    assert shown.splitlines(), "what the program makes of these metrics"
    assert [] == [line for line in shown.splitlines() if line not in page.splitlines()]
    assert named
    # What only more than one program can show: nothing was cleared, no breaker changed, no pool was full.
    rare = {"cache_evictions_total", "circuit_breaker_transitions_total", "pool_wait_seconds", "pool_max_connections"}
    rare |= {"pool_timeouts_total"}
    assert set() == set(named) - families - {f"llmvitals_{name}" for name in rare}


def ask(app):
    """Send a request to an *app* that a section has made."""
    if isinstance(app, integrations.WSGIMiddleware):
        environ = {}
        wsgiref.util.setup_testing_defaults(environ)
        list(app(environ, lambda *args: None))
    elif app is not None:
        get(app, "/users/ann")


def test_every_library_has_a_section():
    """None is watched in silence."""
    titles = " ".join(title for title, *_ in SECTIONS).lower()

    assert [] == [library for library, _, _ in integrations._LIBRARIES if library not in titles]
    assert [] == [name for name in integrations.__all__ if name not in PAGE.read_text()]
