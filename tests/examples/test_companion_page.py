"""The companion's page in a real browser."""

import pytest
from playwright.sync_api import expect, sync_playwright
from tests.servers import request

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]


@pytest.fixture(name="page")
def _page():
    """A page in headless Chromium whose complaints are collected in `page.complaints`."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        page = browser.new_page()
        page.complaints = []
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        yield page
        browser.close()


@pytest.mark.stack
def test_talking_and_looking(page, fresh, faulty):
    """A person asks and reads the answer; the health beside it turns when a provider goes; nothing is complained of."""
    page.goto(fresh.url)
    expect(page.locator("#status-text")).to_have_text("all is well", timeout=10_000)

    page.fill("#message", "What is <b>love</b>?")
    page.press("#message", "Enter")
    expect(page.locator("#turns .told").first).to_contain_text("talker at primary")
    expect(page.locator("#turns .asked").first).to_have_text("What is <b>love</b>?")

    page.fill("#message", "What is <b>love</b>?")
    page.click("button")
    expect(page.locator("#turns .told").nth(1)).to_contain_text("from the cache")

    assert [] == page.complaints
    faulty.turn(refuse=True)
    expect(page.locator("#status-text")).to_have_text("something needs a look", timeout=10_000)
    expect(page.locator("#providers tr").first).to_contain_text("no")


@pytest.mark.stack
def test_no_answer_is_told(page, fresh, faulty):
    """When no provider answers, the page says so where the answer would be."""
    faulty.turn("primary", refuse=True)
    faulty.turn("backup", refuse=True)
    page.goto(fresh.url)

    page.fill("#message", "Anybody?")
    page.press("#message", "Enter")
    expect(page.locator("#turns .error")).to_contain_text("No answer: no model answers", timeout=10_000)


def test_page_allows_only_its_own(running):
    """The page's policy allows no script or style but the companion's own."""
    answer = request(running.url)
    policy = {name.lower(): value for name, value in answer.headers.items()}["content-security-policy"]

    assert 200 == answer.status
    assert policy.startswith("default-src 'self'")
    assert "unsafe" not in policy
    assert "<script>" not in answer.text
