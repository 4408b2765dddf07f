"""A whole engine on a hand-moved clock: real SQLite, Prometheus and Alertmanager as local HTTP servers, one fake agent.

The fake agent does what the protocol says of agents: it acts once per attempt id, and answers a repeat with what it
stored. Its ledger is the judge.
"""

import contextlib
import json
import random
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

from prometheus_client import CollectorRegistry

from llmvitals_remediation._metrics import Metrics
from llmvitals_remediation.alertmanager import AlertmanagerClient
from llmvitals_remediation.clock import ManualClock, iso
from llmvitals_remediation.engine import Engine
from llmvitals_remediation.inbox import fingerprint
from llmvitals_remediation.policy import PolicySource
from llmvitals_remediation.promql import FIRING, FRESH, UP, PrometheusClient
from llmvitals_remediation.protocol import Action, AgentHello, CommandResult, Lease
from llmvitals_remediation.store import Store

JOB, INSTANCE, AGENT = "shop", "127.0.0.1:9464", "shop@here:9464"

POLICY = """
version: 1
sources: {receiver: remediation, scrape_interval_seconds: 2}
reconcile: {every_seconds: 10, grace_seconds: 5}
limits: {storm: {share: 1, minimum_targets: 10, incidents_per_minute: 100}}
units: [{job: shop, unit: shop}]
handlers:
  relieve:
    alerts: [Memory]
    mode: auto
    effect: idempotent
    action: {verb: relieve_memory, parameters: {keep: 1}, timeout_seconds: 5}
    verify: {query: ratio, healthy: {below: 1.5}, settle_seconds: 2, timeout_seconds: 20}
  charge:
    alerts: [Charge]
    mode: auto
    effect: neither
    action: {verb: charge, timeout_seconds: 5}
    verify: {query: ratio, healthy: {below: 1.5}, timeout_seconds: 20}
  speed:
    alerts: [Slow]
    mode: auto
    effect: idempotent
    action: {verb: switch_profile, parameters: {profile: speed}, timeout_seconds: 5}
    verify: {query: p95, match: [operation], healthy: {below: 1}, timeout_seconds: 20}
    hold: {lease_seconds: 30, quiet_seconds: 10, max_seconds: 600, release: {query: calm, healthy: {at_least: 1}}}
  asks:
    alerts: [Asks]
    mode: approve
    effect: idempotent
    action: {verb: relieve_memory, timeout_seconds: 5}
    verify: {query: ratio, healthy: {below: 1.5}, timeout_seconds: 20}
  watches:
    alerts: [Watches]
    mode: observe
    effect: idempotent
    action: {verb: relieve_memory, timeout_seconds: 5}
    verify: {query: ratio, healthy: {below: 1.5}, timeout_seconds: 20}
  restart:
    alerts: [Down]
    mode: auto
    effect: detectable
    action: {driver: supervisor, verb: restart, timeout_seconds: 5}
    precondition: {query: up, healthy: {at_least: 1}}
    verify: {query: process_start_time_seconds, healthy: {newer_than: incident}, timeout_seconds: 20}
"""


class _Quiet(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # One packet per answer: headers and body written apart would wait for a delayed ACK.
    wbufsize = 65_536

    def log_message(self, *_args):
        pass

    def answer(self, status, body):
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


@contextlib.contextmanager
def http_server(handler):
    """A real server on a free port; yields its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@dataclass
class FakePrometheus:
    """Answers instant queries in Prometheus' own shape. `broken` is answered instead of anything when it is set."""

    clock: ManualClock
    series: dict = field(default_factory=dict)
    targets: dict = field(default_factory=lambda: {(JOB, INSTANCE): True})
    firing: list = field(default_factory=list)
    broken: tuple | None = None
    asked: list = field(default_factory=list)

    def result(self, query):
        if query == UP:
            return [({"__name__": "up", "job": j, "instance": i}, float(up)) for (j, i), up in self.targets.items()]
        if query == FRESH:
            return [({"job": j, "instance": i}, self.clock.now()) for (j, i), up in self.targets.items() if up]
        if query == FIRING:
            return [({"__name__": "ALERTS", "alertstate": "firing", **labels}, 1.0) for labels in self.firing]
        return self.series.get(query, [])

    def handler(self):
        fake = self

        class Handler(_Quiet):
            def do_POST(self):
                query = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())["query"][0]
                fake.asked.append(query)
                if fake.broken is not None:
                    self.answer(*fake.broken)
                    return
                now = fake.clock.now()
                rows = [{"metric": labels, "value": [now, str(value)]} for labels, value in fake.result(query)]
                self.answer(200, {"status": "success", "data": {"resultType": "vector", "result": rows}})

        return Handler


@dataclass
class FakeAlertmanager:
    """Answers /api/v2/alerts in Alertmanager's own shape."""

    alerts: dict = field(default_factory=dict)
    broken: tuple | None = None

    def handler(self):
        fake = self

        class Handler(_Quiet):
            def do_GET(self):
                self.answer(*(fake.broken or (200, list(fake.alerts.values()))))

        return Handler

    def fire(self, labels, starts_at, *, silenced_by=(), receiver="remediation"):
        self.alerts[fingerprint(labels)] = {
            "annotations": {"summary": "s"},
            "endsAt": iso(starts_at + 240),
            "fingerprint": "0123456789abcdef",
            "receivers": [{"name": receiver}],
            "startsAt": iso(starts_at),
            "status": {
                "inhibitedBy": [],
                "mutedBy": [],
                "silencedBy": list(silenced_by),
                "state": "suppressed" if silenced_by else "active",
            },
            "updatedAt": iso(starts_at),
            "generatorURL": "",
            "labels": labels,
        }


class FakeAgents:
    """The hub and one agent in one. `effects` is the application's ledger."""

    def __init__(self, clock):
        self.clock = clock
        self.boot_id = "boot-1"
        self.present = True
        self.effects = []
        self.sent = []
        self.stored = {}
        self.leases = {}
        self.actions = (
            Action("relieve_memory", "idempotent"),
            Action("switch_profile", "idempotent"),
            Action("charge", "neither"),
        )
        self.script = []  # what the next commands meet: "silent", "lost", "failed", a refusal; default: done
        self.on_act = lambda command: None
        self.gate = None

    def connected(self):
        if not self.present:
            return {}
        leases = tuple(Lease(lease, {}, at) for lease, at in self.leases.items())
        hello = AgentHello(
            AGENT, self.boot_id, JOB, 1, 0.0, 20.0, self.clock.now(), actions=self.actions, leases=leases
        )
        return {AGENT: hello}

    def dispatch(self, agent_id, command, *, timeout):
        self.sent.append(command)
        if self.gate is not None:
            self.gate.wait(10)
        if command.attempt_id in self.stored:
            return self.stored[command.attempt_id]
        plan = self.script.pop(0) if self.script else "done"
        if plan == "silent":
            return None
        if command.boot_id != self.boot_id:
            plan = "other_boot"
        if plan in ("done", "lost"):
            result = CommandResult(command.attempt_id, self.boot_id, "done", self._act(command))
            self.stored[command.attempt_id] = result
            return None if plan == "lost" else result
        if plan == "failed":
            return CommandResult(command.attempt_id, self.boot_id, "failed", error="it raised")
        return CommandResult(command.attempt_id, self.boot_id, "refused", refusal=plan)

    def _act(self, command):
        lease = command.parameters.get("lease_id", command.attempt_id)
        if command.verb == "renew_lease":
            self.leases[lease] = self.clock.now() + command.parameters["lease_seconds"]
        elif command.verb == "revert_lease":
            self.leases.pop(lease, None)
        else:
            self.effects.append((command.attempt_id, command.verb))
            if "lease_seconds" in command.parameters:
                self.leases[lease] = self.clock.now() + command.parameters["lease_seconds"]
        self.on_act(command)
        return {"ok": True}


class World:
    def __init__(self, folder, urls, prom, am, *, policy=POLICY, drivers=None):
        self.folder, self.prom, self.am, self.clock = folder, prom, am, prom.clock
        self.agents = FakeAgents(self.clock)
        self.drivers = drivers or {}
        self.policy_file = folder / "policy.yml"
        self.policy_file.write_text(policy, encoding="utf-8")
        self._urls = urls
        self._clients = []
        self.memory(2.0)
        self.prom.series["llmvitals_agent_info"] = [
            ({"job": JOB, "instance": INSTANCE, "agent_id": AGENT, "boot_id": "boot-1", "service": JOB}, 1.0)
        ]
        self.boot()

    def boot(self):
        """A new life of the service, on the same database."""
        self.store = Store.open(self.folder / "remediation.db", self.clock)
        self.metrics = Metrics(CollectorRegistry())
        clients = PrometheusClient(self._urls[0], timeout=2), AlertmanagerClient(self._urls[1], timeout=2)
        self._clients += clients
        self.engine = Engine(
            self.store,
            PolicySource(self.policy_file),
            *clients,
            self.agents,
            self.drivers,
            self.metrics,
            self.clock,
            dice=random.Random(7),
        )

    def die(self):
        """End this life without a word, as a crash does."""
        self.engine._jobs.stopping.set()
        self.store.close()

    def close(self):
        self.engine.stop(1.0)
        self.store.close()
        for client in self._clients:
            client.close()

    # --- the outside --------------------------------------------------------------------------------------------------

    def memory(self, value):
        self.series("ratio", value)

    def series(self, query, value, **labels):
        self.prom.series[query] = [({"job": JOB, "instance": INSTANCE, **labels}, value)]

    def fire(self, name="Memory", *, deliver=True, starts_at=None, instance=INSTANCE, job=JOB, **labels):
        """An alert fires: Prometheus and Alertmanager have it, and the webhook tells."""
        starts_at = self.clock.now() if starts_at is None else starts_at
        told = {"alertname": name, "job": job, "instance": instance, "severity": "warning", **labels}
        told = {key: value for key, value in told.items() if value is not None}
        self.prom.firing.append(told)
        self.am.fire(told, starts_at)
        if deliver:
            self.deliver(told, starts_at)
        return told

    def deliver(self, labels, starts_at, *, status="firing", ends_at=None):
        alert = {
            "status": status,
            "labels": labels,
            "annotations": {"summary": "s"},
            "startsAt": iso(starts_at),
            "endsAt": "0001-01-01T00:00:00Z" if ends_at is None else iso(ends_at),
            "generatorURL": "",
            "fingerprint": "0123456789abcdef",
        }
        return self.store.accept(webhook(alert), received_at=self.clock.now())

    def quiet(self, labels, *, deliver=False):
        """The alert is over, everywhere."""
        told = self.am.alerts.pop(fingerprint(labels))
        self.prom.firing.remove(labels)
        if deliver:
            starts_at = self.clock.now() - 60
            del told
            self.deliver(labels, starts_at, status="resolved", ends_at=self.clock.now())

    # --- the engine ---------------------------------------------------------------------------------------------------

    def tick(self, times=1):
        """Passes of the engine, each until everything that it started has come back."""
        for _ in range(times):
            self.engine.tick()
            self.idle()

    def idle(self):
        until(lambda: not self.engine._jobs._running, what="the jobs")

    def run(self, seconds, step=0.5):
        """Let time go by in steps, with a pass at each."""
        end = self.clock.now() + seconds
        self.tick()
        while self.clock.now() < end:
            self.clock.advance(step)
            self.tick()

    def incident(self, **where):
        found = self.store.incidents(**where)
        assert found, "there is no incident"
        return self.store.incident(found[0]["id"])

    def value(self, name, **labels):
        return self.metrics.registry.get_sample_value(name, labels)


@contextlib.contextmanager
def world(folder, **options):
    clock = ManualClock()
    prom, am = FakePrometheus(clock), FakeAlertmanager()
    with http_server(prom.handler()) as prometheus_url, http_server(am.handler()) as alertmanager_url:
        made = World(folder, (prometheus_url, alertmanager_url), prom, am, **options)
        try:
            yield made
        finally:
            made.close()


def webhook(*alerts, **fields):
    """A body as Alertmanager 0.25 sends it."""
    return json.dumps(
        {
            "receiver": "remediation",
            "status": "firing",
            "alerts": list(alerts),
            "groupLabels": {},
            "commonLabels": {},
            "commonAnnotations": {},
            "externalURL": "http://am",
            "version": "4",
            "groupKey": "{}:{}",
            "truncatedAlerts": 0,
            **fields,
        }
    ).encode()


def until(condition, *, seconds=5.0, what="it"):
    """Poll with a deadline; returns what *condition* returned."""
    end = time.monotonic() + seconds
    while not (told := condition()):
        assert time.monotonic() < end, f"{what} did not come within {seconds} s"
        time.sleep(0.002)
    return told
