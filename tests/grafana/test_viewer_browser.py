"""The viewer in headless Chromium, against a real Prometheus that scrapes the fake services."""

import copy
import json
import re

import pytest
import requests
from playwright.sync_api import expect
from tests.grafana.conftest import running_viewer, wait_for
from tests.grafana.live import check_live
from tests.grafana.queries import interpolate, load, panels
from tests.grafana.recomputed import recomputed
from tests.grafana.shown import five_minutes, wrong_panels
from tests.grafana.viewer_page import PATIENCE_MS, open_page, states
from tests.grafana.viewer_page import panel as panel_of

pytestmark = pytest.mark.stack

# What the fake services feed. All dashboards are looked at with the running demo, in tests/stack.
FED = ("llmvitals-overview", "llmvitals-remediation")


def _at(prometheus_url, expr, when):
    answer = requests.post(f"{prometheus_url}/api/v1/query", data={"query": expr, "time": when}, timeout=10).json()
    return [(s["metric"], float(s["value"][1])) for s in answer["data"]["result"]]


def test_every_query_has_an_answer(prometheus_url):
    """The live gate finds nothing against the shipped dashboards on the fake services, which feed two of them."""
    found = check_live(prometheus_url)

    assert [] == [f for f in found if f.startswith(FED) or not f.endswith(": no data")]


def test_the_live_gate_finds_what_is_wrong(prometheus_url, tmp_path):
    """Broken PromQL, an empty panel and a ratio above 1 are each told."""
    dashboard = load()["llmvitals-overview"]
    chosen = panels(dashboard)[:3]
    chosen[0]["targets"][0]["expr"] = "sum("
    chosen[1]["targets"][0]["expr"] = "nobody_emits_this{}"
    chosen[2]["targets"][0]["expr"] = "vector(-1)"
    (tmp_path / "x.json").write_text(json.dumps(dashboard | {"panels": chosen}))

    found = check_live(prometheus_url, tmp_path)

    assert 3 == len(found)
    assert "parse error" in found[0]
    assert "no data" in found[2]
    assert "-1.0 is below 0" in found[1]


@pytest.mark.parametrize("uid", FED)
def test_every_panel_shows_what_prometheus_says(page, viewer_url, prometheus_url, uid):
    """Each panel has data where the API has, and says that there is none where it has none, with the API's numbers."""
    assert [] == wrong_panels(page, viewer_url, prometheus_url, load()[uid])


def test_the_browsers_gate_finds_what_is_wrong(page, troubles, dist, prometheus_url, tmp_path):
    """Broken PromQL, no data, an unknown kind, another number, a line too few are told, and what is well is not."""
    dashboard = load()["llmvitals-overview"]
    tile = next(p for p in panels(dashboard) if p["title"] == "Requests")
    chart = copy.deepcopy(next(p for p in panels(dashboard) if p["title"] == "Requests by provider and model"))
    chart["options"]["legend"] |= {"displayMode": "table", "calcs": ["lastNotNull"]}
    well = dict.fromkeys(("sound", "broken", "empty", "unknown", "number"), tile) | {"table": chart, "lines": chart}
    there = [
        panel | {"id": i, "title": name, "gridPos": {"x": 0, "y": 8 * i, "w": 24, "h": 8}}
        for i, (name, panel) in enumerate(well.items(), 1)
    ]
    # One by one: together they would share their queries.
    drawn = [copy.deepcopy(panel) for panel in there]
    spoilt = {"broken": "sum(", "empty": "nobody_emits_this{}", "number": "3 * (EXPR)", "lines": "topk(1, EXPR)"}
    for panel in drawn:
        panel["type"] = "geomap" if panel["title"] == "unknown" else panel["type"]
        for target in panel["targets"]:
            target["expr"] = spoilt.get(panel["title"], "EXPR").replace("EXPR", target["expr"])
    (tmp_path / "x.json").write_text(json.dumps(dashboard | {"uid": "x", "panels": drawn}))

    wait_for("a rate that is old enough", lambda: recomputed(prometheus_url, tile, five_minutes()[0]) != [])
    with running_viewer(prometheus_url, dist, tmp_path) as url:
        found = wrong_panels(page, url, prometheus_url, dashboard | {"uid": "x", "panels": there}, may_be_empty=())
    troubles[:] = [t for t in troubles if "400 (Bad Request)" not in t and not t.startswith("400 ")]

    assert [
        "x / broken: data-ready is error, not true",
        "x / empty: data-ready is nodata, not true",
        "x / unknown: data-ready is unsupported, not true",
    ] == found[:3]
    assert ["x / number", "x / lines"] == [told.partition(":")[0] for told in found[3:]]


def test_legends_name_the_series_of_prometheus(page, viewer_url, prometheus_url):
    """A chart's lines are the API's series, by the names that the legend's format gives."""
    end, window = five_minutes()
    open_page(page, f"{viewer_url}/d/llmvitals-overview?{window}")
    panel = next(p for p in panels(load()["llmvitals-overview"]) if p["title"] == "Requests by provider and model")

    series = _at(prometheus_url, interpolate(panel["targets"][0]["expr"]), end)
    shown = panel_of(page, panel["title"]).locator("[data-testid^='data-testid VizLegend series']").all_inner_texts()

    assert sorted(f"{labels['provider']} {labels['model']}" for labels, _ in series) == sorted(shown)


def test_the_table_lists_the_targets(page, viewer_url, prometheus_url):
    """A row for each target, with the state in words."""
    _, window = five_minutes()
    open_page(page, f"{viewer_url}/d/llmvitals-overview?{window}")
    rows = panel_of(page, "Targets").get_by_role("row")
    rows.first.scroll_into_view_if_needed()

    texts = [[c.strip() for c in row.get_by_role("gridcell").all_text_contents()] for row in rows.all()[1:]]

    assert ["companion", "exporter", "remediation"] == [t[0] for t in texts]
    assert {"Up"} == {t[2] for t in texts}


def test_a_variable_narrows_the_dashboard(page, viewer_url):
    """Choosing a service in the dropdown is in the address, in the queries and in what is shown."""
    open_page(page, f"{viewer_url}/d/llmvitals-overview?from=now-5m&to=now")

    page.get_by_label("Service", exact=True).click()
    page.get_by_role("option", name="exporter").click()
    page.keyboard.press("Escape")

    expect(page).to_have_url(re.compile("var-job=exporter"))
    expect(panel_of(page, "Requests by provider and model").first).to_have_attribute(
        "data-ready", "nodata", timeout=PATIENCE_MS
    )
    expect(panel_of(page, "Targets").get_by_role("gridcell", name="exporter")).to_have_count(1)
    expect(panel_of(page, "Targets").get_by_role("gridcell", name="companion")).to_have_count(0)


def test_annotations_stand_on_the_charts(page, viewer_url):
    """Remediations that happened in the window are marked, and the mark says which."""
    open_page(page, f"{viewer_url}/d/llmvitals-overview?from=now-5m&to=now&refresh=5s")

    mark = panel_of(page, "Call duration").locator(".mark").first

    expect(mark).to_have_attribute("data-mark", re.compile("Remediation: evict_users"), timeout=PATIENCE_MS)


def test_themes_and_dashboards_are_a_click_away(page, viewer_url):
    """The theme button and the dashboard links change the page without a reload."""
    open_page(page, f"{viewer_url}/?from=now-5m&to=now")
    before = page.locator(".app").evaluate("e => getComputedStyle(e).backgroundColor")

    page.get_by_role("button", name="Light theme").click()
    page.get_by_role("button", name="Overview").click()
    page.get_by_role("link", name="Remediation").click()

    expect(page).to_have_url(re.compile("/d/llmvitals-remediation"))
    expect(panel_of(page, "Kill switch")).to_have_attribute("data-ready", "true", timeout=PATIENCE_MS)
    assert before != page.locator(".app").evaluate("e => getComputedStyle(e).backgroundColor")


def test_a_folded_row_makes_room(page, viewer_url):
    """Folding a row takes its panels away and lifts what is below."""
    open_page(page, f"{viewer_url}/d/llmvitals-overview?from=now-5m&to=now")
    before = page.get_by_role("button", name="Latency").bounding_box()["y"]

    page.get_by_role("button", name="Traffic and errors").click()

    expect(panel_of(page, "Failed calls by error")).to_have_count(0)
    assert page.get_by_role("button", name="Latency").bounding_box()["y"] < before - 200


def test_trouble_is_never_drawn_as_data(page, troubles, dist, prometheus_url, tmp_path):
    """Broken PromQL, unknown metrics, a time before any, no match and an unknown kind each say why; none is "true"."""
    first, *_ = (p for p in panels(load()["llmvitals-overview"]) if p["type"] == "timeseries")
    asked = {
        "broken": {"expr": "sum("},
        "empty": {"expr": "nobody_emits_this{}"},
        "unmatched": {"expr": 'up{job="nobody"}'},
        "divided": {"expr": "0 * up / 0"},
        "typo": {"expr": "absent_over_tim(up[1m])"},
    }
    chosen = [
        first | {"id": i, "title": title, "targets": [first["targets"][0] | target]}
        for i, (title, target) in enumerate(asked.items(), 1)
    ]
    chosen.append(first | {"id": 9, "title": "unknown", "type": "geomap"})
    for i, panel in enumerate(chosen):
        panel["gridPos"] = {"x": 8 * (i % 3), "y": 8 * (i // 3), "w": 8, "h": 8}
    (tmp_path / "x.json").write_text(json.dumps(load()["llmvitals-overview"] | {"uid": "x", "panels": chosen}))

    with running_viewer(prometheus_url, dist, tmp_path) as url:
        open_page(page, f"{url}/d/x?from=now-5m&to=now")
        found = states(page)
        texts = {p["title"]: panel_of(page, p["title"]).inner_text() for p in chosen}
        open_page(page, f"{url}/d/x?from=1600000000000&to=1600000300000")
        before = panel_of(page, "unmatched").inner_text()
    # The answers to broken PromQL, which the browser logs, too.
    troubles[:] = [t for t in troubles if "400 (Bad Request)" not in t and not t.startswith("400 ")]

    assert {1: "error", 2: "nodata", 3: "nodata", 4: "nodata", 5: "error", 9: "unsupported"} == found
    assert "parse error" in texts["broken"]
    assert "Nothing that is scraped emits nobody_emits_this" in texts["empty"]
    assert "nothing matches this choice" in texts["unmatched"]
    assert "unknown function" in texts["typo"]
    assert "geomap" in texts["unknown"]
    assert "up is scraped now, but has no samples in this time range" in before


def test_nothing_is_asked_twice(page, viewer_url):
    """What two panels or annotations want alike is one question to Prometheus."""
    asked: list[str] = []
    page.on("request", lambda r: asked.append(f"{r.url} {r.post_data}") if "/api/v1/" in r.url else None)
    _, window = five_minutes()
    open_page(page, f"{viewer_url}/d/llmvitals-overview?{window}&refresh=")

    assert len(asked) > len(panels(load()["llmvitals-overview"])) / 2
    assert len(set(asked)) == len(asked)
