"""The viewer's page in headless Chromium, as its tests look at it."""

import re
from typing import Any

from playwright.sync_api import Browser, Locator, Page, expect

PATIENCE_MS = 20_000
CHROMIUM = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_OUTSIDE = re.compile(r"^(?!http://127\.0\.0\.1:|data:|blob:)")


def new_page(browser: Browser, troubles: list[str], **how: Any) -> Page:
    """A page that adds to *troubles* each error that it logs, and each request to what is not on this machine."""
    page = browser.new_page(**({"viewport": {"width": 1440, "height": 900}} | how))
    page.set_default_timeout(PATIENCE_MS)
    page.on("pageerror", lambda e: troubles.append(str(e)))
    page.on("console", lambda m: troubles.append(m.text) if m.type == "error" else None)
    page.on("response", lambda r: troubles.append(f"{r.status} {r.url}") if r.status >= 400 else None)
    page.on("request", lambda r: troubles.append(f"left the machine: {r.url}") if _OUTSIDE.match(r.url) else None)
    return page


def open_page(page: Page, url: str) -> None:
    """Goes to *url* and waits until no panel of it is loading."""
    page.goto(url)
    settle(page)


def settle(page: Page) -> None:
    expect(page.locator("[data-ready]").first).to_be_visible(timeout=PATIENCE_MS)
    expect(page.locator('[data-ready="loading"]')).to_have_count(0, timeout=PATIENCE_MS)


def panel(page: Page, title: str) -> Locator:
    return page.locator("[data-panel-id]").filter(has=page.get_by_role("heading", name=title, exact=True))


def states(page: Page) -> dict[int, str]:
    """What `data-ready` says of each panel, by the panel's id."""
    found = page.locator("[data-panel-id]").evaluate_all("all => all.map(e => [+e.dataset.panelId, e.dataset.ready])")
    return dict(found)


def overflow(page: Page) -> int:
    """How many pixels the page is wider than its window."""
    wider: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return wider
