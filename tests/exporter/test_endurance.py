"""The program over many scrapes, and among clients that want it no good."""

import os
import re
import socket
import ssl
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import trustme
from tests.exporter.reading import until
from tests.exporter.test_program import serving

pytestmark = pytest.mark.stack


class Watched:
    """What a process holds, as the kernel counts it."""

    def __init__(self, pid):
        self._folder = Path(f"/proc/{pid}")

    def _status(self, key):
        return int(re.search(rf"^{key}:\s+(\d+)", (self._folder / "status").read_text(), re.MULTILINE)[1])

    @property
    def threads(self):
        return self._status("Threads")

    @property
    def files(self):
        return len(os.listdir(self._folder / "fd"))  # noqa: PTH208 -- names only

    @property
    def resident_bytes(self):
        return 1024 * self._status("VmRSS")


class Scraper:
    """A client that keeps its connection."""

    def __init__(self, address, context=None):
        port = int(address.rpartition(":")[2])
        plain = socket.create_connection(("127.0.0.1", port), 10)
        self._socket = plain if context is None else context.wrap_socket(plain, server_hostname="127.0.0.1")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    def scrape(self, path="/metrics", accept="*/*"):
        """The body of the answer."""
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n".encode())
        head, _, body = self._until(b"", lambda data: b"\r\n\r\n" in data).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        length = int(re.search(rb"Content-Length: (\d+)", head)[1])
        return self._until(body, lambda data: len(data) >= length)

    def _until(self, data, enough):
        while not enough(data):
            more = self._socket.recv(1 << 16)
            assert more, "the server hung up"
            data += more
        return data


# --- Many scrapes -----------------------------------------------------------------------------------------------------

ACCEPT = ("text/plain", "application/openmetrics-text;version=1.0.0")
#: What the allocator may take between two looks without anything being lost.
GROWTH_BYTES_A_THOUSAND = 500_000


def test_three_thousand_scrapes():
    """Memory, threads and open files are after 3,000 scrapes what they were after 1,000."""
    with serving("--watch", "me=llmvitals", "--without", "nvidia,amd") as (process, address):
        watched, looks = Watched(process.pid), []
        with Scraper(address) as client:
            for done in range(1, 3001):
                # The processes are most of the time, and of this one nothing changes from scrape to scrape.
                path = "/metrics" if done % 10 == 0 else "/metrics?exclude[]=processes"
                body = client.scrape(path, ACCEPT[done % 2])
                if done % 1000 == 0:
                    # Itself, who accepts, and ours: a thread of a scrape may end just after the answer.
                    until(lambda: watched.threads == 3)
                    looks.append((watched.resident_bytes, watched.files))

    assert b'llmvitals_process_group_processes{group="me"}' in body
    (first, files), _, (last, files_at_last) = looks
    assert last - first < 2 * GROWTH_BYTES_A_THOUSAND
    assert files == files_at_last


# --- Clients that want it no good -------------------------------------------------------------------------------------


@pytest.fixture(name="authority", scope="module")
def _authority():
    return trustme.CA()


@pytest.fixture(name="trusting", scope="module")
def _trusting(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(name="secure", scope="module")
def _secure(authority, tmp_path_factory):
    """The program behind TLS, and its address."""
    folder = tmp_path_factory.mktemp("web")
    made = authority.issue_cert("127.0.0.1")
    made.private_key_pem.write_to_path(str(folder / "server.key"))
    made.cert_chain_pems[0].write_to_path(str(folder / "server.crt"))
    config = folder / "web.yml"
    config.write_text("tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n", encoding="utf-8")
    with serving("--web-config", str(config), "--only", "load,memory,cpu") as started:
        yield started


@contextmanager
def dripping(connection, text):
    """A client that sends *text* a byte at a time, for as long as it is listened to."""
    stop = threading.Event()

    def drip():
        for byte in text:
            try:
                connection.sendall(bytes([byte]))
            except OSError:  # Hung up on, as is due.
                return
            if stop.wait(0.2):
                return

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)


def test_idle_and_slow_clients(secure, trusting):
    """Fifty idle TLS clients and two that drip keep no scrape from its second, and leave no thread behind."""
    process, address = secure
    port = int(address.rpartition(":")[2])
    watched = Watched(process.pid)
    with Scraper(address, trusting) as client:
        client.scrape()
    until(lambda: watched.threads == 2)  # Itself, and who accepts.
    with ExitStack() as stack:

        def connected():
            return stack.enter_context(socket.create_connection(("127.0.0.1", port), 10))

        def secured():
            return stack.enter_context(trusting.wrap_socket(connected(), server_hostname="127.0.0.1"))

        for _ in range(25):
            connected()  # And says nothing at all.
            secured()  # And asks nothing.
        stack.enter_context(dripping(connected(), b"\x16\x03\x01\x02\x00" + b"\x01" * 500))
        stack.enter_context(dripping(secured(), b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 500))
        until(lambda: watched.threads >= 52)
        seconds = []
        for _ in range(5):
            started = time.monotonic()
            with Scraper(address, trusting) as client:
                assert b"node_load1 " in client.scrape()
            seconds.append(time.monotonic() - started)

        assert max(seconds) < 1.0
        # None of them has gone by itself: it is the server that ends them.
        until(lambda: watched.threads == 2, seconds=20)
