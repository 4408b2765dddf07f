"""A checkout of its own for a stack, so that one that runs in the real checkout is left alone."""

import shutil
import socket
from pathlib import Path

from llmvitals_stack.settings import PORTS, Settings, ensure, load

ROOT = Path(__file__).parents[2]
SOURCES = ("prometheus", "alertmanager", "grafana", "remediation", "stack", "examples", "docs")


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def make(root: Path, changes: dict[str, str]) -> Settings:
    """The sources as links, and an `.env` with free ports and *changes*."""
    for name in SOURCES:
        (root / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / ".env.example", root)
    ports = {key: str(port) for key, port in zip(PORTS, free_ports(len(PORTS)), strict=True)}
    wanted = {**ports, "LLMVITALS_MODE": "native", **changes}
    lines = []
    for line in (ROOT / ".env.example").read_text(encoding="utf-8").splitlines():
        key = line.partition("=")[0]
        lines.append(f"{key}={wanted[key]}" if key in wanted else line)
    (root / ".env").write_text("\n".join(lines) + "\n", encoding="utf-8")
    ensure(root)
    return load(root)
