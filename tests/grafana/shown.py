"""What a dashboard shows in a browser, held against what Prometheus itself says."""

import time
from collections.abc import Collection, Mapping
from typing import Any

from playwright.sync_api import Page
from tests.grafana.queries import panels
from tests.grafana.recomputed import WINDOW_SECONDS, recomputed, says
from tests.grafana.viewer_page import open_page, settle, states

# What is scraped, and then recorded, at a moment is there this much later.
LATE_SECONDS = 5


def five_minutes() -> tuple[int, str]:
    """A window that ends on a multiple of every step the viewer may choose, so that its last sample is known."""
    end = int(time.time() - LATE_SECONDS) // 5 * 5
    return end, f"from={(end - WINDOW_SECONDS) * 1000}&to={end * 1000}&timezone=utc"


def wrong_panels(
    page: Page,
    viewer_url: str,
    prometheus_url: str,
    dashboard: Mapping[str, Any],
    *,
    may_be_empty: Collection[str] | None = None,
) -> list[str]:
    """
    A sentence for each panel that is not drawn, is empty, or shows another number than Prometheus gives.

    *may_be_empty* has titles, and titles with their dashboard before; None lets any panel be empty that says so.
    """
    end, window = five_minutes()
    uid = dashboard["uid"]
    open_page(page, f"{viewer_url}/d/{uid}?{window}&refresh=")
    for row in dashboard["panels"]:
        if row.get("collapsed"):
            page.get_by_role("button", name=row["title"], exact=True).click()
    settle(page)

    found, drawn = [], states(page)
    for panel in panels(dashboard):
        title, state = panel["title"], drawn.get(panel["id"], "not on the page")
        values = None if panel["type"] == "text" else recomputed(prometheus_url, panel, end)
        rightly = may_be_empty is None or bool({title, f"{uid} / {title}"} & set(may_be_empty))
        wanted = "nodata" if values == [] and rightly else "true"
        if state != wanted:
            found.append(f"{uid} / {title}: data-ready is {state}, not {wanted}")
        elif values:
            found += [f"{uid} / {title}: {problem}" for problem in _other_numbers(page, panel, values)]
    return found


def _other_numbers(page: Page, panel: Mapping[str, Any], values: list[float]) -> list[str]:
    """Of a tile its number; of a chart with a table the last number of each line."""
    place = page.locator(f'[data-panel-id="{panel["id"]}"]')
    if panel["type"] == "stat" and len(values) == 1:
        texts = [place.locator("[data-testid='data-testid panel content']").inner_text()]
    elif panel["type"] == "timeseries" and panel["options"]["legend"]["displayMode"] == "table":
        texts = place.locator(".legend tbody tr td:last-child").all_inner_texts()
    else:
        return []
    if len(texts) != len(values):
        return [f"{len(texts)} lines, and Prometheus has {len(values)}"]
    left = list(values)
    for text in texts:
        nearest = next((value for value in left if says(text, value)), None)
        if nearest is None:
            return [f"{text!r} is none of {left}"]
        left.remove(nearest)
    return []
