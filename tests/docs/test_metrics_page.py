"""docs/metrics.md is what the catalogues say."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "docs" / "metrics.py"


@dataclass(frozen=True)
class Family:
    name: str
    type: str
    help: str
    labels: tuple = ()
    buckets: tuple = ()
    since: str = "0.1.0"


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("metrics_page", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_in_the_repository_is_up_to_date(generator):
    """A family that was added, renamed or reworded is in the page; else: make generate."""
    assert generator.TARGET.read_text(encoding="utf-8") == generator.document(generator.catalogues())


def test_the_page_shows_name_type_labels_meaning_and_since(generator):
    """Each family is one row, whatever its help text holds."""
    families = [Family("a_total", "counter", "One | two.", ("job", "kind"), since="0.2.0")]

    page = generator.document([("Title", "Sentence.", families)])

    assert "| `a_total` | counter | `job`, `kind` | One \\| two. | 0.2.0 |" in page.splitlines()


def test_families_with_the_same_buckets_share_a_line(generator):
    """Bounds are told once a set, as short decimals."""
    families = [
        Family("a_seconds", "histogram", "A.", buckets=(0.1, 1.0)),
        Family("b_seconds", "histogram", "B.", buckets=(0.1, 1.0)),
    ]

    page = generator.document([("Title", "Sentence.", families)])

    assert "- `a_seconds`, `b_seconds`: 0.1, 1" in page.splitlines()


def test_check_fails_on_a_stale_page_and_says_what_to_do(generator, tmp_path, capsys):
    """--check changes nothing."""
    stale = tmp_path / "metrics.md"
    stale.write_text("old", encoding="utf-8")

    assert generator.main(["--check"], stale) == 1
    assert "make generate" in capsys.readouterr().err
    assert stale.read_text(encoding="utf-8") == "old"


def test_writing_makes_the_check_pass(generator, tmp_path):
    """What is written is what is checked."""
    page = tmp_path / "metrics.md"

    assert generator.main([], page) == 0
    assert generator.main(["--check"], page) == 0
