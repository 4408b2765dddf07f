"""The companion as a program: its command line, its end, its load generator, its page."""

import json
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
from tests.examples.companions import companion
from tests.examples.test_companion_agent import stored
from tests.examples.test_companion_faults import open_stream
from tests.servers import eventually, free_port, request, server
from websockets.sync.client import connect


def serve(*arguments, **environment):
    """The end of a companion that is not expected to start."""
    command = [sys.executable, "-m", "companion", "serve", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=20, env=environment or None)


def test_help_helps():
    """Every flag tells its environment variable and its default."""
    told = " ".join(serve("--help").stdout.split())

    assert "($COMPANION_LLM_URL; default: http://127.0.0.1:8081/v1)" in told
    assert "($LLMVITALS_COMPANION_PORT; default: 8080)" in told
    assert "0.2 with --demo-faults" in told


def test_all_mistakes_are_told():
    """Wrong flags and wrong variables are told together, each with what is allowed."""
    ended = serve("--port=http", "--llm-url=localhost", "--retries=99", COMPANION_RETRY_BASE_SECONDS="soon")

    assert 1 == ended.returncode
    assert "--port must be a port, a whole number from 0 to 65535, not 'http'" in ended.stderr
    assert "--llm-url must be a URL" in ended.stderr
    assert "--retries must be a whole number from 0 to 10, not '99'" in ended.stderr
    assert "$COMPANION_RETRY_BASE_SECONDS must be a number from 0 to 60, not 'soon'" in ended.stderr


@pytest.mark.parametrize("flag", ["--port", "--metrics-port"])
def test_a_taken_port_is_told(flag, tmp_path):
    """A port that is taken ends the start, with the flag to change."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = {"--port": free_port(), "--metrics-port": free_port(), flag: taken.getsockname()[1]}
        ended = serve(*(f"{name}={port}" for name, port in ports.items()), f"--data-dir={tmp_path}")

    assert 1 == ended.returncode
    assert flag in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_database_that_is_none_is_told(tmp_path):
    """A file that is no database ends the start in words, and is left as it is."""
    (tmp_path / "companion.db").write_text("x" * 5000)
    ended = serve(f"--port={free_port()}", f"--metrics-port={free_port()}", f"--data-dir={tmp_path}")

    assert 1 == ended.returncode
    assert "not a database" in ended.stderr
    assert "x" * 5000 == (tmp_path / "companion.db").read_text()


def test_orderly_end(faulty, tmp_path):
    """SIGTERM ends everything in seconds, a stream and a WebSocket open or not, and what was said is on disk."""
    with companion(faulty, tmp_path / "data") as ending:
        ending.say("Remember me.")
        faulty.turn(stall_after_chunks=2)
        with open_stream(ending) as response, connect(f"ws{ending.url[4:]}/ws?user=wendy", proxy=None) as socket_:
            response.readline()
            socket_.send(json.dumps({"message": "And me?", "mode": "thinker"}))
            eventually(lambda: faulty.ledger()["in_flight"] == 2, what="two open answers")
            begun = time.monotonic()
            ending.server.process.send_signal(signal.SIGTERM)

            assert 0 == ending.server.process.wait(15)
        assert time.monotonic() - begun < 8
        assert 1 == stored(ending, "Remember me.")
    eventually(lambda: faulty.ledger()["in_flight"] == 0, what="the end of both requests to the model")
    assert "Traceback" not in ending.server.log.read_text()


def test_load_survives_a_restart_of_the_companion(faulty, tmp_path):
    """The load generator goes on through a crash of the companion, counts what failed, and ends cleanly when told."""
    port, metrics_port = free_port(), free_port()
    flags = [f"--port={port}", f"--metrics-port={metrics_port}", "--demo-faults", f"--data-dir={tmp_path / 'data'}"]
    flags += [f"--llm-url={faulty.url()}", f"--backup-url={faulty.url('backup')}"]
    command = [sys.executable, "-m", "companion", "serve", *flags]
    url = f"http://127.0.0.1:{port}"
    log = tmp_path / "load.log"
    with log.open("wb") as out, server(command, port=port, log=tmp_path / "first.log", ready="/healthz"):
        loading = subprocess.Popen(
            [sys.executable, "-m", "companion", "load", f"--url={url}", "--rate=20", "--every=0.5", "--seed=1"],
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            eventually(lambda: "from the cache" in log.read_text(), what="a summary with answers")
            request(f"{url}/demo/crash", method="POST")
            eventually(lambda: "unreachable" in log.read_text(), what="a summary with failures")
            lines = len(log.read_text().splitlines())
            with server(command, port=port, log=tmp_path / "second.log", ready="/healthz"):
                eventually(
                    lambda: any(
                        re.search(r" [1-9]\d* answered", line) and "failed" not in line
                        for line in log.read_text().splitlines()[lines + 1 :]
                    ),
                    what="answers after the restart",
                )
                users = re.search(
                    r"^llmvitals_user_profiles_active (\d+)",
                    request(f"http://127.0.0.1:{metrics_port}/metrics").text,
                    re.MULTILINE,
                )
                assert 1 <= int(users[1]) <= 8
                loading.send_signal(signal.SIGTERM)
                assert 0 == loading.wait(10)
        finally:
            loading.kill()
            loading.wait()
    assert re.search(r"load: stopped\. In all: \d+ requests", log.read_text())
    assert "Traceback" not in log.read_text()


def test_load_that_reaches_nobody_says_so(tmp_path):
    """Without a companion the load generator counts and goes on, and ends by itself when its time is over."""
    command = [sys.executable, "-m", "companion", "load", f"--url=http://127.0.0.1:{free_port()}"]
    ended = subprocess.run(
        [*command, "--rate=50", "--seconds=1", "--every=0.4"], capture_output=True, text=True, check=False
    )

    assert 0 == ended.returncode
    assert "unreachable" in ended.stdout
    assert "" == ended.stderr
