"""Who may know whom: the arrows of the design, held by reading each part's imports."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"llmvitals", "llmvitals_exporter", "llmvitals_remediation", "llmvitals_stack", "companion", "faulty_llm"}
ALLOWED = {
    "instrumentation/llmvitals": {"llmvitals"},
    "exporter/llmvitals_exporter": {"llmvitals_exporter", "llmvitals"},
    "remediation/llmvitals_remediation": {"llmvitals_remediation"},
    "stack/llmvitals_stack": {"llmvitals_stack"},
    "examples/companion": {"companion", "llmvitals"},
    "examples/faulty_llm": {"faulty_llm", "llmvitals"},
}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("folder", ALLOWED)
def test_each_part_imports_only_whom_it_may_know(folder):
    """A part that imports another against the arrows fails, by file and name."""
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name in sorted(imported(path))
        if name.partition(".")[0] in OURS - ALLOWED[folder]
    ]

    assert [] == wrong


def test_the_exporter_knows_the_library_only_by_its_exposition():
    """Of the library, the exporter imports `llmvitals.exposition` and nothing else."""
    wrong = [
        f"{path.name}: {name}"
        for path in sorted((ROOT / "exporter").rglob("*.py"))
        for name in sorted(imported(path))
        if name.partition(".")[0] == "llmvitals" and not name.startswith("llmvitals.exposition")
    ]

    assert [] == wrong


def test_modules_are_short():
    """One idea a module: none of ours has more than 400 lines."""
    long = {
        str(path.relative_to(ROOT)): lines
        for folder in (*(name.partition("/")[0] for name in ALLOWED), "grafana/builder", "prometheus/builder")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 400
    }

    assert {} == long
