"""A running demo that can be broken: dials, files, programs, and stand-ins for other people's targets."""

import contextlib
import http.server
import json
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator

import psutil
import requests
import yaml

from llmvitals_stack import native
from llmvitals_stack.chaos.apis import Apis
from llmvitals_stack.settings import Settings

# What ends with the fault's own length, whatever else a fault says.
Undo = Callable[[], None]


class World:
    """The handles of a running stack. Each method that turns something on returns how it is turned off."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.apis = Apis(settings)
        self.supervisor = native.supervisor(settings)
        self._rules = settings.run / "prometheus" / "rules" / "alerts" / "fault.yml"

    # --- Dials --------------------------------------------------------------------------------------------------------

    def llm(self, provider: str, **dials: object) -> Undo:
        self.apis.dial(provider, dials)
        return lambda: self.apis.reset_dials(provider)

    def engine(self, model: str, **dials: float) -> Undo:
        """Dials of one model of the backup, which is also what is scraped as a vLLM server; the others stay."""
        return self.model("backup", model, **dials)

    def model(self, provider: str, model: str, **dials: float) -> Undo:
        """Dials of one model of a provider; the others stay."""
        self.apis.dial(provider, {"models": {model: dials}})
        return lambda: self.apis.dial(provider, {"models": {model: dict.fromkeys(dials)}})

    def companion(self, **dials: float) -> Undo:
        self.apis.companion("/demo/dials", dials)
        return lambda: self.apis.companion("/demo/dials", dict.fromkeys(dials, 0))

    def rotate(self, provider: str, statuses: tuple[int, ...], **dials: object) -> Undo:
        """Half of the requests fail, each few seconds with another status."""

        def turn(number: int) -> None:
            self.apis.dial(provider, {**dials, "error_ratio": 0.6, "error_status": statuses[number % len(statuses)]})

        stop = self.repeat(turn, 3)

        def undo() -> None:
            stop()
            self.apis.reset_dials(provider)

        return undo

    def kill_switch(self) -> Undo:
        self._remediation({"engaged": True, "who": "the test of alerts", "why": "to see alerts that nobody answers"})
        return lambda: self._remediation({"engaged": False, "who": "the test of alerts", "why": "seen"})

    def _remediation(self, body: dict[str, object]) -> None:
        token = self.settings["LLMVITALS_ADMIN_TOKEN"]
        requests.post(
            f"{self.settings.url('REMEDIATION')}/api/v1/controls/kill-switch",
            json=body,
            headers={"Authorization": f"Bearer {token}"},
            timeout=10,
        ).raise_for_status()

    # --- What is done again and again ---------------------------------------------------------------------------------

    def repeat(self, act: Callable[[int], None], every: float) -> Undo:
        """Acts in a thread until undone; a failure is the fault's own doing, and does not end it."""
        ended = threading.Event()

        def run() -> None:
            number = 0
            while not ended.is_set():
                with contextlib.suppress(Exception):
                    act(number)
                number += 1
                ended.wait(every)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()

        def undo() -> None:
            ended.set()
            thread.join(120)

        return undo

    def ask(self, message: str, *, mode: str = "talker", timeout: float = 90) -> int:
        body = {"user": "robin", "message": message, "mode": mode}
        return requests.post(f"{self.settings.url('COMPANION')}/v1/chat", json=body, timeout=timeout).status_code

    def hold_generation(self) -> socket.socket:
        """A request to the backup's KoboldCpp side that is answered in ten minutes."""
        undo = self.engine("talker", latency_seconds=600)
        try:
            held = socket.create_connection(("127.0.0.1", self.settings.port("FAULTY_LLM_BACKUP")))
            body = json.dumps({"prompt": "Once upon a time", "max_length": 10})
            head = f"POST /api/v1/generate HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            held.sendall((head + body).encode())
            time.sleep(0.3)
        finally:
            undo()
        return held

    # --- Programs and their limits ------------------------------------------------------------------------------------

    def stop(self, program: str) -> Undo:
        self.supervisor._ask("stopProcess", program)
        return lambda: self.supervisor._ask("startProcess", program)

    def few_files(self) -> Undo:
        """Clients that connect and say nothing, and a limit just above what that needs."""
        process = psutil.Process(self.supervisor.pids()["companion"])
        before = process.rlimit(resource.RLIMIT_NOFILE)
        wanted = process.num_fds() + 400
        clients = [socket.create_connection(("127.0.0.1", self.settings.port("COMPANION"))) for _ in range(400)]
        deadline = time.monotonic() + 30
        while process.num_fds() < wanted and time.monotonic() < deadline:
            time.sleep(0.2)
        process.rlimit(resource.RLIMIT_NOFILE, (process.num_fds() + 40, before[1]))

        def undo() -> None:
            for client in clients:
                client.close()
            process.rlimit(resource.RLIMIT_NOFILE, before)

        return undo

    # --- Files of the servers -----------------------------------------------------------------------------------------

    def rule(self, expression: str) -> Undo:
        """A further recording rule, that Prometheus takes and cannot evaluate."""
        groups = [{"name": "fault", "interval": "5s", "rules": [{"record": "demo:fault:sum", "expr": expression}]}]
        self._rules.write_text(yaml.safe_dump({"groups": groups}), encoding="utf-8")
        self.reload("PROMETHEUS")

        def undo() -> None:
            self._rules.unlink()
            self.reload("PROMETHEUS")

        return undo

    def spoilt(self, server: str, folder: str, name: str) -> Undo:
        """A configuration that the server refuses to read again."""
        path = self.settings.run / folder / name
        before = path.read_text(encoding="utf-8")
        path.write_text(before + "\nno_such_key: 1\n", encoding="utf-8")
        self.reload(server)

        def undo() -> None:
            path.write_text(before, encoding="utf-8")
            self.reload(server)

        return undo

    def reload(self, server: str) -> None:
        requests.post(f"{self.settings.url(server)}/-/reload", timeout=30)

    def without_alertmanager(self) -> Undo:
        path = self.settings.run / "prometheus" / "targets" / "alertmanager" / "native.yml"
        before = path.read_text(encoding="utf-8")
        path.write_text("[]\n", encoding="utf-8")
        return lambda: (path.write_text(before, encoding="utf-8"), None)[1]

    def gpu_faults(self, *lines: str) -> Undo:
        """Faults of the GPUs that the exporter plays."""
        path = self.settings.run / "gpu-faults"

        def change(add: tuple[str, ...], remove: tuple[str, ...]) -> None:
            now = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
            kept = [line for line in now if line not in remove]
            path.write_text("".join(f"{line}\n" for line in dict.fromkeys([*kept, *add])), encoding="utf-8")

        change(lines, ())
        return lambda: change((), lines)

    def scraped(self, job: str, port: int, *, like: str = "apps") -> Undo:
        """A further target of a scrape job."""
        path = self.settings.run / "prometheus" / "targets" / like / f"{job}.yml"
        group = [{"targets": [f"127.0.0.1:{port}"], "labels": {"job": job}}]
        path.write_text(yaml.safe_dump(group), encoding="utf-8")
        return path.unlink

    def target(self, job: str, page: Callable[[], str] | None, *, like: str = "apps") -> Undo:
        """A further target of a scrape job: with *page* one that answers so, without one that nobody is."""
        with contextlib.ExitStack() as stack:
            port = stack.enter_context(_serving(page)) if page else 9
            stack.callback(self.scraped(job, port, like=like))
            return stack.pop_all().close


@contextlib.contextmanager
def _serving(page: Callable[[], str]) -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = page().encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with answering(Handler) as port:
        yield port


@contextlib.contextmanager
def answering(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[int]:
    """A server of *handler* for a while; yields its port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
