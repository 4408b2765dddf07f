import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import llmvitals
from llmvitals import testing


@pytest.fixture
def vitals():
    """Vital signs of their own, with every integration switched on."""
    with testing.fresh() as fresh:
        llmvitals.instrument(fresh, providers={"127.0.0.1": "primary"})
        yield fresh
        llmvitals.uninstrument()


def durations(vitals, **labels):
    """How many calls have ended."""
    return vitals.value("gen_ai_client_operation_duration_seconds_count", **labels)


def tokens(vitals):
    """Tokens by their type; of calls whose other labels are the same."""
    return {
        dict(labels)["gen_ai_token_type"]: value
        for labels, value in vitals.samples("gen_ai_client_token_usage_sum").items()
    }


def ends(vitals):
    """How often a stream ended for each reason."""
    return {dict(labels)["reason"]: value for labels, value in vitals.samples("llmvitals_stream_ends_total").items()}


class Handler(BaseHTTPRequestHandler):
    """Answers with the status that the path says; /slow waits until the server's `go` is set; /moved redirects."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        name = self.path.strip("/")
        if name == "slow":
            self.server.go.wait(10)
        self.send_response(int(name) if name.isdigit() else 302 if name == "moved" else 200)
        if name == "moved":
            self.send_header("Location", "/200")
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    do_POST = do_BREW = do_GET  # noqa: N815 -- http.server's way


class Server(ThreadingHTTPServer):
    # A client that hangs up is what some tests are about.
    def handle_error(self, request, client_address):
        pass


@pytest.fixture
def http_server():
    """A real server; ``url`` says where."""
    with Server(("127.0.0.1", 0), Handler) as server:
        server.go = threading.Event()
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.go.set()
        server.shutdown()
        thread.join()
