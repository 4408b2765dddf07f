"""How fast alerts become durable: concurrent deliveries into the store, as many HTTP workers would bring them.

    python bench/remediation_ingest.py [--seconds 5] [--senders 8] [--alerts 10] [--database FILE]

Budget: at least 1,000 alerts/s, 99th percentile of a delivery at most 100 ms, and nothing acknowledged is lost.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from pathlib import Path

from llmvitals_remediation.clock import SystemClock, iso
from llmvitals_remediation.store import Store


def body(sender: int, number: int, alerts: int) -> bytes:
    """A delivery of alerts that were never seen before: the slow case."""
    began = iso(time.time())
    told = [
        {
            "status": "firing",
            "labels": {
                "alertname": "LLMUserProfilesHigh",
                "job": "companion",
                "instance": f"10.0.{sender}.{number}:{index}",
                "severity": "warning",
                "component": "app",
                "remediate": "true",
            },
            "annotations": {"summary": "More user profiles are active than wanted.", "description": "d" * 200},
            "startsAt": began,
            "endsAt": "0001-01-01T00:00:00Z",
        }
        for index in range(alerts)
    ]
    return json.dumps({"version": "4", "status": "firing", "alerts": told}).encode()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--senders", type=int, default=8)
    parser.add_argument("--alerts", type=int, default=10, help="alerts in one delivery")
    parser.add_argument("--database", type=Path, help="where the database is made; on the disk that is to be measured")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.database or Path(folder) / "bench.db"
        store = Store.open(path, SystemClock())
        waits: list[float] = []
        lock = threading.Lock()
        end = time.perf_counter() + arguments.seconds

        def send(sender: int) -> None:
            mine = []
            number = 0
            while time.perf_counter() < end:
                told = body(sender, number, arguments.alerts)
                began = time.perf_counter()
                store.accept(told, received_at=time.time())
                mine.append(time.perf_counter() - began)
                number += 1
            with lock:
                waits.extend(mine)

        began = time.perf_counter()
        threads = [threading.Thread(target=send, args=(sender,)) for sender in range(arguments.senders)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.perf_counter() - began
        store.close()
        again = Store.open(path, SystemClock())
        depth, _ = again.inbox()
        again.close()
    waits.sort()
    acknowledged = len(waits) * arguments.alerts
    rate, p50, p99 = acknowledged / took, waits[len(waits) // 2], waits[int(len(waits) * 0.99)]
    print(f"{arguments.senders} senders, {arguments.alerts} alerts a delivery, {took:.1f} s")
    print(f"  {rate:8.0f} alerts/s      (budget: at least 1000)")
    print(f"  {p50 * 1000:8.2f} ms p50")
    print(f"  {p99 * 1000:8.2f} ms p99       (budget: at most 100)")
    print(f"  {acknowledged - depth:8d} acknowledged alerts lost")
    return 0 if rate >= 1000 and p99 <= 0.1 and depth == acknowledged else 1


if __name__ == "__main__":
    sys.exit(main())
