"""The viewer's page in headless Chromium, and when what is on it.

What is on the screen at first is drawn in the frame after the one in which each of its panels says so, and each picture
has its canvas.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from playwright.sync_api import BrowserContext, sync_playwright

CHROMIUM = "/usr/bin/chromium"
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WINDOW = {"width": 1440, "height": 900}
PATIENCE_MS = 60_000

# Performance.now() counts from the navigation on.
_WATCH = """
(() => {
  const seen = (window.seen = {});
  const note = (name) => { seen[name] ??= performance.now(); };
  const drawn = (panel) =>
    panel.dataset.ready && panel.dataset.ready !== 'loading' &&
    !panel.querySelector('[role=figure]:not(:has(canvas, svg))');
  const look = () => {
    const panels = [...document.querySelectorAll('[data-panel-id]')];
    if (panels.length > 0) {
      note('frame');
      const first = panels.filter((panel) => panel.getBoundingClientRect().top < innerHeight);
      requestAnimationFrame(() => {
        if (first.every(drawn)) { note('first'); }
        if (panels.every(drawn)) { note('all'); document.documentElement.dataset.seen = 'all'; }
      });
    }
    if (seen.all === undefined) { requestAnimationFrame(look); }
  };
  requestAnimationFrame(look);
})();
"""
_TOLD = """
(() => {
  const asked = performance.getEntriesByType('resource');
  const states = [...document.querySelectorAll('[data-panel-id]')].map((panel) => panel.dataset.ready);
  return JSON.stringify({
    ...window.seen,
    paint: performance.getEntriesByName('first-paint')[0]?.startTime ?? 0,
    requests: asked.filter(({ name }) => name.includes('/api/v1/')).length,
    transferred: asked.reduce((sum, { transferSize }) => sum + transferSize, 0),
    panels: states.length,
    drawn: states.filter((state) => state === 'true').length,
    failed: states.filter((state) => state === 'error').length,
  });
})()
"""


@dataclass(frozen=True, slots=True)
class Load:
    """Milliseconds after the navigation, and what was loaded."""

    paint: float
    frame: float
    first: float
    all: float
    requests: int
    transferred: int
    panels: int
    drawn: int
    failed: int


@contextmanager
def _browser() -> Iterator[BrowserContext]:
    """A browser that has never seen the page."""
    # In memory where there is such a place: a first page does not wait for another's writes to the disk.
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with TemporaryDirectory(prefix="llmvitals-bench-viewer-", dir=memory) as profile, sync_playwright() as playwright:
        browser = playwright.chromium.launch_persistent_context(
            profile, executable_path=CHROMIUM, args=_FLAGS, viewport=WINDOW
        )
        browser.set_default_timeout(PATIENCE_MS)
        browser.add_init_script(_WATCH)
        try:
            yield browser
        finally:
            browser.close()


def _load(browser: BrowserContext, url: str, picture: Path | None = None) -> Load:
    page = browser.new_page()
    try:
        page.goto(url, wait_until="commit")
        page.wait_for_selector("html[data-seen]", state="attached")
        told: dict[str, Any] = json.loads(page.evaluate(_TOLD))
        if picture:
            page.screenshot(path=picture)
        return Load(**told)
    finally:
        page.close()


def cold(url: str, runs: int, picture: Path | None = None) -> Sequence[Load]:
    """Each load in a browser of its own, which has nothing of the page."""
    found = []
    for _ in range(runs):
        with _browser() as browser:
            # What Chromium does once, at its first page, is not the viewer's.
            browser.pages[0].goto("data:text/html,<p>nothing")
            found.append(_load(browser, url, picture))
    return found


def warm(url: str, runs: int) -> Sequence[Load]:
    """Loads in one browser that has the page's files; it compiles the script no more from the third load on."""
    with _browser() as browser:
        for _ in range(2):
            _load(browser, url)
        return [_load(browser, url) for _ in range(runs)]
