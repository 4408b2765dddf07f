"""docs/alerts.md tells of every alert, and the runbooks' links lead somewhere."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUNBOOKS = sorted((ROOT / "docs" / "runbooks").glob("*.md"))


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("alerts_page", ROOT / "docs" / "alerts.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_in_the_repository_is_up_to_date(generator):
    """An alert that was added, renamed or reworded is in the page; else: make generate."""
    assert generator.TARGET.read_text(encoding="utf-8") == generator.document()


def test_each_alert_says_how_the_demo_makes_it_fire_or_why_not(generator):
    """None is missing and none is left over; one of the two is said, in words."""
    shown = generator.demo()

    assert sorted(generator.alerts()) == sorted(shown.keys() | generator.fired()["fired"].keys())
    assert [] == [name for name in generator.fired()["fired"] if "cannot" in shown.get(name, {})]
    for name, entry in shown.items():
        assert len({"how", "cannot"} & set(entry)) == 1, name
        assert len((entry.get("how") or entry["cannot"]).split()) >= 3, name
        assert "seen" not in entry or "how" in entry, name


@pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)
def test_links_of_runbooks_lead_to_files(path):
    """At three in the morning no link leads nowhere."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text(encoding="utf-8"))

    assert [] == [link for link in links if not (path.parent / link).is_file()]
