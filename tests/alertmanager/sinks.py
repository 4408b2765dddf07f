"""Who is told: an HTTP server and an SMTP server that keep what they get."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword


@dataclass(frozen=True, slots=True)
class Delivery:
    """One POST as it arrived."""

    at: float
    path: str
    authorization: str | None
    body: dict


@dataclass(slots=True)
class HttpSink:
    """Answers 200, and for the first *failures* requests 500."""

    url: str
    failures: int = 0
    deliveries: list[Delivery] = field(default_factory=list)

    def alerts(self, path: str) -> Iterator[tuple[Delivery, dict]]:
        """Every alert posted to *path*, oldest first, with its delivery."""
        for delivery in list(self.deliveries):
            if delivery.path == path:
                yield from ((delivery, alert) for alert in delivery.body["alerts"])


@contextlib.contextmanager
def http_sink(failures: int = 0) -> Iterator[HttpSink]:
    sink = HttpSink("", failures)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            delivery = Delivery(time.time(), self.path, self.headers["Authorization"], body)
            failing = sink.failures > 0
            sink.failures -= failing
            if not failing:
                sink.deliveries.append(delivery)
            self.send_response(500 if failing else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments):
            """Not on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sink.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield sink
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass(slots=True)
class Mailbox:
    """The mail that arrived, and who logged in."""

    address: str = ""
    mails: list[tuple[list[str], EmailMessage]] = field(default_factory=list)
    logins: list[tuple[str, str]] = field(default_factory=list)

    async def handle_DATA(self, _server, _session, envelope):  # noqa: N802 -- aiosmtpd calls it so
        mail = message_from_bytes(envelope.content, policy=policy.default)
        self.mails.append((envelope.rcpt_tos, mail))
        return "250 OK"


@contextlib.contextmanager
def smtp_sink(port: int) -> Iterator[Mailbox]:
    """An SMTP server on 127.0.0.1 that offers a login, any will do."""
    mailbox = Mailbox(address=f"127.0.0.1:{port}")

    def authenticate(_server, _session, _envelope, _mechanism, data):
        assert isinstance(data, LoginPassword)
        mailbox.logins.append((data.login.decode(), data.password.decode()))
        return AuthResult(success=True)

    class Server(Controller):
        def factory(self):
            # Its LOGIN asks for "User Name", and Alertmanager answers to "Username:" only.
            return SMTP(mailbox, authenticator=authenticate, auth_require_tls=False, auth_exclude_mechanism=["LOGIN"])

    controller = Server(mailbox, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield mailbox
    finally:
        controller.stop()
