"""The program on machines that lack something or are broken: a clear line, and the rest is served."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from tests.exporter.reading import LINUX, until
from tests.exporter.test_program import PROGRAM, get, run, serving
from tests.servers import free_port


def successes(text):
    """By collector, whether it gave all its readings."""
    lines = [line for line in text.splitlines() if line.startswith("llmvitals_scrape_collector_success{")]
    return {line.split('"')[1]: line.endswith(" 1.0") for line in lines}


def scraped(address):
    """The text of a scrape, and the seconds that it took."""
    started = time.monotonic()
    text = get(f"{address}/metrics")[2]
    return text, time.monotonic() - started


def at_start(folder, code):
    """An environment in which *code* runs at the start of every Python process."""
    (folder / "sitecustomize.py").write_text(code, encoding="utf-8")
    return {**os.environ, "PYTHONPATH": str(folder)}


def line_about(process, word):
    """The next line of the log that has this word in it."""
    for line in process.stderr:
        if word in line:
            return line
    raise AssertionError(f"the log ended without a line about {word}")


def test_no_driver(tmp_path):
    """Without a driver's package, or without a driver, a GPU that was asked for has failed in one line, alone."""
    environment = at_start(tmp_path, "import sys; sys.modules['pynvml'] = None")
    only = ["--only", "load,memory,nvidia"]
    with serving(*only, "--nvidia", "on", env=environment) as (process, address):
        until(lambda: "nvidia" in successes(scraped(address)[0]))
        text, _ = scraped(address)

        assert {"load": True, "memory": True, "nvidia": False} == successes(text)
        assert "collector nvidia failed: nvidia-ml-py is not installed\n" in line_about(process, "not installed")
    with serving(*only, env=environment) as (_, address):
        assert {"load": True, "memory": True} == successes(scraped(address)[0])


def test_driver_that_cannot_be_asked(tmp_path):
    """When the child that asks the driver cannot be started, the GPUs have failed, and the program has not."""
    missing = at_start(tmp_path, "import sys; sys.executable = '/nowhere/python'")
    with serving("--only", "load,nvidia", "--nvidia", "on", env=missing) as (process, address):
        assert {"load": True, "nvidia": False} == successes(scraped(address)[0])
        assert "could not start /nowhere/python: " in line_about(process, "collector nvidia failed")


def test_full_disk():
    """A log that cannot be written, because the disk is full, changes nothing of what is served, or of the end."""
    port = free_port()
    command = [*PROGRAM, "--port", str(port), "--only", "memory,nvidia", "--nvidia", "on"]
    with Path("/dev/full").open("w", encoding="utf-8") as full, subprocess.Popen(command, stderr=full) as process:
        try:
            until(lambda: answers(port))
            for _ in range(3):
                assert {"memory": True, "nvidia": False} == successes(scraped(f"http://127.0.0.1:{port}")[0])
            process.send_signal(signal.SIGTERM)

            assert 0 == process.wait(10)
        finally:
            process.kill()


def answers(port):
    """Whether somebody listens."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


HANGS = """
import os, threading
statvfs = os.statvfs
def hangs(path):
    if path == {path!r}:
        threading.Event().wait()
    return statvfs("/")
os.statvfs = hangs
"""


@pytest.mark.parametrize("path", ["/srv/gone", "/"], ids=["a network mount", "a disk"])
def test_hung_mount(tmp_path, path):
    """A mount that never answers costs its own series, or its collector; then no scrape waits for it."""
    environment = at_start(tmp_path, HANGS.format(path=path))
    options = ["--procfs", f"{LINUX}/proc", "--only", "filesystem,load,memory", "--collector-timeout", "1.5"]
    with serving(*options, env=environment) as (process, address):
        text, seconds = scraped(address)
        again, later = scraped(address)

        assert {"filesystem": path != "/", "load": True, "memory": True} == successes(text) == successes(again)
        assert seconds < 3.0
        assert later < 1.0
        if path == "/":
            assert "collector filesystem stuck: took longer than 1.5 s\n" in line_about(process, "stuck")
        else:
            assert (
                'node_filesystem_device_error{device="//gone/share",fstype="cifs",mountpoint="/srv/gone"} 1.0' in text
            )
            assert 'node_filesystem_size_bytes{device="/dev/nvme0n1p1",fstype="ext4",mountpoint="/"}' in text


def test_wrong_files(tmp_path):
    """A settings file or a web configuration that is none is told in a line each, and nothing starts."""
    for name in ("exporter.yml", "web.yml"):
        (tmp_path / name).write_text("- nothing of the kind\n", encoding="utf-8")
    result = run("--config", str(tmp_path / "exporter.yml"), "--web-config", str(tmp_path / "web.yml"))

    assert (2, "") == (result.returncode, result.stdout)
    assert ["exporter.yml", "web.yml"] == sorted(
        name for line in result.stderr.splitlines() for name in ("exporter.yml", "web.yml") if name in line
    )
    assert "Traceback" not in result.stderr


def test_kernel_files_that_are_gone(tmp_path):
    """A procfs with nothing in it starts the program all the same: each collector that needs it fails by itself."""
    with serving("--procfs", str(tmp_path), "--watch", "me=x", "--without", "nvidia,amd") as (process, address):
        text, _ = scraped(address)
        told = successes(text)

        assert {"cpu", "memory", "load", "system", "processes"} <= {name for name, good in told.items() if not good}
        assert "llmvitals_exporter_build_info{" in text
        assert str(tmp_path) in line_about(process, "collector processes failed")


def test_stopped_driver():
    """A child that asks the driver, stopped dead, costs a scrape a moment and the GPU's series, and delays no end."""
    with serving("--nvidia", "demo", "--only", "load,nvidia") as (process, address):
        until(lambda: successes(scraped(address)[0]).get("nvidia"))
        (child,) = psutil.Process(process.pid).children()
        child.suspend()
        text, seconds = scraped(address)

        assert {"load": True, "nvidia": False} == successes(text)
        assert "llmvitals_gpu_info{" not in text
        assert seconds < 2.0

        started = time.monotonic()
        process.send_signal(signal.SIGTERM)

        assert 0 == process.wait(10)
        assert time.monotonic() - started < 2.0
        assert not child.is_running() or psutil.STATUS_ZOMBIE == child.status()
