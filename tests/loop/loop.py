"""The real loop on free ports: Prometheus, Alertmanager, the remediation service, and shops to be remedied."""

import contextlib
import json
import sqlite3
import sys
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tests import servers
from tests.servers import Server, eventually, free_port, request

HERE = Path(__file__).parent
TOKENS = {name: f"{name}-token-0123456789" for name in ("ingest", "admin", "agent")}


@dataclass(slots=True)
class Shop:
    """One instance of the application, and its ledger."""

    metrics_port: int
    control_port: int
    ledger: Path
    job: str = "shop"
    server: Server | None = None

    @property
    def instance(self) -> str:
        return f"127.0.0.1:{self.metrics_port}"

    def crowd(self, count: int = 30) -> None:
        """The fault: *count* more users than there were."""
        self.tell(f"crowd/{count}")

    def tell(self, what: str) -> None:
        assert request(f"http://127.0.0.1:{self.control_port}/{what}", method="POST", body=b"").status == 204

    def effects(self) -> list[dict]:
        """What was really done, by the only witness."""
        return [json.loads(line) for line in self.ledger.read_text(encoding="utf-8").splitlines()]


@dataclass(slots=True)
class Loop:
    folder: Path
    prometheus: Server
    alertmanager: Server
    port: int
    shops: list[Shop]
    policy: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextlib.contextmanager
    def remediation(self, *, crash_at: str | None = None, ready: str = "/readyz") -> Iterator[Server]:
        """The service as a process of its own, on the same port and database each time."""
        with servers.server(
            self.command(),
            port=self.port,
            log=self.folder / "remediation.log",
            ready=ready,
            environment={"LLMVITALS_CRASH_AT": crash_at} if crash_at else None,
        ) as started:
            yield started

    def command(self, *, port: int | None = None) -> list[str | Path]:
        flags: dict[str, object] = {
            "--port": port or self.port,
            "--database": self.folder / "remediation.db",
            "--policy": self.policy,
            "--prometheus-url": self.prometheus.url,
            "--alertmanager-url": self.alertmanager.url,
            **{f"--{name}-token-file": self.folder / f"{name}_token" for name in TOKENS},
        }
        return [
            sys.executable,
            "-m",
            "llmvitals_remediation",
            "serve",
            *(str(text) for pair in flags.items() for text in pair),
        ]

    @contextlib.contextmanager
    def shop(self, job: str = "shop") -> Iterator[Shop]:
        """A shop on a target of its own, so that no test meets another's cooldown."""
        shop = next(shop for shop in self.shops if shop.job == job)
        self.shops.remove(shop)
        shop.ledger.touch()
        with self.open(shop):
            yield shop

    @contextlib.contextmanager
    def open(self, shop: Shop) -> Iterator[Shop]:
        """Run the shop's process until the block ends, on its old ports."""
        command = [
            sys.executable,
            HERE / "shop.py",
            f"--service={shop.job}",
            f"--metrics-port={shop.metrics_port}",
            f"--control-port={shop.control_port}",
            f"--remediation-url={self.url}",
            f"--agent-token-file={self.folder / 'agent_token'}",
            f"--ledger={shop.ledger}",
        ]
        log = self.folder / f"shop-{shop.metrics_port}.log"
        with servers.server(command, port=shop.control_port, log=log, ready="/") as started:
            shop.server = started
            yield shop

    def api(self, path: str, **others: object) -> servers.Answer:
        return request(f"{self.url}/api/v1/{path}", token=TOKENS["admin"], **others)

    def incidents(self, shop: Shop) -> list[dict]:
        """The incidents of that shop, newest first."""
        told = self.api("incidents?limit=200").json()["incidents"]
        return [incident for incident in told if incident["instance"] == shop.instance]

    def closed(self, shop: Shop, *, seconds: float = 30.0) -> dict:
        """The shop's only incident, once it is closed."""

        def ask() -> dict | None:
            with contextlib.suppress(OSError):
                found = self.incidents(shop)
                if found and all(incident["state"] == "closed" for incident in found):
                    assert len(found) == 1, found
                    return found[0]
            return None

        return eventually(ask, seconds=seconds, every=0.1, what="the end of the incident")

    def is_over(self, shop: Shop) -> bool:
        """Whether the word that the shop's alert is over was delivered: then no echo of it meets the next test."""
        with contextlib.closing(
            sqlite3.connect(f"file:{self.folder / 'remediation.db'}?mode=ro", uri=True)
        ) as database:
            rows = database.execute("SELECT labels FROM alert_events WHERE status = 'resolved'").fetchall()
        return any(json.loads(labels)["instance"] == shop.instance for (labels,) in rows)

    def wait_until_over(self, shop: Shop) -> None:
        eventually(lambda: self.is_over(shop), seconds=20, what="the end of the alert")

    def agent_is_connected(self, shop: Shop) -> bool:
        return f"{shop.job}@{shop.instance}" in json.dumps(self.api("status").json())

    def prometheus_knows(self, shop: Shop) -> bool:
        """Whether the target was scraped, so that the loop starts with the fault and not with the start-up."""
        found = servers.query(self.prometheus.url, "llmvitals_agent_info")
        return any(series["metric"]["instance"] == shop.instance for series in found)

    def wait_until_known(self, shop: Shop) -> None:
        eventually(
            lambda: self.prometheus_knows(shop) and self.agent_is_connected(shop), seconds=20, what="the shop's agent"
        )

    def value(self, shop: Shop, metric: str) -> float:
        text = request(f"http://{shop.instance}/metrics").text
        line = next(line for line in text.splitlines() if line.startswith(f"{metric} "))
        return float(line.split()[1])


@contextlib.contextmanager
def loop(folder: Path, *, shops: int, kiosks: int) -> Iterator[Loop]:
    """Prometheus and Alertmanager for so many targets of each kind; the rest is the tests' to start."""
    for name, token in TOKENS.items():
        (folder / f"{name}_token").write_text(f"{token}\n", encoding="utf-8")
    policy = folder / "policy.yml"
    policy.write_text((HERE / "policy.yml").read_text(encoding="utf-8"), encoding="utf-8")
    port = free_port()
    allotted = [
        Shop(free_port(), free_port(), folder / f"ledger-{number}.jsonl", job)
        for number, job in enumerate([*["shop"] * shops, *["kiosk"] * kiosks])
    ]
    route = {
        "receiver": "remediation",
        "group_by": ["alertname", "job", "instance"],
        "group_wait": "0s",
        "group_interval": "2s",
        "repeat_interval": "5s",
    }
    webhook = {
        "url": f"http://127.0.0.1:{port}/api/v1/alerts",
        "send_resolved": True,
        "max_alerts": 1000,
        "http_config": {
            "authorization": {"type": "Bearer", "credentials_file": str(folder / "ingest_token")},
            "follow_redirects": False,
        },
    }
    receivers = [{"name": "remediation", "webhook_configs": [webhook]}]
    with (
        servers.alertmanager(folder / "alertmanager", config={"route": route, "receivers": receivers}) as alertmanager,
        servers.prometheus(
            folder / "prometheus",
            targets={job: [shop.instance for shop in allotted if shop.job == job] for job in ("shop", "kiosk")},
            rules=[HERE / "crowd.yml"],
            alertmanagers=[urllib.parse.urlsplit(alertmanager.url).netloc],
        ) as prometheus,
    ):
        yield Loop(folder, prometheus, alertmanager, port, allotted, policy)


def seconds_between(start: str, end: str) -> float:
    """Between two times of the API."""
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
