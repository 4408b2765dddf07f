"""Turns every fault of the demo on, in a running demo of its own, and notes which alerts really fired, and when.

    python -m tests.stack.fire_alerts [--write] [--only ALERT ... [--in-turn]]

Takes an hour and forty minutes, because many alerts look back ten minutes; --only turns on, at once, what these alerts
need. Ctrl-C ends it and what it started. --write keeps what was seen in docs/alerts-fired.json, from which
docs/alerts.md is made; with --only, what was seen of these alerts. Only root may mount the small disks that two of the
alerts are about.
"""

import argparse
import contextlib
import dataclasses
import datetime as dt
import json
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from tests.stack import checkout, yesterday
from tests.stack.demo_world import Undo, World
from tests.stack.fault import Fault
from tests.stack.faults import FAULTS

from llmvitals_stack import native
from llmvitals_stack.settings import Settings
from llmvitals_stack.terminal import Terminal

KEPT = checkout.ROOT / "docs" / "alerts-fired.json"
WARM_SECONDS = 60
# What comes late may still be a fault's doing: the alert's own windows, and a machine that is busy.
GRACE_SECONDS = 240


@dataclass(slots=True)
class Seen:
    """When each alert was first seen to fire, by its name and severity, in seconds from when the demo was warm."""

    first: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    _firing: set[str] = field(default_factory=set)

    def look(self, prometheus: str, now: float) -> Iterator[tuple[str, str]]:
        """Yields what began to fire."""
        answer = requests.get(f"{prometheus}/api/v1/alerts", timeout=10).json()
        firing = {}
        for alert in answer["data"]["alerts"]:
            if alert["state"] == "firing":
                labels = alert["labels"]
                firing[json.dumps(labels, sort_keys=True)] = (labels["alertname"], labels["severity"])
        for key in firing.keys() - self._firing:
            self.first.setdefault(firing[key], []).append(now)
            yield firing[key]
        self._firing = set(firing)

    def after(self, alert: str, start: float, end: float) -> float | None:
        moments = [at for (name, _), seen in self.first.items() if name == alert for at in seen if start <= at < end]
        return min(moments, default=None)


def say(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stdout.flush()


def run(settings: Settings, faults: Sequence[Fault]) -> Seen:
    world = World(settings)
    seen = Seen()
    begun = time.monotonic()
    waiting = sorted(faults, key=lambda fault: fault.start)
    running: list[tuple[Fault, Undo]] = []
    last = max(fault.start + fault.seconds for fault in faults) + 60
    try:
        while (now := time.monotonic() - begun) < last:
            for fault, undo in [pair for pair in running if pair[0].start + pair[0].seconds <= now]:
                running.remove((fault, undo))
                _guarded(fault, undo)
                say(f"{now:6.0f} s  off: {fault.says}")
            while waiting and waiting[0].start <= now:
                fault = waiting.pop(0)
                say(f"{now:6.0f} s  on:  {fault.says}")
                undo = _guarded(fault, lambda fault=fault: fault.turn_on(world))
                if undo is not None:
                    running.append((fault, undo))
            with contextlib.suppress(requests.RequestException):
                for name, severity in seen.look(settings.url("PROMETHEUS"), now):
                    say(f"{now:6.0f} s  FIRES {name} ({severity})")
            time.sleep(1)
    finally:
        for fault, undo in running:
            _guarded(fault, undo)
    return seen


def _guarded(fault: Fault, act: Any) -> Any:
    try:
        return act()
    except Exception as error:  # noqa: BLE001 -- one fault that cannot be turned is told, and the others go on
        say(f"        {fault.says}: {type(error).__name__}: {error}")
        return None


def report(seen: Seen, faults: Sequence[Fault] = FAULTS) -> dict[str, Any]:
    """What docs/alerts.md tells: by alert the first fault after which it fired, and how long after."""
    fired: dict[str, dict[str, Any]] = {}
    for fault in sorted(faults, key=lambda fault: fault.start):
        for alert in fault.alerts:
            at = seen.after(alert, fault.start, fault.start + fault.seconds + GRACE_SECONDS)
            if at is not None and alert not in fired:
                severities = sorted({severity for (name, severity) in seen.first if name == alert})
                fired[alert] = {"fault": fault.says, "seconds": round(at - fault.start), "severities": severities}
    expected = {alert for fault in faults for alert in fault.alerts}
    besides = sorted({name for name, _ in seen.first} - fired.keys())
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "versions": {
            "prometheus": _version("prometheus"),
            "alertmanager": _version("prometheus-alertmanager"),
            "python": platform.python_version(),
        },
        "fired": dict(sorted(fired.items())),
        "not_fired": sorted(expected - fired.keys()),
        "besides": besides,
    }


def _version(program: str) -> str:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).split("version ")[-1].split()[0].rstrip(",")


def _chosen(alerts: Sequence[str], *, in_turn: bool) -> tuple[Fault, ...]:
    """The faults of *alerts*, all of which begin at once, or each when the one before has been over for a minute."""
    chosen: list[Fault] = []
    start = 0.0
    for fault in FAULTS:
        if wanted := tuple(sorted(set(fault.alerts) & set(alerts))):
            chosen.append(dataclasses.replace(fault, start=start, alerts=wanted))
            start += fault.seconds + 60 if in_turn else 0
    return tuple(chosen)


def _wrong_prices(root: Path) -> None:
    """The checkout's own table of prices."""
    (root / "examples").unlink()
    (root / "examples").mkdir()
    prices = {"provider": "*", "model": "talker*", "input": 100_000, "output": 400_000, "cached_input": 50_000}
    table = {"currency": "USD", "updated": "2026-01-01", "budget": {"daily_usd": 5}, "prices": [prices]}
    (root / "examples" / "prices.json").write_text(json.dumps(table))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="keep what was seen for docs/alerts.md")
    parser.add_argument("--only", nargs="+", metavar="ALERT", help="turn on what these need, all at once")
    parser.add_argument("--in-turn", action="store_true", help="with --only: one fault after the other")
    options = parser.parse_args()
    faults = _chosen(options.only, in_turn=options.in_turn) if options.only else FAULTS
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="llmvitals-alerts-") as folder:
        root = Path(folder)
        nobody = checkout.free_ports(1)[0]
        settings = checkout.make(
            root,
            {
                "LLMVITALS_EXPORTER_NVIDIA": "demo",
                "LLMVITALS_EXPORTER_AMD": "on",
                "LLMVITALS_NOTIFY_WEBHOOK_URL": f"http://127.0.0.1:{nobody}/",
            },
        )
        # The backup is watched as a KoboldCpp and as a vLLM server, too.
        backup = f"127.0.0.1:{settings.port('FAULTY_LLM_BACKUP')}"
        env = root / ".env"
        text = env.read_text(encoding="utf-8")
        for line, value in (("LLMVITALS_EXPORTER_KOBOLDCPP=", f"http://{backup}"), ("LLMVITALS_VLLM_TARGETS=", backup)):
            text = text.replace(f"{line}\n", f"{line}{value}\n")
        env.write_text(text, encoding="utf-8")
        settings = checkout.load(root)
        _wrong_prices(root)
        yesterday.fill(settings)
        try:
            native.up(settings, Terminal())
            say(f"Prometheus: {settings.url('PROMETHEUS')}")
            time.sleep(WARM_SECONDS)
            found = report(run(settings, faults), faults)
        finally:
            native.down(settings)
    sys.stdout.write(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    if options.write:
        kept = json.loads(KEPT.read_text(encoding="utf-8")) if options.only else found
        kept["fired"] = dict(sorted((kept["fired"] | found["fired"]).items()))
        kept["not_fired"] = sorted((set(kept["not_fired"]) | set(found["not_fired"])) - kept["fired"].keys())
        KEPT.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return 1 if found["not_fired"] else 0


if __name__ == "__main__":
    sys.exit(main())
