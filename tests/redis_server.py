"""A real Redis for tests, that can go, hang, and come back."""

import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from tests.servers import eventually, free_port


class RedisServer:
    """On one port of 127.0.0.1, keeping nothing on disk; skips the test, in words, where Redis is not installed."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("redis-server") is None:
            pytest.skip("redis-server is not installed: apt-get install redis-server")
        self.port = free_port()
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        flags = f"--port {self.port} --bind 127.0.0.1 --appendonly no --dir {self.folder} --loglevel warning".split()
        self.process = subprocess.Popen(["redis-server", *flags, "--save", ""], stdout=subprocess.DEVNULL)
        eventually(self._listens, every=0.01, what="a Redis that listens")

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def freeze(self) -> None:
        """It takes connections and answers nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(5)
