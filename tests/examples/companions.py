"""Real companion processes, and a small controller that gives commands to their agents."""

import contextlib
import json
import re
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.examples.faulty import Faulty
from tests.servers import Answer, Server, eventually, free_port, request, server

TOKEN = "a-token-for-tests"


@dataclass(frozen=True, slots=True)
class Companion:
    """A companion process, its two addresses and its data directory."""

    server: Server
    metrics: str
    data: Path

    @property
    def url(self) -> str:
        return self.server.url

    def say(self, message: str, mode: str = "talker", user: str = "ann", **more: Any) -> Answer:
        return request(f"{self.url}/v1/chat", data={"user": user, "message": message, "mode": mode, **more})

    def demo(self, what: str, **body: Any) -> Answer:
        return request(f"{self.url}/demo/{what}", data=body)

    def effects(self) -> list[dict[str, Any]]:
        effects: list[dict[str, Any]] = request(f"{self.url}/demo/ledger").json()["effects"]
        return effects

    def value(self, name: str, /, **labels: str) -> float:
        """The sum of all series of *name* that carry these labels."""
        total = 0.0
        for line in request(f"{self.metrics}/metrics").text.splitlines():
            found = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
            if found and found[1] == name:
                has = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', found[2] or ""))
                if labels.items() <= has.items():
                    total += float(found[3])
        return total


@contextlib.contextmanager
def companion(
    faulty: Faulty, data: Path, *arguments: str, demo: bool = True, controller: str | None = None
) -> Iterator[Companion]:
    """A companion that is quick to retry and to look; later *arguments* win."""
    port, metrics_port = free_port(), free_port()
    command = [
        *(sys.executable, "-m", "companion", "serve"),
        *(f"--port={port}", f"--metrics-port={metrics_port}", f"--data-dir={data}"),
        *(f"--llm-url={faulty.url()}", f"--backup-url={faulty.url('backup')}"),
        *("--retry-base-seconds=0.01", "--breaker-reset-seconds=0.5", "--health-interval-seconds=0.3"),
        # A thought is a request to the model, and many tests count those.
        "--thoughts-seconds=3600",
        *(["--demo-faults"] if demo else []),
    ]
    if controller is not None:
        token = data.parent / "agent_token"
        token.write_text(TOKEN)
        token.chmod(0o600)
        command += [f"--remediation-url={controller}", f"--agent-token-file={token}"]
    log = data.parent / "companion.log"
    with server([*command, *arguments], port=port, log=log, ready="/healthz", seconds=60) as started:
        yield Companion(started, f"http://127.0.0.1:{metrics_port}", data)


@dataclass(slots=True)
class Controller:
    """What remediation is to an agent: hands out commands, takes results in."""

    url: str
    hello: dict[str, Any] = field(default_factory=dict)
    results: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    _commands: list[dict[str, Any]] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _fence: int = 0

    def command(self, verb: str, *, attempt_id: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Have *verb* done by the agent that said hello last; its result."""
        attempt_id = attempt_id or uuid.uuid4().hex
        eventually(lambda: self.hello, seconds=40, what="the agent's first poll")
        with self._changed:
            before = len(self.results.get(attempt_id, []))
            self._fence += 1
            self._commands.append(
                {
                    "attempt_id": attempt_id,
                    "fence": self._fence,
                    "boot_id": self.hello["boot_id"],
                    "expires_at": time.time() + 60,
                    "verb": verb,
                    "parameters": parameters,
                }
            )
            self._changed.notify_all()
        eventually(lambda: len(self.results.get(attempt_id, [])) > before, seconds=40, what=f"the result of {verb}")
        return self.results[attempt_id][-1]

    def poll(self, hello: dict[str, Any]) -> dict[str, Any]:
        with self._changed:
            self.hello = hello
            # Only its own: the poll of a process that crashed may still hang here, and would swallow them.
            boot = hello["boot_id"]
            self._changed.wait_for(
                lambda: any(command["boot_id"] == boot for command in self._commands), min(hello["wait_seconds"], 1)
            )
            commands = [command for command in self._commands if command["boot_id"] == boot]
            self._commands = [command for command in self._commands if command["boot_id"] != boot]
        return {"commands": commands}

    def take(self, result: dict[str, Any]) -> None:
        with self._changed:
            self.results.setdefault(result["attempt_id"], []).append(result)

    def forget(self) -> None:
        """Wait for another process: the agent of now is going away."""
        with self._changed:
            self.hello = {}


@contextlib.contextmanager
def controller() -> Iterator[Controller]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            answer = b""
            if self.headers["authorization"] != f"Bearer {TOKEN}":
                self.send_response(401)
            elif self.path == "/api/v1/agent/poll":
                answer = json.dumps(told.poll(body)).encode()
                self.send_response(200)
            else:
                told.take(body)
                self.send_response(204)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            return

    class Listener(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

    with Listener(("127.0.0.1", 0), Handler) as listener:
        told = Controller(f"http://127.0.0.1:{listener.server_address[1]}")
        serving = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05})
        serving.start()
        try:
            yield told
        finally:
            listener.shutdown()
            serving.join()
