"""Real servers for tests: Prometheus, Alertmanager and our own programs, on free ports of 127.0.0.1.

Each is a context manager that ends its own process, and only that one. What a server wrote is in `Server.log`.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

T = TypeVar("T")


@dataclass(slots=True)
class Server:
    """A process that listens, or was killed."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait(10)

    def stop(self, *, seconds: float = 10.0) -> int:
        """SIGTERM, SIGKILL when that does not help; returns the exit status."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait(10)

    def tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    text: str
    headers: Mapping[str, str]

    def json(self) -> Any:
        return json.loads(self.text)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: object, **_kwargs: object) -> None:
        return None


_STRAIGHT = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())


def request(
    url: str,
    *,
    method: str | None = None,
    body: bytes | None = None,
    data: object = None,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 30.0,
) -> Answer:
    """One HTTP exchange; a status of 4xx or 5xx is an answer, not an exception, and redirects are not followed."""
    sent = dict(headers or {})
    if data is not None:
        body, sent["Content-Type"] = json.dumps(data).encode(), "application/json"
    if token is not None:
        sent["Authorization"] = f"Bearer {token}"
    asked = urllib.request.Request(url, data=body, headers=sent, method=method)
    try:
        with _STRAIGHT.open(asked, timeout=timeout) as answer:
            return Answer(answer.status, answer.read().decode(errors="replace"), dict(answer.headers))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read().decode(errors="replace"), dict(error.headers))


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(ask: Callable[[], T], *, seconds: float = 10.0, every: float = 0.05, what: str = "it") -> T:
    """What *ask* returns once that is true; fails when it was not within *seconds*."""
    deadline = time.monotonic() + seconds
    while True:
        if answer := ask():
            return answer
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not happen within {seconds:g} s; last seen: {answer!r}")
        time.sleep(every)


def answers(url: str) -> bool:
    """Whether *url* answers with 200 now."""
    try:
        return request(url, timeout=2).status == 200
    except OSError:
        return False


@contextlib.contextmanager
def server(
    command: Sequence[str | Path],
    *,
    port: int,
    log: Path,
    ready: str,
    environment: Mapping[str, str] | None = None,
    seconds: float = 20.0,
) -> Iterator[Server]:
    """Run *command* until the block ends; entered once `http://127.0.0.1:port` + *ready* answers with 200."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    started = Server(f"http://127.0.0.1:{port}", process, log)
    try:
        deadline = time.monotonic() + seconds
        while not answers(started.url + ready):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{command[0]} did not become ready (status {process.poll()}):\n{started.tail()}")
            time.sleep(0.05)
        yield started
    finally:
        started.stop()


def program(name: str, *others: str) -> str:
    """The path of a program that goes by one of these names; skips the test, in words, where there is none."""
    for candidate in (name, *others):
        if path := shutil.which(candidate):
            return path
    pytest.skip(f"{name} is not installed: make packages")


@contextlib.contextmanager
def prometheus(
    folder: Path,
    *,
    targets: Mapping[str, Sequence[str]],
    rules: Sequence[Path] = (),
    alertmanagers: Sequence[str] = (),
    interval: str = "1s",
    resend_delay: str = "2s",
) -> Iterator[Server]:
    """Prometheus that scrapes *targets* (job → host:port, …), evaluates *rules* and tells *alertmanagers*."""
    folder.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": [str(path) for path in rules],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": list(addresses)}]} for job, addresses in targets.items()
        ],
    }
    if alertmanagers:
        config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": list(alertmanagers)}]}]}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    port = free_port()
    command = [
        program("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--rules.alert.resend-delay={resend_delay}",
        "--enable-feature=exemplar-storage",
        "--web.enable-lifecycle",
        "--log.level=warn",
    ]
    with server(command, port=port, log=folder / "prometheus.log", ready="/-/ready") as started:
        yield started


@contextlib.contextmanager
def alertmanager(folder: Path, *, config: Mapping[str, Any], port: int | None = None) -> Iterator[Server]:
    """Alertmanager with *config*, alone (no cluster)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(dict(config), sort_keys=False), encoding="utf-8")
    port = port or free_port()
    command = [
        program("alertmanager", "prometheus-alertmanager"),
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
        "--log.level=warn",
    ]
    with server(command, port=port, log=folder / "alertmanager.log", ready="/-/ready") as started:
        yield started


def query(prometheus_url: str, promql: str) -> list[dict[str, Any]]:
    """The instant vector of *promql* as Prometheus tells it."""
    answer = request(f"{prometheus_url}/api/v1/query?{urllib.parse.urlencode({'query': promql})}")
    assert answer.status == 200, answer.text
    return list(answer.json()["data"]["result"])


def is_alive(pid: int) -> bool:
    """Whether a process of that id exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def exit_signal(server_: Server) -> signal.Signals | None:
    """The signal that ended the server's process, or None."""
    status = server_.process.poll()
    return signal.Signals(-status) if status is not None and status < 0 else None
