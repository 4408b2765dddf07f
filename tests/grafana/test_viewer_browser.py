"""The viewer in headless Chromium, against a real Prometheus that scrapes the fake services."""

import json
import re
import time

import pytest
import requests
from playwright.sync_api import expect, sync_playwright
from tests.grafana.conftest import running_viewer
from tests.grafana.live import check_live
from tests.grafana.queries import interpolate, load, panels

pytestmark = pytest.mark.stack

CHROMIUM = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# The fake host has no GPU, and nothing fires where no alert rule is loaded.
EMPTY = {"GPU utilisation", "GPU memory", "GPU temperature", "GPU power", "Alerts"}
# What the fake services feed. All dashboards are looked at with the running demo, in tests/stack.
FED = ("llmvitals-overview", "llmvitals-remediation")
# Kinds of panels that the viewer does not draw.
GRAFANA_ALONE = {"heatmap", "state-timeline", "piechart"}
PATIENCE_MS = 20_000


@pytest.fixture(scope="module", name="browser")
def _browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture(name="page")
def _page(browser):
    """A page that fails the test when it logs an error or asks for anything that is not on its own server."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(PATIENCE_MS)
    troubles: list[str] = []
    page.on("pageerror", lambda e: troubles.append(str(e)))
    page.on("console", lambda m: troubles.append(m.text) if m.type == "error" else None)
    page.on("response", lambda r: troubles.append(f"{r.status} {r.url}") if r.status >= 400 else None)
    outside = re.compile(r"^(?!http://127\.0\.0\.1:|data:|blob:)")
    page.on("request", lambda r: troubles.append(f"left the machine: {r.url}") if outside.match(r.url) else None)
    page.troubles = troubles
    yield page
    page.close()
    assert [] == troubles


def _open(page, url):
    page.goto(url)
    expect(page.locator("[data-ready]").first).to_be_visible(timeout=PATIENCE_MS)
    expect(page.locator('[data-ready="loading"]')).to_have_count(0, timeout=PATIENCE_MS)


def _panel(page, title):
    return page.locator("[data-panel-id]").filter(has=page.get_by_role("heading", name=title, exact=True))


def _states(page):
    return dict(
        page.locator("[data-panel-id]").evaluate_all(
            "all => all.map(e => [e.querySelector('h2').textContent, e.dataset.ready])"
        )
    )


def _at(prometheus_url, expr, when):
    answer = requests.post(f"{prometheus_url}/api/v1/query", data={"query": expr, "time": when}, timeout=10).json()
    return [(s["metric"], float(s["value"][1])) for s in answer["data"]["result"]]


def _five_minutes():
    """A window that ends on a multiple of every step the viewer may choose; so its last sample is known."""
    end = int(time.time()) // 5 * 5
    return end, f"from={(end - 300) * 1000}&to={end * 1000}&timezone=utc"


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
def test_every_panel_is_drawn(page, viewer_url, uid):
    """Each panel of the dashboard shows data; those for what the machine lacks say so."""
    wanted = {p["title"]: "nodata" if p["title"] in EMPTY else "true" for p in panels(load()[uid])}

    # A bar counts a whole minute, and this Prometheus is seconds old: the end lies where that minute ends.
    _open(page, f"{viewer_url}/d/{uid}?from=now-5m&to=now%2B1m")

    assert wanted == _states(page)


@pytest.mark.parametrize("uid", sorted(set(load()) - set(FED)))
def test_no_panel_is_in_trouble(page, viewer_url, uid):
    """Where the fake services tell little, each panel still shows data or says that there is none."""
    _open(page, f"{viewer_url}/d/{uid}?from=now-5m&to=now")

    grafana_alone = {p["title"] for p in panels(load()[uid]) if p["type"] in GRAFANA_ALONE}
    states = {title: state for title, state in _states(page).items() if title not in grafana_alone}
    assert {} == {title: state for title, state in states.items() if state not in {"true", "nodata"}}


def test_tiles_show_what_prometheus_says(page, viewer_url, prometheus_url):
    """The numbers of the first line, recomputed from the API at the same moment."""
    end, window = _five_minutes()
    _open(page, f"{viewer_url}/d/llmvitals-overview?{window}")

    for panel in panels(load()["llmvitals-overview"])[:7]:
        shown = _panel(page, panel["title"]).locator("[data-testid='data-testid panel content']").inner_text()
        [(_, value)] = _at(prometheus_url, interpolate(panel["targets"][0]["expr"]), end)
        number = float(re.sub(r"[^\d.]", "", shown))
        unit = panel["fieldConfig"]["defaults"]["unit"]
        scale = 100 if unit == "percentunit" else 1000 if "ms" in shown else 1
        assert number == pytest.approx(value * scale, rel=0.02, abs=0.06), panel["title"]


def test_legends_name_the_series_of_prometheus(page, viewer_url, prometheus_url):
    """A chart's lines are the API's series, by the names that the legend's format gives."""
    end, window = _five_minutes()
    _open(page, f"{viewer_url}/d/llmvitals-overview?{window}")
    panel = next(p for p in panels(load()["llmvitals-overview"]) if p["title"] == "Requests by provider and model")

    series = _at(prometheus_url, interpolate(panel["targets"][0]["expr"]), end)
    shown = _panel(page, panel["title"]).locator("[data-testid^='data-testid VizLegend series']").all_inner_texts()

    assert sorted(f"{labels['provider']} {labels['model']}" for labels, _ in series) == sorted(shown)


def test_the_table_lists_the_targets(page, viewer_url, prometheus_url):
    """A row for each target, with the state in words."""
    _, window = _five_minutes()
    _open(page, f"{viewer_url}/d/llmvitals-overview?{window}")
    rows = _panel(page, "Targets").get_by_role("row")
    rows.first.scroll_into_view_if_needed()

    texts = [[c.strip() for c in row.get_by_role("gridcell").all_text_contents()] for row in rows.all()[1:]]

    assert ["companion", "exporter", "remediation"] == [t[0] for t in texts]
    assert {"Up"} == {t[2] for t in texts}


def test_a_variable_narrows_the_dashboard(page, viewer_url):
    """Choosing a service in the dropdown is in the address, in the queries and in what is shown."""
    _open(page, f"{viewer_url}/d/llmvitals-overview?from=now-5m&to=now")

    page.get_by_label("Service", exact=True).click()
    page.get_by_role("option", name="exporter").click()
    page.keyboard.press("Escape")

    expect(page).to_have_url(re.compile("var-job=exporter"))
    expect(_panel(page, "Requests by provider and model").first).to_have_attribute(
        "data-ready", "nodata", timeout=PATIENCE_MS
    )
    expect(_panel(page, "Targets").get_by_role("gridcell", name="exporter")).to_have_count(1)
    expect(_panel(page, "Targets").get_by_role("gridcell", name="companion")).to_have_count(0)


def test_annotations_stand_on_the_charts(page, viewer_url):
    """Remediations that happened in the window are marked, and the mark says which."""
    _open(page, f"{viewer_url}/d/llmvitals-overview?from=now-5m&to=now&refresh=5s")

    mark = _panel(page, "Call duration").locator(".mark").first

    expect(mark).to_have_attribute("data-mark", re.compile("Remediation: evict_users"), timeout=PATIENCE_MS)


def test_themes_and_dashboards_are_a_click_away(page, viewer_url):
    """The theme button and the dashboard links change the page without a reload."""
    _open(page, f"{viewer_url}/?from=now-5m&to=now")
    before = page.locator(".app").evaluate("e => getComputedStyle(e).backgroundColor")

    page.get_by_role("button", name="Light theme").click()
    page.get_by_role("link", name="Remediation").click()

    expect(page).to_have_url(re.compile("/d/llmvitals-remediation"))
    expect(_panel(page, "Kill switch")).to_have_attribute("data-ready", "true", timeout=PATIENCE_MS)
    assert before != page.locator(".app").evaluate("e => getComputedStyle(e).backgroundColor")


def test_a_folded_row_makes_room(page, viewer_url):
    """Folding a row takes its panels away and lifts what is below."""
    _open(page, f"{viewer_url}/d/llmvitals-overview?from=now-5m&to=now")
    before = page.get_by_role("button", name="Latency").bounding_box()["y"]

    page.get_by_role("button", name="Traffic and errors").click()

    expect(_panel(page, "Failed calls by error")).to_have_count(0)
    assert page.get_by_role("button", name="Latency").bounding_box()["y"] < before - 200


def test_trouble_is_never_drawn_as_data(page, dist, prometheus_url, tmp_path):
    """Broken PromQL, a metric that nobody emits and an unknown panel each say why, and none is "true"."""
    source = load()["llmvitals-overview"]
    broken, empty, unknown = (
        dict(p) for p in panels(source) if p["title"] in {"Call duration", "Time to first chunk", "Tokens by kind"}
    )
    broken |= {"title": "broken", "targets": [broken["targets"][0] | {"expr": "sum("}]}
    empty |= {"title": "empty", "targets": [empty["targets"][0] | {"expr": "nobody_emits_this{}"}]}
    unknown |= {"title": "unknown", "type": "geomap"}
    (tmp_path / "x.json").write_text(json.dumps(source | {"uid": "x", "panels": [broken, empty, unknown]}))

    with running_viewer(prometheus_url, dist, tmp_path) as url:
        _open(page, f"{url}/d/x")
        states = _states(page)
        texts = {title: _panel(page, title).inner_text() for title in states}
    # The answer to broken PromQL, which the browser logs too.
    page.troubles[:] = [t for t in page.troubles if "400 (Bad Request)" not in t and not t.startswith("400 ")]

    assert {"broken": "error", "empty": "nodata", "unknown": "unsupported"} == states
    assert "parse error" in texts["broken"]
    assert "Nothing that is scraped now emits nobody_emits_this" in texts["empty"]
    assert "geomap" in texts["unknown"]
