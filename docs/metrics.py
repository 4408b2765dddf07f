"""Writes docs/metrics.md from the catalogues in the code; `--check` fails when the file is not what they say."""

import importlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

TARGET = Path(__file__).with_name("metrics.md")

PACKAGES = (
    ("llmvitals", "An application", "On the application's own `/metrics`, port 9464 by default."),
    ("llmvitals_exporter", "The exporter", "Host, processes, containers, GPUs and LLM servers, port 9465 by default."),
    ("llmvitals_remediation", "The remediation service", "About itself, port 9466 by default."),
    ("llmvitals_stack", "The dashboard viewer", "About itself, where there is no Grafana, port 3000 by default."),
)

INTRODUCTION = """\
<!-- Written by docs/metrics.py from the catalogues in the code. Change those, then run `make generate`. -->

# Metrics

Every family that llmvitals exposes. Dashboards, rules and runbooks are checked against the same lists, so what is not
here does not exist. Units are seconds, bytes and ratios from 0 to 1. Prometheus adds `job` and `instance`; a histogram
shows as `_bucket`, `_sum` and `_count`. An empty `error_type` means success.

Rules and dashboards mostly read series recorded from these under `llm:*`, together with what other instrumentations and
LLM servers expose, and under `job:*`, of all instances of a job: see `prometheus/rules/recording`."""


class Family(Protocol):
    """What the catalogues have in common."""

    name: str
    type: str
    help: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...]
    since: str


def document(catalogues: Sequence[tuple[str, str, Sequence[Family]]]) -> str:
    """The page for *catalogues*, each a title, a sentence and its families."""
    parts = [INTRODUCTION]
    for title, sentence, families in catalogues:
        parts += [f"## {title}", sentence, "\n".join(_table(families))]
    parts += ["## Buckets", "Upper bounds, without `+Inf`.", "\n".join(_buckets(catalogues))]
    return "\n\n".join(parts) + "\n"


def _table(families: Sequence[Family]) -> Iterator[str]:
    yield "| name | type | labels | meaning | since |"
    yield "|---|---|---|---|---|"
    for family in families:
        labels = ", ".join(f"`{label}`" for label in family.labels)
        yield f"| `{family.name}` | {family.type} | {labels} | {_cell(family.help)} | {family.since} |"


def _buckets(catalogues: Sequence[tuple[str, str, Sequence[Family]]]) -> Iterator[str]:
    """One line for each set of bounds, with the families that share it."""
    shared: dict[tuple[float, ...], list[str]] = {}
    for _, _, families in catalogues:
        for family in families:
            if family.buckets:
                shared.setdefault(tuple(family.buckets), []).append(family.name)
    for bounds, names in shared.items():
        yield f"- {', '.join(f'`{name}`' for name in names)}: {', '.join(f'{bound:.10g}' for bound in bounds)}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def catalogues() -> list[tuple[str, str, Sequence[Family]]]:
    """Title, sentence and families of each package."""
    return [
        (title, sentence, importlib.import_module(f"{package}.catalogue").FAMILIES)
        for package, title, sentence in PACKAGES
    ]


def main(arguments: Sequence[str], target: Path = TARGET) -> int:
    """Write the page, or with ``--check`` compare it; returns the exit status."""
    text = document(catalogues())
    if "--check" not in arguments:
        target.write_text(text, encoding="utf-8")
        return 0
    if target.exists() and target.read_text(encoding="utf-8") == text:
        return 0
    sys.stderr.write(f"{target} is not what the catalogues say: run `make generate`\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
