from grafana.builder.__main__ import files, problems
from grafana.builder.layout import Row, place
from grafana.builder.panels import Query, stat


def test_committed_dashboards_are_up_to_date():
    """What is committed is, byte for byte, what the builder writes."""
    assert [] == problems()


def test_a_changed_file_and_a_stray_one_are_told(tmp_path):
    """A hand-edited dashboard and one that no module makes are both named."""
    for name, content in files().items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "llmvitals-overview.json").write_text("{}")
    (tmp_path / "mine.json").write_text("{}")

    found = problems(tmp_path)

    assert [
        f"{tmp_path / 'llmvitals-overview.json'} is not up to date",
        f"{tmp_path / 'mine.json'} is made by no module of grafana/builder/dashboards",
    ] == found


def test_a_folded_row_takes_one_line():
    """It holds its own panels, and the next row follows at once."""
    tiles = [stat(n, "Tile", "One.", Query("up{}"), unit="none") for n in (1, 2)]

    bar, after, shown = place([Row(10, "Folded", tiles[:1], folded=True), Row(20, "After", tiles[1:])])

    assert (True, [1]) == (bar["collapsed"], [panel["id"] for panel in bar["panels"]])
    assert (20, 1, 2, 2) == (after["id"], after["gridPos"]["y"], shown["id"], shown["gridPos"]["y"])
