"""Each panel type, and what the page lets one do, on a dashboard that has them all."""

import json
import re

import pytest
import requests
from playwright.sync_api import expect
from tests.grafana import gallery
from tests.grafana.conftest import running_viewer
from tests.grafana.queries import ROOT
from tests.grafana.viewer_page import PATIENCE_MS, new_page, open_page, overflow, panel, settle, states

pytestmark = pytest.mark.stack

AXE = ROOT / "grafana" / "viewer" / "node_modules" / "axe-core" / "axe.min.js"


@pytest.fixture(scope="module", name="gallery_url")
def _gallery_url(prometheus_url, dist, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dashboards")
    (folder / "gallery.json").write_text(json.dumps(gallery.dashboard()))
    source = ROOT / "grafana" / "dashboards" / "llmvitals-overview.json"
    (folder / source.name).write_text(source.read_text())
    with running_viewer(prometheus_url, dist, folder) as url:
        yield f"{url}/d/{gallery.UID}"


def test_every_kind_of_panel_is_drawn(page, gallery_url):
    """Each is ready, and its picture, where it has one, says its last values in words."""
    open_page(page, f"{gallery_url}?refresh=")

    assert {p["id"]: "true" for p in gallery.panels()} == states(page)
    spoken = {e.get_attribute("aria-label").partition(".")[0] for e in page.get_by_role("figure").all()}
    assert {"Chart over time", "Heatmap", "States over time", "Shares"} == spoken
    assert re.search("llm_primary (Closed|Open)", page.get_by_role("figure").nth(2).get_attribute("aria-label"))


def test_gauge_and_pie_show_what_prometheus_says(page, gallery_url, prometheus_url):
    """The dial's numbers and the shares of the pie, recomputed from the API."""
    open_page(page, f"{gallery_url}?refresh=")
    query = "llmvitals_cache_entries / llmvitals_cache_max_entries"
    result = requests.get(f"{prometheus_url}/api/v1/query", {"query": query}, timeout=10).json()["data"]["result"]
    fill = {s["metric"]["cache"]: f"{float(s['value'][1]):.0%}" for s in result}

    dials = [d.get_attribute("aria-label") for d in panel(page, "Fill").get_by_role("img").all()]
    shares = panel(page, "Shares").locator("svg[role=img]").first.get_attribute("aria-label")

    assert [f"{name}: {text}" for name, text in fill.items()] == [d for d in dials if d]
    # 2 : 0.6 : 0.3 calls a second.
    assert "primary talker 69 %, primary thinker 21 %, backup talker 10 %" == shares


def test_a_legends_table_sorts_and_leaves_one_line_alone(page, gallery_url):
    """Its columns are the calculations; a number's head sorts from the largest, and a name's click hides the others."""
    open_page(page, f"{gallery_url}?refresh=")
    chart = panel(page, "Calls in a table")
    names = chart.locator(".legend tbody th")
    assert ["Name", "Mean", "Max", "Last *"] == chart.get_by_role("columnheader").all_inner_texts()
    assert {"req/s"} == {text.split()[-1] for text in chart.locator("td").all_inner_texts()}

    chart.get_by_role("button", name="Max").click()
    largest_first = names.all_inner_texts()
    chart.get_by_role("button", name="Max").click()
    chart.get_by_role("button", name="primary thinker").click()
    over = chart.locator(".u-over")
    box = over.bounding_box()
    # Near the right edge: on the left there was no Prometheus yet.
    over.hover(position={"x": box["width"] - 12, "y": 12})

    # 2 : 0.6 : 0.3 calls a second.
    assert ["primary talker", "primary thinker", "backup talker"] == largest_first
    assert largest_first[::-1] == names.all_inner_texts()
    expect(page.locator(".hover")).to_contain_text("primary thinker")
    expect(page.locator(".hover")).not_to_contain_text("talker")
    assert 2 == chart.locator("[data-off]").count()
    chart.get_by_role("button", name="primary thinker", pressed=True).click()
    expect(chart.locator("[data-off]")).to_have_count(0)
    assert box["height"] > chart.locator(".legend").bounding_box()["height"]


def test_a_heatmap_counts_what_is_between_two_bounds(page, gallery_url):
    """Classic buckets count all below them; the picture's lanes do not: under the pointer is one bucket's own count."""
    open_page(page, f"{gallery_url}?refresh=")
    plot = panel(page, "Durations").locator(".u-over")
    box = plot.bounding_box()

    found = set()
    for part in (0.3, 0.4, 0.5, 0.6):
        page.mouse.move(box["x"] + box["width"] - 12, box["y"] + box["height"] * part)
        found.add(panel(page, "Durations").locator(".lane-hover").inner_text())

    # 2.9 calls a second in all; the bucket that holds the most has well under half of them.
    assert 4 == len(found)
    assert all(re.fullmatch(r"\d+(\.\d+)? m?s to \d+(\.\d+)? m?s: \d\.\d+", text) for text in found), found
    assert 1.5 > max(float(text.rpartition(" ")[2]) for text in found)


def test_a_row_that_the_file_folds_holds_its_panels(page, gallery_url):
    """It is folded at first; its panels come when it is opened, and what is below makes room."""
    open_page(page, f"{gallery_url}?refresh=")
    after = page.locator(".cell").filter(has=page.get_by_role("button", name="After"))
    before = after.evaluate("e => e.offsetTop")
    expect(panel(page, "In the folded row")).to_have_count(0)

    page.get_by_role("button", name="Folded").click()

    expect(panel(page, "In the folded row")).to_have_attribute("data-ready", "true", timeout=PATIENCE_MS)
    assert before + 4 * 30 + 4 * 8 == after.evaluate("e => e.offsetTop")


def test_variables_and_links_are_in_the_address(page, gallery_url):
    """One value or several; a link takes the time and the choice along where the file says so."""
    open_page(page, f"{gallery_url}?refresh=&from=now-5m&to=now&var-job=companion&var-job=exporter&var-quantile=0.5")

    expect(panel(page, "Lines for companion + exporter")).to_have_count(1)
    expect(page.get_by_label("Quantile")).to_have_value("0.5")
    link = "/d/llmvitals-overview?from=now-5m&to=now&var-job=companion&var-job=exporter&var-quantile=0.5"
    assert link == page.get_by_role("link", name="Runbook").get_attribute("href")
    page.get_by_role("button", name="Menu for panel Lines").click()
    own = "/d/llmvitals-overview?from=now-5m&to=now&var-job=companion&var-job=exporter"
    assert own == page.get_by_role("menuitem", name="Elsewhere").get_attribute("href")


def test_an_annotation_can_be_switched_off(page, gallery_url):
    """Its marks go from the charts, and come back."""
    open_page(page, f"{gallery_url}?refresh=")
    marks = panel(page, "Lines for All").locator(".mark")
    expect(marks.first).to_be_visible(timeout=PATIENCE_MS)

    toggle = page.get_by_role("button", name="Closed", pressed=True)
    toggle.click()

    expect(marks).to_have_count(0)
    expect(page.get_by_role("button", name="Closed", pressed=False)).to_have_count(1)


def test_the_keyboard_is_enough(page, gallery_url):
    """See a panel alone and leave it, read its values, search a dashboard: no pointer, and the focus is never lost."""
    open_page(page, f"{gallery_url}?refresh=&from=now-5m&to=now")
    page.keyboard.press("Tab")
    assert "Skip to the panels" == page.evaluate("document.activeElement.textContent")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert "Lines for All" in page.evaluate("document.activeElement.innerText")

    page.keyboard.press("v")
    expect(page).to_have_url(re.compile("viewPanel=1"))
    expect(page.locator("[data-panel-id]")).to_have_count(1)
    settle(page)
    assert page.locator("[data-panel-id] section").bounding_box()["height"] > 600
    page.keyboard.press("Escape")
    expect(page.locator("[data-panel-id]")).to_have_count(len(gallery.panels()))
    assert "1" == page.evaluate("document.activeElement.closest('[data-panel-id]').dataset.panelId")

    menu = page.get_by_role("button", name="Menu for panel Lines for All")
    menu.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("menuitem", name="View")).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    values = page.get_by_role("group", name="Lines for All: values")
    expect(values.get_by_role("columnheader")).to_have_text(["Series", "Last", "Min", "Mean", "Max"])

    title = page.get_by_role("heading", level=1).get_by_role("button")
    title.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Search dashboards")).to_be_focused()
    page.keyboard.press("Escape")
    expect(title).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.type("overv")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/d/llmvitals-overview"))


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_axe_finds_nothing_serious(page, gallery_url, theme):
    """Names, roles, contrasts and the order of headings hold on every kind of panel."""
    open_page(page, f"{gallery_url}?refresh=&theme={theme}")
    page.evaluate(AXE.read_text())

    result = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")

    assert [] == [
        f"{v['impact']}: {v['help']}: {[n['html'][:200] for n in v['nodes']][:3]}"
        for v in result["violations"]
        if v["impact"] in {"serious", "critical"}
    ]


@pytest.mark.parametrize("uid", ["gallery", "llmvitals-overview"])
def test_a_narrow_screen_scrolls_one_way(browser, troubles, gallery_url, uid):
    """At 390 pixels panels stand one under the other, and nothing is wider than the screen."""
    page = new_page(browser, troubles, viewport={"width": 390, "height": 844})
    open_page(page, gallery_url.replace(gallery.UID, uid) + "?refresh=")

    wider = overflow(page)
    lefts = page.locator(".cell").evaluate_all("all => all.map(e => e.offsetLeft)")
    page.close()

    assert 0 == wider
    assert {0} >= {left for left in lefts if left < 150}
    assert [] == troubles


def test_less_motion_is_no_motion(browser, troubles, gallery_url):
    """Who asks the system for less of it gets none."""
    page = new_page(browser, troubles, reduced_motion="reduce")
    open_page(page, f"{gallery_url}?refresh=")

    longest = page.evaluate(
        "Math.max(...[...document.querySelectorAll('*')].map(e => parseFloat(getComputedStyle(e).transitionDuration)))"
    )
    page.close()

    assert longest < 0.001


def test_the_page_compiles_no_text(page, gallery_url):
    """The content security policy forbids `eval`, and the page draws tables and joins all the same."""
    response = page.goto(f"{gallery_url}?refresh=")
    settle(page)
    panel(page, "Rows").scroll_into_view_if_needed()

    assert "unsafe-eval" not in response.headers["content-security-policy"]
    expect(panel(page, "Rows").get_by_role("gridcell", name="companion")).to_have_count(1)
