"""Writes the table of versions into docs/integrations.md from what is declared and locked; `--check` compares only."""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / "integrations.md"
TABLE = re.compile(r"^\| library +\|.*?(?=^$)", re.DOTALL | re.MULTILINE)


def oldest() -> dict[str, str]:
    """Return the oldest supported version of each library, as pyproject.toml declares it."""
    group = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]["integrations"]
    return dict(requirement.split(">=") for requirement in group)


def locked(file: str) -> dict[str, str]:
    """Return the version of each package that a file of constraints locks."""
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE))


def table() -> str:
    first, last = oldest(), locked("constraints-dev.txt")
    width = max(map(len, first))
    lines = [f"| {'library':<{width}} | oldest  | newest |", f"|{'-' * (width + 2)}|---------|--------|"]
    lines += [f"| {name:<{width}} | {first[name]:<7} | {last[name]:<6} |" for name in sorted(first) if name in last]
    return "\n".join(lines) + "\n"


def main() -> int:
    page = TARGET.read_text(encoding="utf-8")
    written = TABLE.sub(lambda _: table(), page, count=1)
    if "--check" in sys.argv:
        return int(page != written)
    TARGET.write_text(written, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
