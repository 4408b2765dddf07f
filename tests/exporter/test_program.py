"""The program as it is started: its output, its exit status, its end."""

import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

import pytest

PROGRAM = [sys.executable, "-m", "llmvitals_exporter"]


def run(*arguments):
    return subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, timeout=30, check=False)


@contextmanager
def serving(*arguments, **options):
    """The running program and its address; *options* are Popen's."""
    command = [*PROGRAM, "--port", "0", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options) as process:
        try:
            line = process.stderr.readline()
            yield process, re.search(r"https?://127\.0\.0\.1:\d+", line)[0]
        finally:
            process.kill()


def get(url):
    with urllib.request.urlopen(url, timeout=10) as response:
        return response.status, response.headers["Content-Type"], response.read().decode()


def test_serves_and_ends():
    """It serves metrics and its health on this machine, and SIGTERM ends it within two seconds."""
    with serving("--watch", "me=no such process") as (process, address):
        status, kind, text = get(f"{address}/metrics")

        assert (200, "text/plain; version=0.0.4; charset=utf-8") == (status, kind)
        assert 'llmvitals_scrape_collector_success{collector="cpu"} 1.0' in text
        assert 'llmvitals_process_group_processes{group="me"} 0.0' in text
        assert (200, "healthy\n") == get(f"{address}/-/healthy")[::2]

        started = time.monotonic()
        process.send_signal(signal.SIGTERM)

        assert 0 == process.wait(10)
        assert time.monotonic() - started < 2.0


def test_start_asks_no_collector():
    """Starting reads nothing that can hang: a server that never answers delays the first scrape, not the start."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with serving("--koboldcpp", f"http://127.0.0.1:{port}") as (_, address):
            assert (200, "healthy\n") == get(f"{address}/-/healthy")[::2]
            started = time.monotonic()
            text = get(f"{address}/metrics")[2]

            assert time.monotonic() - started < 3.0
            assert f'llmvitals_koboldcpp_up{{server="127.0.0.1:{port}"}} 0.0' in text
            assert 'llmvitals_scrape_collector_success{collector="koboldcpp"} 1.0' in text


def test_port_taken():
    """A taken port is told in one line, with what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("--port", str(port))

    assert 1 == result.returncode
    assert f"127.0.0.1:{port}" in result.stderr
    assert "--port" in result.stderr
    assert "Traceback" not in result.stderr


def test_once():
    """--once prints the metrics, and nothing else, to standard output."""
    result = run("--once", "--only", "load")

    assert (0, "") == (result.returncode, result.stderr)
    assert result.stdout.startswith("# HELP node_load1 ")


def test_check():
    """--check tells each collector's state, and fails when one fails."""
    good, bad = run("--check", "--only", "load,memory"), run("--check", "--only", "load,nvidia", "--nvidia", "on")

    assert 0 == good.returncode
    assert re.search(r"^load +ok +3 series in ", good.stdout, re.MULTILINE)
    if "nvidia" in bad.stdout and "ok" not in bad.stdout.split("nvidia", 1)[1].split("\n")[0]:  # No driver here.
        assert 1 == bad.returncode
        assert "1 of 2 collectors failed" in bad.stdout


def test_check_of_certificates(tmp_path):
    """--check reads the web configuration's files, too; what cannot be used is told and nothing else."""
    for name in ("server.crt", "server.key"):
        (tmp_path / name).write_text("no certificate")
    (tmp_path / "web.yml").write_text("tls_server_config: {cert_file: server.crt, key_file: server.key}")
    result = run("--check", "--only", "load", "--web-config", str(tmp_path / "web.yml"))

    assert (2, "") == (result.returncode, result.stdout)
    assert "are no usable pair" in result.stderr


def test_list():
    """--list tells every collector."""
    assert 17 == len(run("--list").stdout.splitlines())


def test_wrong_command_line():
    """A wrong command line starts nothing, and tells every mistake on a line of its own."""
    result = run("--port", "x", "--watch", "y")

    assert 2 == result.returncode
    assert 2 == len(result.stderr.splitlines())


@pytest.mark.parametrize(
    "module", ["llmvitals_exporter", "llmvitals_exporter.catalogue", "llmvitals_exporter.collectors"]
)
def test_import_touches_no_driver(module):
    """Importing does not load NVML; only the child process ever does."""
    code = f"import sys, {module}; print([name for name in sys.modules if 'pynvml' in name])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)

    assert "[]\n" == result.stdout
