"""KoboldCpp servers, well-behaved and hostile, as real servers on this machine."""

import contextlib
import json
import socket
import threading
import time

import pytest
from tests.exporter.reading import until, values

from llmvitals_exporter.collectors.koboldcpp import COLLECTOR, KOBOLDCPP, KoboldCpp, fetch

#: As version 1.102 answers.
PERF = {
    "last_process": 0.12, "last_eval": 4.0, "last_token_count": 180, "last_input_count": 900,
    "last_process_time": 0.108, "last_eval_time": 0.72, "last_process_speed": 8333.3, "last_eval_speed": 250.0,
    "last_seed": -1, "last_draft_success": 0, "last_draft_failed": 0, "total_gens": 42, "stop_reason": 1,
    "total_img_gens": 1, "total_tts_gens": 2, "total_transcribe_gens": 3, "queue": 1, "idle": 0,
    "hordeexitcounter": -1, "uptime": 3600.5, "idletime": 0.2, "quiet": False,
}  # fmt: skip


def http(body, status="200 OK", extra=""):
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body


class Kobold:
    """Listens, and answers each connection with the bytes that `answer` yields."""

    def __init__(self, answer):
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.url = f"http://{self.address}"
        self.requests = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with client, contextlib.suppress(OSError):
            self.requests.append(client.recv(4096).split(b"\r\n")[0].decode())
            for part in self._answer():
                client.sendall(part)

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture(name="kobold")
def _kobold():
    servers = []

    def make(answer):
        servers.append(Kobold(answer if callable(answer) else lambda: [answer]))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


def collector(*servers, wait=1.0):
    return KoboldCpp(KOBOLDCPP.parse([server.url for server in servers]), wait_seconds=wait)


def test_figures(kobold):
    """Every figure has its series; what is no number, or -1, has none."""
    server = kobold(http(PERF))
    found = values(COLLECTOR, collector(server))
    names = {
        "up": 1.0, "idle": 0.0, "queue_length": 1.0, "generations_total": 42.0, "image_generations_total": 1.0,
        "speech_generations_total": 2.0, "transcriptions_total": 3.0, "uptime_seconds": 3600.5, "idle_seconds": 0.2,
        "last_prompt_tokens": 900.0, "last_generated_tokens": 180.0, "last_process_seconds": 0.108,
        "last_generation_seconds": 0.72, "last_process_tokens_per_second": 8333.3,
        "last_generation_tokens_per_second": 250.0,
    }  # fmt: skip

    assert {f'llmvitals_koboldcpp_{name}{{server="{server.address}"}}': value for name, value in names.items()} == found
    assert ["GET /api/extra/perf HTTP/1.1"] == server.requests


def test_old_version(kobold):
    """A version that tells milliseconds a token has the speeds all the same, and lacks what it does not tell."""
    server = kobold(http({"last_process": 5.0, "last_eval": 8.0, "last_token_count": 80, "idle": 1, "queue": 0}))
    found = values(COLLECTOR, collector(server))

    assert 200.0 == found[f'llmvitals_koboldcpp_last_process_tokens_per_second{{server="{server.address}"}}']
    assert 125.0 == found[f'llmvitals_koboldcpp_last_generation_tokens_per_second{{server="{server.address}"}}']
    assert f'llmvitals_koboldcpp_generations_total{{server="{server.address}"}}' not in found


NOT_UP = {
    "not JSON": http(b"<html>"),
    "a list": http([1]),
    "other JSON": http({"detail": "not found"}),
    "deep JSON": http(b"[" * 60_000),
    "not UTF-8": http(b"\xff\xfe{}"),
    "empty": http(b""),
    "too long": http(b"[" + b"1," * 40_000 + b"1]"),
    "an error": http(PERF, status="500 Internal Server Error"),
    "not found": http(PERF, status="404 Not Found"),
    "a redirect": http(PERF, status="302 Found", extra="Location: http://169.254.169.254/\r\n"),
    "not HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "nothing": b"",
    "cut off": b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"queue',
    "endless header": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000,
}


@pytest.mark.parametrize("answer", NOT_UP.values(), ids=NOT_UP)
def test_anything_else_is_not_up(kobold, answer):
    """A server that gives no figures is not up, has no other series, and does not harm a good one beside it."""
    bad, good = kobold(answer), kobold(http(PERF))
    found = values(COLLECTOR, collector(bad, good))

    assert {f'llmvitals_koboldcpp_up{{server="{bad.address}"}}': 0.0} == {
        series: value for series, value in found.items() if bad.address in series
    }
    assert 1.0 == found[f'llmvitals_koboldcpp_up{{server="{good.address}"}}']


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-1", '"7"', "null", "true", "[1]", "1e400", "9" * 400])
def test_hostile_number_is_absent(kobold, value):
    """What is no finite number from 0 on has no series; the figures beside it have."""
    server = kobold(http(f'{{"queue": {value}, "total_gens": 5, "last_eval": {value}}}'.encode()))
    found = values(COLLECTOR, collector(server))

    assert {"up": 1.0, "generations_total": 5.0} == {
        series.removeprefix("llmvitals_koboldcpp_").partition("{")[0]: number for series, number in found.items()
    }


def test_refused():
    """A server that does not listen is not up."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    found = values(COLLECTOR, KoboldCpp(KOBOLDCPP.parse([f"http://127.0.0.1:{port}"])))

    assert {f'llmvitals_koboldcpp_up{{server="127.0.0.1:{port}"}}': 0.0} == found


def test_dripping_server_holds_up_nobody(kobold):
    """A server that drips its answer out costs the wait once, is not asked again, and leaves the others alone."""
    release = threading.Event()

    def drip():
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
        while not release.wait(0.05):
            yield b" "

    dripping, good = kobold(drip), kobold(http(PERF))
    source = collector(dripping, good, wait=0.3)
    started = time.monotonic()
    for _ in range(3):
        found = values(COLLECTOR, source)

        assert 0.0 == found[f'llmvitals_koboldcpp_up{{server="{dripping.address}"}}']
        assert 1.0 == found[f'llmvitals_koboldcpp_up{{server="{good.address}"}}']

    assert time.monotonic() - started < 3.0
    assert 1 == len(dripping.requests)

    release.set()
    until(lambda: values(COLLECTOR, source) and len(dripping.requests) > 1)


def test_server_label_is_host_and_port():
    """The label is what identifies the server, never a path or a password in its URL."""
    (server,) = KOBOLDCPP.parse(["https://[::1]/kobold/"])

    assert ("[::1]:443", "/kobold", True) == (server.label, server.path, server.secure)


def test_fetch_raises_for_the_caller(kobold):
    """What is wrong with a server's answer is said."""
    for answer, part in (([1], "something else than an object"), ({"a": 1}, "something else than performance figures")):
        (server,) = KOBOLDCPP.parse([kobold(http(answer)).url])
        with pytest.raises(ValueError, match=part):
            fetch(server)
