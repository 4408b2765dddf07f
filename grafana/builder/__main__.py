"""
Writes grafana/dashboards/*.json.

Run from the repository's root: ``python -m grafana.builder``. With ``--check`` nothing is written; the exit status is 1
when a file differs from what would be written, is missing, or is one that no module here makes.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grafana.builder.dashboards import (
    caches,
    cost,
    gpu,
    host,
    llm_service,
    models,
    operations,
    overview,
    python,
    reliability,
    remediation,
    servers,
    slo,
    stack,
    users,
)

FOLDER = Path(__file__).resolve().parent.parent / "dashboards"
DASHBOARDS = (
    overview.build,
    llm_service.build,
    reliability.build,
    operations.build,
    caches.build,
    users.build,
    cost.build,
    python.build,
    host.build,
    gpu.build,
    servers.build,
    stack.build,
    models.build,
    slo.build,
    remediation.build,
)


def files() -> dict[str, bytes]:
    """Each file's name and bytes."""
    return {f"{d['uid']}.json": _encode(d) for d in (make() for make in DASHBOARDS)}


def problems(folder: Path = FOLDER) -> list[str]:
    """What differs between *folder* and `files`, a sentence each."""
    wanted = files()
    found = [
        f"{folder / name} is not up to date"
        for name, content in wanted.items()
        if not (folder / name).is_file() or (folder / name).read_bytes() != content
    ]
    strays = sorted(p for p in folder.glob("*.json") if p.name not in wanted)
    return found + [f"{p} is made by no module of grafana/builder/dashboards" for p in strays]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m grafana.builder", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare the committed files, write nothing")
    if parser.parse_args().check:
        found = problems()
        for problem in found:
            sys.stderr.write(f"{problem}\n")
        if found:
            sys.stderr.write("run: python -m grafana.builder\n")
        return 1 if found else 0
    FOLDER.mkdir(exist_ok=True)
    for name, content in files().items():
        (FOLDER / name).write_bytes(content)
        sys.stdout.write(f"{FOLDER / name}\n")
    return 0


def _encode(dashboard: Mapping[str, Any]) -> bytes:
    return (json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n").encode()


if __name__ == "__main__":
    sys.exit(main())
