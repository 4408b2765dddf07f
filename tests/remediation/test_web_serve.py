"""The service as a process: how it starts when others are away, how it refuses to start, how it ends."""

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests import servers
from tests.servers import eventually, free_port, request

TOKENS = {name: f"{name}-token-0123456789" for name in ("ingest", "admin", "agent")}
POLICY = Path(__file__).parents[2] / "remediation" / "policies" / "demo.yml"
DRAIN_SECONDS = 5.0


def command(folder, port, *others):
    """Flags for a service whose Prometheus and Alertmanager are away."""
    away = f"http://127.0.0.1:{free_port()}"
    for name, token in TOKENS.items():
        (folder / name).write_text(f"{token}\n", encoding="utf-8")
    return [
        *(sys.executable, "-m", "llmvitals_remediation", "serve", f"--port={port}"),
        *(f"--database={folder / 'remediation.db'}", f"--policy={POLICY}"),
        *(f"--prometheus-url={away}", f"--alertmanager-url={away}"),
        *(f"--{name}-token-file={folder / name}" for name in TOKENS),
        *others,
    ]


@contextlib.contextmanager
def service(folder):
    port = free_port()
    with servers.server(command(folder, port), port=port, log=folder / "log", ready="/healthz") as started:
        yield started


def webhook(name="LLMUserProfilesHigh"):
    alert = {
        "status": "firing",
        "labels": {"alertname": name, "job": "shop", "instance": "127.0.0.1:1"},
        "annotations": {},
        "startsAt": "2026-11-21T14:00:00Z",
        "endsAt": "0001-01-01T00:00:00Z",
    }
    return {"version": "4", "alerts": [alert]}


def test_with_prometheus_and_alertmanager_away_it_takes_alerts_and_says_what_is_amiss(tmp_path):
    """Degraded but honest: the intake works, /readyz names both, and the incident says why nothing is done."""
    with service(tmp_path) as started:
        taken = request(f"{started.url}/api/v1/alerts", data=webhook(), token=TOKENS["ingest"])
        ready = request(f"{started.url}/readyz")

        def told():
            listed = request(f"{started.url}/api/v1/incidents", token=TOKENS["admin"]).json()["incidents"]
            return next((incident for incident in listed if incident["state"] == "gated"), None)

        incident = eventually(told, what="a gated incident")

    assert (202, 200, "degraded") == (taken.status, ready.status, ready.json()["status"])
    assert {"prometheus", "alertmanager"} <= set(ready.json())
    assert "no answer" in incident["reason"]
    assert [] == incident["attempts"]


def test_a_second_process_on_the_same_database_says_so_and_exits_with_3(tmp_path):
    """Two that act on one store would act twice."""
    with service(tmp_path) as started:
        second = subprocess.run(command(tmp_path, free_port()), capture_output=True, timeout=20, check=False)
        first_still_answers = servers.answers(f"{started.url}/healthz")

    assert (3, True) == (second.returncode, first_still_answers)
    assert b"another remediation process has this database" in second.stderr
    assert b"Traceback" not in second.stderr


def test_a_taken_port_is_told_with_the_flag_to_set(tmp_path):
    """And the database is let go again."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = subprocess.run(command(tmp_path, port), capture_output=True, timeout=20, check=False)

    assert 3 == refused.returncode
    assert f"127.0.0.1:{port}".encode() in refused.stderr
    assert b"--port" in refused.stderr
    with service(tmp_path):
        pass


def test_a_database_that_is_none_is_told_and_left_as_it_was(tmp_path):
    """Whatever that file is, it is not ours to overwrite."""
    (tmp_path / "remediation.db").write_bytes(b"precious notes, not a database\n" * 100)

    refused = subprocess.run(command(tmp_path, free_port()), capture_output=True, timeout=20, check=False)

    assert 3 == refused.returncode
    assert b"cannot be opened as a database" in refused.stderr
    assert (tmp_path / "remediation.db").read_bytes().startswith(b"precious")


def test_sigterm_drains_within_five_seconds_while_agents_wait(tmp_path):
    """Polls are sent home with 503, what was taken is kept, and the status is 0."""
    hello = {
        "protocol": 1,
        "agent_id": "shop@127.0.0.1:1",
        "boot_id": "b",
        "service": "shop",
        "pid": 1,
        "started_at": 1.0,
        "wait_seconds": 30,
    }
    with service(tmp_path) as started, ThreadPoolExecutor(8) as pool:
        polls = [
            pool.submit(
                request,
                f"{started.url}/api/v1/agent/poll",
                data={**hello, "agent_id": f"shop-{number}"},
                token=TOKENS["agent"],
            )
            for number in range(8)
        ]
        eventually(
            lambda: len(request(f"{started.url}/api/v1/status", token=TOKENS["admin"]).json()["agents"]) == 8,
            what="eight waiting agents",
        )
        taken = request(f"{started.url}/api/v1/alerts", data=webhook(), token=TOKENS["ingest"])
        began = time.monotonic()
        status = started.stop(seconds=20)
        took = time.monotonic() - began
        answers = {poll.result(5).status for poll in polls}

    assert (202, 0, {503}) == (taken.status, status, answers)
    assert took < DRAIN_SECONDS
    with service(tmp_path) as again:
        again_known = request(f"{again.url}/api/v1/alerts", data=webhook(), token=TOKENS["ingest"])
    assert "duplicate" == again_known.json()["result"]


def test_a_stop_is_not_held_up_by_a_client_that_never_ends_its_request(tmp_path):
    """One idle connection and one endless body cannot keep the old process alive."""
    head = f"POST /api/v1/alerts HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKENS['ingest']}\r\n"
    with (
        service(tmp_path) as started,
        socket.create_connection(("127.0.0.1", started.port)) as idle,
        socket.create_connection(("127.0.0.1", started.port)) as endless,
    ):
        endless.sendall(f"{head}Content-Length: 900\r\n\r\n{{".encode())
        idle.sendall(b"GET /healthz HT")
        began = time.monotonic()
        status = started.stop(seconds=20)

    assert 0 == status
    assert time.monotonic() - began < DRAIN_SECONDS


def test_every_acknowledged_delivery_survives_kill_nine_under_load(tmp_path):
    """SIGKILL while 8 senders deliver: each 202 that anybody saw is in the database afterwards."""
    seen, stop = [], threading.Event()

    def deliver(sender):
        number = 0
        while not stop.is_set():
            number += 1
            name = f"Alert{sender}x{number}"
            # Killed between the head and the body of an answer: nobody saw that one.
            with contextlib.suppress(OSError, http.client.HTTPException):
                answer = request(f"{started.url}/api/v1/alerts", data=webhook(name), token=TOKENS["ingest"], timeout=5)
                if answer.status == 202:
                    seen.append(name)

    with service(tmp_path) as started:
        senders = [threading.Thread(target=deliver, args=(number,)) for number in range(8)]
        for sender in senders:
            sender.start()
        eventually(lambda: len(seen) > 200, seconds=20, what="200 deliveries")
        started.kill()
        stop.set()
        for sender in senders:
            sender.join(10)
    acknowledged = list(seen)
    with service(tmp_path) as again:
        results = {
            name: request(f"{again.url}/api/v1/alerts", data=webhook(name), token=TOKENS["ingest"]).json()["result"]
            for name in acknowledged
        }

    assert {"duplicate"} == set(results.values()), json.dumps(results)[:500]


@pytest.mark.parametrize("flag", ["--help", "serve --help", "check-policy --help"])
def test_help_is_there(flag):
    """Each command explains itself."""
    told = subprocess.run(
        [sys.executable, "-m", "llmvitals_remediation", *flag.split()], capture_output=True, timeout=20, check=False
    )

    assert (0, True) == (told.returncode, b"usage:" in told.stdout)
