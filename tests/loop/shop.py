"""A small application for the end-to-end tests: users pile up on command, actions shed them, a ledger keeps count.

    python tests/loop/shop.py --metrics-port P --control-port C --remediation-url U --agent-token-file F --ledger L

The ledger is append-only and synced line by line: it survives the death of anybody, and judges.
"""

import argparse
import json
import os
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import llmvitals

BOOT = uuid.uuid4().hex
LOCK = threading.Lock()


class Shop:
    def __init__(self, vitals, ledger):
        self.users = vitals.users(max_active=10, idle_seconds=86_400, enforce=False)
        self.ledger = ledger
        self.delay = 0.0

    def enter(self, verb, **detail):
        """One effect, durable before anybody is told of it."""
        with LOCK, self.ledger.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"verb": verb, "at": time.time(), "boot_id": BOOT, **detail}) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def crowd(self, count):
        for number in range(count):
            self.users.get_or_create(f"user-{number}-{uuid.uuid4().hex}", dict)


def control(shop, port):
    class Control(BaseHTTPRequestHandler):
        def do_POST(self):
            name, _, value = self.path.strip("/").partition("/")
            if name == "crowd":
                shop.crowd(int(value))
            elif name == "delay":
                shop.delay = float(value)
            self.send_response(204)
            self.end_headers()

        def do_GET(self):
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_args):
            """Quiet."""

    return ThreadingHTTPServer(("127.0.0.1", port), Control)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--service", default="shop")
    parser.add_argument("--metrics-port", type=int, required=True)
    parser.add_argument("--control-port", type=int, required=True)
    parser.add_argument("--remediation-url", required=True)
    parser.add_argument("--agent-token-file", required=True)
    parser.add_argument("--ledger", type=Path, required=True)
    told = parser.parse_args()
    vitals = llmvitals.start(
        told.service,
        port=told.metrics_port,
        remediation_url=told.remediation_url,
        agent_token_file=told.agent_token_file,
    )
    shop = Shop(vitals, told.ledger)

    @vitals.action(effect="idempotent")
    def shed_users(keep: int = 10) -> dict:
        """Send users home until *keep* are left."""
        time.sleep(shop.delay)
        before = len(shop.users)
        shop.users.evict_oldest(keep=keep)
        shop.enter("shed_users", before=before, after=len(shop.users))
        return {"before": before, "after": len(shop.users)}

    control(shop, told.control_port).serve_forever()


if __name__ == "__main__":
    main()
