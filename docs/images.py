"""
Takes the pictures of docs/images from the demo that runs: `make up`, `make chaos` for each scenario, some minutes, then
`.venv/bin/python docs/images.py [console overview ...]`; without names it takes all. Look at each before it is
committed.
"""

import argparse
from pathlib import Path

from playwright.sync_api import Page, ViewportSize, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
TARGET = Path(__file__).with_name("images")
DASHBOARDS = ("overview", "llm-service", "cost", "caches", "operations", "gpu", "slo")
SIZE: ViewportSize = {"width": 1440, "height": 960}
PATIENCE_MS = 120_000


def take_dashboard(page: Page, viewer: str, name: str, since: str) -> None:
    page.goto(f"{viewer}/d/llmvitals-{name}?from={since}&to=now&refresh=&theme=dark")
    expect(page.locator("[data-ready]").first).to_be_visible()
    # What is out of sight asks last; the picture needs it not.
    for panel in page.locator("[data-ready]").all():
        if (panel.bounding_box() or {"y": SIZE["height"]})["y"] < SIZE["height"]:
            expect(panel).not_to_have_attribute("data-ready", "loading")
    page.screenshot(path=TARGET / f"{name}.png")


def take_console(page: Page, console: str) -> None:
    settings = (line.partition("=") for line in (ROOT / ".env").read_text(encoding="utf-8").splitlines())
    token = next(value for name, _, value in settings if name == "LLMVITALS_ADMIN_TOKEN")
    page.goto(console)
    page.locator("input[type=password]").fill(token)
    page.locator("main form button").click()
    expect(page.get_by_role("link", name="Incidents")).to_be_visible()
    page.screenshot(path=TARGET / "console.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"console, {', '.join(DASHBOARDS)}")
    parser.add_argument("--viewer", default="http://127.0.0.1:3000", help="where the dashboards are")
    parser.add_argument("--console", default="http://127.0.0.1:9466", help="where the remediation's console is")
    parser.add_argument("--since", default="now-15m", help="how far back the charts reach")
    parser.add_argument("--chromium", help="the browser, where it is not Playwright's own")
    wanted = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=wanted.chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport=SIZE, color_scheme="dark", reduced_motion="reduce")
        page.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        for name in wanted.names or ("console", *DASHBOARDS):
            if name == "console":
                take_console(page, wanted.console)
            else:
                take_dashboard(page, wanted.viewer, name, wanted.since)
        browser.close()


if __name__ == "__main__":
    main()
