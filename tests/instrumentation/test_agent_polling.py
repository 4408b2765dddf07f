"""The agent against a real HTTP server that plays the remediation service."""

import contextlib
import http.server
import json
import logging
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections import deque

import pytest
from prometheus_client import CollectorRegistry

from llmvitals._recording import Recorder
from llmvitals.agent import Agent
from llmvitals.agent._http import Controller, ControllerError, RefusedError, UnauthorizedError
from llmvitals.agent._poller import backoff_seconds

TOKEN = "the-agents-token"


class Service:
    """The controller's side: hands out commands, keeps what it is told."""

    def __init__(self, port=0):
        self.commands = deque()
        self.hellos = []
        self.results = []
        self.statuses = {}
        self.poll_body = None
        self.token = TOKEN
        self.requests = 0
        self.changed = threading.Condition()
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                answer = service.answer(self.path, self.headers, body)
                if service.closing:
                    self.close_connection = True
                    return
                with contextlib.suppress(ConnectionError):
                    self.answer(*answer)

            def answer(self, status, body):
                self.send_response(status)
                if status in (302, 307):
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

        self.server = Server(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.closing = False
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def answer(self, path, headers, body):
        with self.changed:
            self.requests += 1
            self.changed.notify_all()
            if headers["Authorization"] != f"Bearer {self.token}":
                return 401, b""
            if path in self.statuses:
                return self.statuses[path], b""
            if path == "/api/v1/agent/results":
                self.results.append(body)
                self.changed.notify_all()
                return 204, b""
            if path != "/api/v1/agent/poll":
                return 404, b""
            self.hellos.append(body)
            self.changed.notify_all()
            if self.poll_body is not None:
                return 200, self.poll_body
            # As the real service: a newer poll takes over, and one whose asker is gone gives nothing away.
            mine = len(self.hellos)
            self.changed.wait_for(
                lambda: self.commands or self.closing or len(self.hellos) > mine, body["wait_seconds"]
            )
            overtaken = len(self.hellos) > mine
            commands = [] if overtaken else [self.commands.popleft() for _ in range(len(self.commands))]
            return 200, json.dumps({"commands": commands}).encode()

    def send(self, verb, parameters=None, *, attempt_id, boot_id=None, **changes):
        with self.changed:
            command = {
                "attempt_id": attempt_id,
                "fence": 1,
                "boot_id": boot_id or self.hellos[-1]["boot_id"],
                "expires_at": time.time() + 30,
                "verb": verb,
                "parameters": parameters or {},
            }
            self.commands.append(command | changes)
            self.changed.notify_all()

    def wait(self, condition, seconds=10):
        with self.changed:
            assert self.changed.wait_for(condition, seconds), f"{self.hellos[-1:]} {self.results}"

    def close(self):
        with self.changed:
            self.closing = True
            self.changed.notify_all()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture(name="service")
def _service():
    service = Service()
    yield service
    service.close()


@pytest.fixture(name="token_file")
def _token_file(tmp_path):
    path = tmp_path / "agent_token"
    path.write_text(f"{TOKEN}\n")
    return path


class App:
    def __init__(self):
        self.recorder = Recorder(CollectorRegistry())
        self.ledger = []
        self.acted = threading.Event()
        self.go_on = threading.Event()
        self.ttl = 300
        self.agent = Agent(self.recorder, service="test", on_command=lambda *entry: self.ledger.append(entry))
        self.agent.action(effect="idempotent")(self.act)
        self.agent.action(effect="neither")(self.hang)
        self.agent.tunable("ttl", get=lambda: self.ttl, set=self.set_ttl, low=30, high=3600)

    def act(self):
        """Act."""
        self.acted.set()

    def hang(self):
        """Hang until it is let go."""
        self.acted.set()
        self.go_on.wait(20)

    def set_ttl(self, value):
        self.ttl = value

    def value(self, name, **labels):
        return self.recorder.registry.get_sample_value(name, labels)


@pytest.fixture(name="app")
def _app():
    app = App()
    yield app
    app.go_on.set()
    app.agent.close()


def eventually(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


def test_a_command_is_pulled_obeyed_and_answered(app, service, token_file):
    """Poll, act, result; and the metrics say who is connected."""
    app.agent.start(service.url, token_file, agent_id="test@127.0.0.1:1")
    service.wait(lambda: service.hellos)
    service.send("act", attempt_id="a-1")
    service.wait(lambda: service.results)

    hello, result = service.hellos[0], service.results[0]
    assert ("test@127.0.0.1:1", "test", 1) == (hello["agent_id"], hello["service"], hello["protocol"])
    assert 0 < hello["wait_seconds"] <= 30
    assert {
        "agent_id": "test@127.0.0.1:1",
        "boot_id": app.agent.boot_id,
        "attempt_id": "a-1",
        "verb": "act",
        "status": "done",
        "result": None,
        "error": None,
        "refusal": None,
    } == {key: value for key, value in result.items() if key != "finished_at"}
    assert abs(time.time() - result["finished_at"]) < 30
    assert [("a-1", "act", app.agent.boot_id)] == app.ledger
    labels = {"agent_id": "test@127.0.0.1:1", "boot_id": app.agent.boot_id, "service": "test"}
    assert 1 == app.value("llmvitals_agent_info", **labels)
    assert 1 == app.value("llmvitals_agent_connected")

    app.agent.close()

    assert app.value("llmvitals_agent_info", **labels) is None
    assert 0 == app.value("llmvitals_agent_connected")


def test_what_is_offered_after_the_start_is_told_soon(app, service, token_file):
    """Applications register their verbs after start(): the next poll comes within a second or two, not twenty."""
    app.agent.start(service.url, token_file, agent_id="test")
    service.wait(lambda: service.hellos)

    app.agent.action(effect="idempotent", name="late")(app.act)

    service.wait(lambda: any(action["name"] == "late" for action in service.hellos[-1]["actions"]), 5)


def test_a_repeated_attempt_is_answered_again_without_acting(app, service, token_file):
    """As after a controller's crash: the same result comes once more."""
    app.agent.start(service.url, token_file, agent_id="test")
    service.wait(lambda: service.hellos)
    service.send("act", attempt_id="a-1")
    service.wait(lambda: len(service.results) == 1)
    service.send("act", attempt_id="a-1")
    service.wait(lambda: len(service.results) == 2)

    assert service.results[0] == service.results[1]
    assert 1 == len(app.ledger)


def test_a_hanging_action_stops_neither_polling_nor_leases(app, service, token_file):
    """Polls go on, a lease ends in time, what waits behind is refused when its time is over, repeats start nothing."""
    app.agent.start(service.url, token_file, agent_id="test")
    service.wait(lambda: service.hellos)
    service.send("apply_tunables", {"values": {"ttl": 60}, "lease_seconds": 1}, attempt_id="lease")
    service.wait(lambda: service.results)
    service.send("hang", attempt_id="hang")
    assert app.acted.wait(5)
    service.send("hang", attempt_id="hang")
    service.send("act", attempt_id="late", expires_at=time.time() + 0.5)

    eventually(lambda: app.ttl == 300)
    service.wait(lambda: len(service.results) == 2)
    assert ("late", "refused", "expired") == tuple(
        service.results[1][key] for key in ("attempt_id", "status", "refusal")
    )
    app.go_on.set()
    service.wait(lambda: len(service.results) == 3)

    assert ("hang", "done") == (service.results[2]["attempt_id"], service.results[2]["status"])
    assert ["lease", "hang"] == [attempt_id for attempt_id, _, _ in app.ledger]


def test_a_result_is_sent_until_it_is_acknowledged(app, service, token_file):
    """An endpoint that answers 503 loses nothing."""
    service.statuses["/api/v1/agent/results"] = 503
    app.agent.start(service.url, token_file, agent_id="test")
    service.wait(lambda: service.hellos)
    service.send("act", attempt_id="a-1")
    assert app.acted.wait(5)
    seen = len(service.hellos)
    service.wait(lambda: len(service.hellos) > seen + 1)
    assert [] == service.results
    with service.changed:
        service.statuses.clear()

    service.wait(lambda: service.results)

    assert "a-1" == service.results[0]["attempt_id"]
    assert 1 == len(app.ledger)


@pytest.mark.parametrize("status", [400, 413])
def test_a_result_that_will_never_be_taken_is_dropped(app, service, token_file, caplog, status):
    """It is refused once, counted, and the first is logged; the next ones are told as ever."""
    service.statuses["/api/v1/agent/results"] = status
    app.agent.start(service.url, token_file, agent_id="test")
    service.wait(lambda: service.hellos)
    for number in range(2):
        service.send("act", attempt_id=f"a-{number}")
        eventually(lambda many=number + 1: faults(app) == many)
    refused = service.requests - len(service.hellos)
    polls = len(service.hellos)
    service.wait(lambda: len(service.hellos) > polls + 2)
    with service.changed:
        assert refused == service.requests - len(service.hellos)
        service.statuses.clear()
    service.send("act", attempt_id="a-2")
    service.wait(lambda: service.results)

    assert 2 == refused
    assert ["a-2"] == [result["attempt_id"] for result in service.results]
    (told,) = [record.getMessage() for record in caplog.records if "dropped" in record.getMessage()]
    assert f"answered {status}" in told
    assert "the result of act (a-0) is dropped" in told


def faults(app):
    return app.value("llmvitals_instrumentation_errors_total", component="agent") or 0


@pytest.mark.parametrize("status", [401, 404])
def test_a_result_that_may_be_taken_later_is_kept(app, service, token_file, status):
    """A wrong token, or a service that is not there yet: that passes."""
    service.statuses["/api/v1/agent/results"] = status
    app.agent.start(service.url, token_file, agent_id="test")
    service.wait(lambda: service.hellos)
    service.send("act", attempt_id="a-1")
    service.wait(lambda: service.requests - len(service.hellos) >= 2)
    with service.changed:
        service.statuses.clear()
    service.wait(lambda: service.results)

    assert "a-1" == service.results[0]["attempt_id"]
    assert 0 == faults(app)


def test_a_service_that_dies_and_returns_is_found_again(app, token_file):
    """The result of what was done meanwhile comes first; nothing is done twice; a lease ends with nobody there."""
    first = Service()
    app.agent.start(first.url, token_file, agent_id="test")
    first.wait(lambda: first.hellos)
    first.send("apply_tunables", {"values": {"ttl": 60}, "lease_seconds": 1}, attempt_id="lease")
    first.wait(lambda: first.results)
    first.send("hang", attempt_id="hang")
    assert app.acted.wait(5)
    first.close()
    app.go_on.set()
    eventually(lambda: app.ttl == 300)
    eventually(lambda: app.value("llmvitals_agent_connected") == 0)

    second = Service(first.port)
    try:
        second.wait(lambda: second.results, 15)
        assert ("hang", "done") == (second.results[0]["attempt_id"], second.results[0]["status"])
        second.wait(lambda: second.hellos)
        second.send("hang", attempt_id="hang")
        second.wait(lambda: len(second.results) == 2)
    finally:
        app.agent.close()
        second.close()

    assert ["lease", "hang"] == [attempt_id for attempt_id, _, _ in app.ledger]


def test_a_wrong_token_is_told_once_and_a_right_one_is_taken_up(app, service, token_file, caplog, monkeypatch):
    """Rotation needs no restart of the application."""
    monkeypatch.setattr("llmvitals.agent._poller.LONGEST_BACKOFF_SECONDS", 0.05)
    token_file.write_text("not-the-token")
    with caplog.at_level(logging.WARNING, logger="llmvitals"):
        app.agent.start(service.url, token_file, agent_id="test")
        service.wait(lambda: service.requests > 5)
        told = [record for record in caplog.records if "401" in record.getMessage()]
        token_file.write_text(TOKEN)
        service.wait(lambda: service.hellos)

    assert 1 == len(told)
    assert "not-the-token" not in told[0].getMessage()


@pytest.mark.parametrize(
    "body",
    [b"", b"not json", b'{"commands": 1}', b'{"commands": [{"attempt_id": 1}]}', b"[" * 100_000, b"x" * 1_100_000],
    ids=["empty", "text", "no list", "no id", "deep", "too long"],
)
def test_an_answer_that_is_none_is_a_failed_poll(app, service, token_file, body):
    """The agent stays away for a while, and works on when the service speaks sense again."""
    service.poll_body = body
    app.agent.start(service.url, token_file, agent_id="test")
    service.wait(lambda: service.hellos)
    with service.changed:
        service.poll_body = None
    service.wait(lambda: len(service.hellos) > 1)
    service.send("act", attempt_id="a-1")

    service.wait(lambda: service.results)


def test_closing_does_not_wait_for_the_end_of_a_poll(app, service, token_file, monkeypatch):
    """Twenty seconds of waiting must not become twenty seconds of shutdown."""
    monkeypatch.setattr("llmvitals.agent._poller.SETTLING_WAIT_SECONDS", 20.0)
    app.agent.start(service.url, token_file, agent_id="test")
    service.wait(lambda: service.hellos)

    started = time.monotonic()
    app.agent.close()

    assert time.monotonic() - started < 2
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("llmvitals-")]


def test_closing_puts_leases_back(app, service, token_file):
    """The application ends with its own values."""
    app.agent.start(service.url, token_file, agent_id="test")
    service.wait(lambda: service.hellos)
    service.send("apply_tunables", {"values": {"ttl": 60}, "lease_seconds": 3600}, attempt_id="lease")
    service.wait(lambda: service.results)
    assert 60 == app.ttl

    app.agent.close()

    assert 300 == app.ttl


def test_a_closed_agent_can_be_started_again(app, service, token_file):
    """As in a child process, or after a change of the settings."""
    app.agent.start(service.url, token_file, agent_id="test")
    with pytest.raises(RuntimeError, match="started already"):
        app.agent.start(service.url, token_file, agent_id="test")
    app.agent.close()
    app.agent.start(service.url, token_file, agent_id="again")
    service.wait(lambda: service.hellos and service.hellos[-1]["agent_id"] == "again")
    service.send("profile_cpu", {"seconds": 0.3}, attempt_id="p")
    service.wait(lambda: service.results)

    assert service.results[0]["result"]["seconds"] >= 0.3


# --- the HTTP client --------------------------------------------------------------------------------------------------


@pytest.fixture(name="controller")
def _controller(service, token_file):
    controller = Controller(service.url, token_file)
    yield controller
    controller.close()


@pytest.mark.parametrize("status", [302, 307])
def test_redirects_are_not_followed(service, controller, status):
    """The token goes to the service that was named, and to nobody whom that one names."""
    service.statuses["/api/v1/agent/poll"] = status

    with pytest.raises(ControllerError, match=str(status)):
        controller.poll({}, wait_seconds=0)

    assert 1 == service.requests


def test_the_environment_s_proxy_does_not_see_loopback(service, controller, monkeypatch):
    """A proxy that is set for the outside world would get the token."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    assert b'{"commands": []}' == controller.poll({"wait_seconds": 0, "boot_id": "b"}, wait_seconds=0)


def test_a_netrc_does_not_replace_the_token(service, controller, tmp_path, monkeypatch):
    """Requests prefers ~/.netrc to our header, if it may."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))

    assert controller.poll({"wait_seconds": 0, "boot_id": "b"}, wait_seconds=0)


def test_nobody_there_is_told_from_nobody_answers(token_file):
    """Refused is cheap to try again; the text names the address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        controller = Controller(f"http://127.0.0.1:{free.getsockname()[1]}", token_file)
        with pytest.raises(RefusedError, match="ConnectionRefusedError"):
            controller.poll({}, wait_seconds=0)


@pytest.mark.parametrize("content", [None, "", "two words", "line\nline", "ümlaut"], ids=str)
def test_a_token_file_must_hold_a_token(service, tmp_path, content):
    """The error names the file, and never shows what is in it."""
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content)

    with pytest.raises(ControllerError, match="token") as error:
        Controller(service.url, path).poll({}, wait_seconds=0)

    assert 0 == service.requests
    assert "words" not in str(error.value)


@pytest.mark.parametrize(
    "url",
    ["", "localhost:9466", "ftp://127.0.0.1", "http://", "http://user@127.0.0.1", "http://127.0.0.1/?a=b"],
)
def test_a_url_must_be_one(token_file, url):
    """A mistake in the settings is told at the start."""
    with pytest.raises(ValueError, match="remediation URL"):
        Controller(url, token_file)


def test_backoff_doubles_up_to_its_limit():
    """1, 2, 4, 8, 16, 30, 30 s, half of it by chance; an unauthorized agent comes seldom, a refused one soon."""

    def waits(error, loopback, dice):
        return [backoff_seconds(n, error, loopback=loopback, dice=lambda: dice) for n in range(1, 8)]

    assert [1, 2, 4, 8, 16, 30, 30] == waits(ControllerError(), True, 1.0)
    assert [0.5, 1, 2, 4, 8, 15, 15] == waits(ControllerError(), True, 0.0)
    assert [1, 2, 4, 5, 5, 5, 5] == waits(RefusedError(), True, 1.0)
    assert [1, 2, 4, 8, 16, 30, 30] == waits(RefusedError(), False, 1.0)
    assert [15] * 7 == waits(UnauthorizedError(), True, 0.0)
    assert 30 == backoff_seconds(10_000, ControllerError(), loopback=True, dice=lambda: 1.0)


# --- fork -------------------------------------------------------------------------------------------------------------


def test_its_threads_import_nothing(service, token_file):
    """A fork in the middle of an import leaves the child waiting for it, and it is never told when a fork comes."""
    program = textwrap.dedent(
        """
        import sys, threading
        imported = []
        def hear(event, arguments):
            if event == "import" and threading.current_thread() is not threading.main_thread():
                imported.append(arguments[0])
        sys.addaudithook(hear)
        from prometheus_client import CollectorRegistry
        from llmvitals._recording import Recorder
        from llmvitals.agent import Agent

        url, token_file = sys.argv[1:]
        agent = Agent(Recorder(CollectorRegistry()), service="test")
        agent.tunable("ttl", get=lambda: 300, set=print, low=30, high=3600)
        agent.start(url, token_file, agent_id="test")
        sys.stdin.readline()
        agent.close()
        assert not imported, imported
        """
    )
    own = {"trace_memory": {"seconds": 1}, "profile_cpu": {"seconds": 1}, "apply_tunables": {"values": {"ttl": 60}}}
    with subprocess.Popen(
        [sys.executable, "-c", program, service.url, str(token_file)], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        service.wait(lambda: service.hellos)
        verbs = [action["name"] for action in service.hellos[-1]["actions"]]
        for verb in verbs:
            service.send(verb, own.get(verb), attempt_id=verb)
        service.wait(lambda: {result["attempt_id"] for result in service.results} == set(verbs), 20)
        errors = process.communicate(b"\n", timeout=20)[1]

    assert {"trace_memory", "profile_cpu", "collect_garbage"} <= set(verbs)
    assert (0, b"") == (process.returncode, errors)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_is_another_process(service, token_file):
    """It has another boot id and no threads, refuses its parent's commands, ends its copy of a lease, can be begun."""
    program = textwrap.dedent(
        """
        import os, sys, threading, time, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        from prometheus_client import CollectorRegistry
        from llmvitals._recording import Recorder
        from llmvitals.agent import Agent, Command

        url, token_file = sys.argv[1:]
        values = {"ttl": 300}
        agent = Agent(Recorder(CollectorRegistry()), service="test")
        agent.tunable("ttl", get=lambda: values["ttl"], set=lambda v: values.update(ttl=v), low=30, high=3600)
        agent.start(url, token_file, agent_id="test")
        parent_boot = agent.boot_id
        def command(attempt, verb, **parameters):
            return Command(attempt, 1, agent.boot_id, time.time() + 60, verb, parameters)
        agent.obey(command("lease", "apply_tunables", values={"ttl": 60}, lease_seconds=4))
        deadline = time.monotonic() + 10
        while values["ttl"] != 60 and time.monotonic() < deadline:
            time.sleep(0.01)
        pid = os.fork()
        if pid == 0:
            threads = sorted(t.name for t in threading.enumerate())
            assert threads == ["MainThread", "llmvitals-leases"], threads
            assert agent.boot_id != parent_boot
            late = Command("late", 1, parent_boot, time.time() + 60, "dump_stacks", {})
            assert agent.obey(late).refusal == "other_boot"
            assert values["ttl"] == 60
            deadline = time.monotonic() + 10
            while values["ttl"] != 300 and time.monotonic() < deadline:
                time.sleep(0.01)
            assert values["ttl"] == 300
            agent.start(url, token_file, agent_id="test-child")
            while not agent._recorder.registry.get_sample_value("llmvitals_agent_connected"):
                time.sleep(0.01)
            agent.close()
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        agent.close()
        assert values["ttl"] == 300
        sys.exit(status)
        """
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, service.url, str(token_file)],
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )

    assert (0, "") == (ran.returncode, ran.stderr)
    boots = {hello["agent_id"]: hello["boot_id"] for hello in service.hellos}
    assert {"test", "test-child"} == set(boots)
    assert boots["test"] != boots["test-child"]
