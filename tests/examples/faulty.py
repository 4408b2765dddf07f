"""A real faulty_llm process on ports of its own, and the hand that turns its dials."""

import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers import Answer, request


@dataclass(frozen=True, slots=True)
class Faulty:
    """Addresses of one process; `providers` by name, without `/v1`."""

    providers: dict[str, str]
    control: str
    process: subprocess.Popen[str]
    log: Path

    def url(self, provider: str = "primary") -> str:
        return f"{self.providers[provider]}/v1"

    def turn(self, provider: str = "primary", /, **dials: Any) -> Answer:
        return request(f"{self.control}/dials/{provider}", method="PUT", data=dials)

    def reset(self) -> None:
        """All dials back but the pace, which is too quick to wait for; the ledger empty."""
        for provider in self.providers:
            request(f"{self.control}/dials/{provider}/reset", method="POST")
            self.turn(
                provider,
                latency_seconds=0.005,
                time_to_first_token_seconds=0.005,
                tokens_per_second=2000,
                models={"thinker": None},
            )
        request(f"{self.control}/ledger", method="DELETE")

    def ledger(self, provider: str = "primary") -> dict[str, Any]:
        ledger: dict[str, Any] = request(f"{self.control}/ledger").json()[provider]
        return ledger


@contextlib.contextmanager
def faulty_llm(*arguments: str, log: Path) -> Iterator[Faulty]:
    command = [sys.executable, "-m", "faulty_llm", "--listen=primary=0", "--listen=backup=0", "--control-port=0"]
    with log.open("ab") as errors:
        process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        told = _addresses(process, log)
        control = told.pop("control")
        yield Faulty({name: url.removesuffix("/v1") for name, url in told.items()}, control, process, log)
    finally:
        process.terminate()
        try:
            process.wait(10)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def _addresses(process: subprocess.Popen[str], log: Path) -> dict[str, str]:
    told: dict[str, str] = {}
    deadline = time.monotonic() + 60
    while "control" not in told:
        line = process.stdout.readline()
        found = re.fullmatch(r"faulty_llm: (\w+) on (http://\S+)\n", line)
        if found is None or time.monotonic() > deadline:
            raise RuntimeError(f"faulty_llm said {line!r}\n{log.read_text()}")
        told[found[1]] = found[2]
    return told
