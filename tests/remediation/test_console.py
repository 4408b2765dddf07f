"""The console in headless Chromium: what a person sees and may do, and what a page of strangers' text cannot."""

import contextlib
import re
from urllib.parse import urlencode

import pytest
from playwright.sync_api import expect, sync_playwright
from tests.remediation.web_service import ADMIN, build, engine_on, listening, open_incident, open_store
from tests.remediation.web_service import services as make_services
from tests.servers import program, request

from llmvitals_remediation.inbox import alertmanagers_fingerprint

pytestmark = pytest.mark.stack

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
EVIL = """<script>document.title='owned'</script><img src=x onerror="document.title='owned'">'"&{{7*7}}"""


@pytest.fixture(name="browser", scope="module")
def _browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program("chromium"), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(name="service", scope="module")
def _service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("console")
    store = open_store(folder)
    yield make_services(folder, engine=engine_on(store), store=store)
    store.close()


@pytest.fixture(name="url", scope="module")
def _url(service):
    with listening(build(service)) as url:
        yield url


@contextlib.contextmanager
def visit(browser, url, **state):
    """A page in a context of its own; fails at the end on anything the browser's console complained about."""
    context = browser.new_context(base_url=url, **state)
    page = context.new_page()
    complaints = []
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.expected_complaints = []
    yield page
    context.close()
    assert [True] * len(complaints) == [
        any(expected in told for expected in page.expected_complaints) for told in complaints
    ], complaints


@pytest.fixture(name="stranger")
def _stranger(browser, url):
    """A page that is not signed in."""
    with visit(browser, url) as page:
        yield page


@pytest.fixture(name="ada", scope="module")
def _ada(browser, url):
    """Ada's cookies, from one sign-in."""
    with visit(browser, url) as page:
        sign_in(page)
        page.wait_for_url(f"{url}/")
        yield page.context.storage_state()


@pytest.fixture(name="page")
def _page(browser, url, ada):
    """Ada, signed in, on the first page."""
    with visit(browser, url, storage_state=ada) as page:
        page.goto("/")
        yield page


def sign_in(page, token=ADMIN, name="ada"):
    page.goto("/login")
    page.get_by_label("Your name").fill(name)
    page.get_by_label("Admin token").fill(token)
    page.get_by_role("button", name="Sign in").click()


def give_reason(page, button, why="because of the drill"):
    page.get_by_label("Why").fill(why)
    page.get_by_role("button", name=button, exact=True).click()


def test_signing_in_sets_a_cookie_that_scripts_and_other_sites_do_not_get(stranger):
    """HttpOnly, SameSite=Strict, the whole site, and a session id that is not the token."""
    stranger.goto("/")
    expect(stranger).to_have_url(re.compile(r"/login\?next=/$"))
    sign_in(stranger)

    expect(stranger.get_by_role("heading", level=1)).to_be_visible()
    (cookie,) = [c for c in stranger.context.cookies() if c["name"] == "llmvitals_session"]
    assert (True, "Strict", "/") == (cookie["httpOnly"], cookie["sameSite"], cookie["path"])
    assert ADMIN not in cookie["value"]
    assert "" == stranger.evaluate("document.cookie")


def test_after_signing_in_one_is_where_one_wanted_to_be(stranger, service):
    """A link to an incident survives the sign-in; a link to elsewhere does not."""
    incident_id = open_incident(service.store, instance="next:1")
    stranger.goto(f"/incidents/{incident_id}")
    stranger.get_by_label("Admin token").fill(ADMIN)
    stranger.get_by_role("button", name="Sign in").click()
    expect(stranger).to_have_url(re.compile(f"/incidents/{incident_id}$"))
    stranger.context.clear_cookies()

    stranger.goto("/login?" + urlencode({"next": "//evil.example/"}))
    stranger.get_by_label("Admin token").fill(ADMIN)
    stranger.get_by_role("button", name="Sign in").click()
    expect(stranger).to_have_url(re.compile(r"^http://127\.0\.0\.1:\d+/$"))


def test_a_link_from_a_mail_or_a_chat_opens_the_page_and_not_the_sign_in(page, url, service):
    """Browsers keep SameSite=Strict cookies back on the first step from another site; one step more is ours."""
    incident_id = open_incident(service.store, instance="link:1")
    (alert,) = service.store.alerts(incident_id)
    address = f"{url}/alerts/{alertmanagers_fingerprint(alert.labels)}"
    page.goto(f"data:text/html,<a href='{address}'>the alert's incident</a>")
    page.get_by_role("link").click()

    expect(page.get_by_role("heading", level=1)).to_contain_text("evict_users")
    expect(page).to_have_url(f"{url}/incidents/{incident_id}")


def test_a_link_from_elsewhere_still_asks_a_stranger_to_sign_in(stranger, url):
    """The extra step ends at the form, not in a circle."""
    stranger.goto(f"data:text/html,<a href='{url}/handlers'>the handlers</a>")
    stranger.get_by_role("link").click()

    expect(stranger.get_by_label("Admin token")).to_be_visible()


def test_a_wrong_token_is_refused_and_ten_a_minute_are_enough(tmp_path, browser):
    """The form says so, keeps nothing, and then makes the guesser wait."""
    store = open_store(tmp_path)
    with listening(build(make_services(tmp_path, engine=engine_on(store), store=store))) as url:
        context = browser.new_context(base_url=url)
        page = context.new_page()
        sign_in(page, token="wrong-token-0123456789")
        expect(page.get_by_role("alert")).to_have_text("That is not the admin token.")
        (cookie,) = context.cookies(f"{url}/login")
        form = {"csrf": cookie["value"], "token": "another-wrong-one-012345"}
        statuses = [
            request(
                f"{url}/login",
                method="POST",
                body=urlencode(form).encode(),
                headers={"Cookie": f"{cookie['name']}={cookie['value']}", **FORM},
            ).status
            for _ in range(9)
        ]
        sign_in(page)
        expect(page.get_by_role("alert")).to_contain_text("Too many wrong tokens")
        names = {cookie["name"] for cookie in context.cookies()}
        context.close()
    store.close()

    assert [401] * 9 == statuses
    assert "llmvitals_session" not in names


def test_signing_out_ends_the_session_and_not_only_the_cookie(stranger, url):
    """The old cookie value opens nothing any more."""
    page = stranger
    sign_in(page)
    page.wait_for_url(f"{url}/")
    (cookie,) = [c for c in page.context.cookies() if c["name"] == "llmvitals_session"]
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(re.compile("/login$"))

    answer = request(url, headers={"Cookie": f"llmvitals_session={cookie['value']}"})
    assert (303, "/login?next=/") == (answer.status, answer.headers["location"])


@pytest.mark.parametrize("csrf", [None, "", "x" * 43, "é"])
def test_a_form_without_the_sessions_csrf_token_changes_nothing(page, url, service, csrf):
    """403, for a form that another page made up, with the cookie in hand."""
    (cookie,) = [c for c in page.context.cookies() if c["name"] == "llmvitals_session"]
    fields = {"wanted": "stop", "why": "forged", **({} if csrf is None else {"csrf": csrf})}
    answer = request(
        f"{url}/stop",
        method="POST",
        body=urlencode(fields).encode(),
        headers={
            "Cookie": f"llmvitals_session={cookie['value']}",
            **FORM,
        },
    )

    assert 403 == answer.status
    assert not service.engine.status()["kill_switch"]["engaged"]


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1"])
def test_a_form_from_another_origin_changes_nothing(page, url, service, origin):
    """Even with the right CSRF token."""
    (cookie,) = [c for c in page.context.cookies() if c["name"] == "llmvitals_session"]
    page.goto("/stop")
    csrf = page.locator("main input[name=csrf]").get_attribute("value")
    answer = request(
        f"{url}/stop",
        method="POST",
        body=urlencode({"csrf": csrf, "wanted": "stop", "why": "forged"}).encode(),
        headers={
            "Cookie": f"llmvitals_session={cookie['value']}",
            **FORM,
            "Origin": origin,
        },
    )

    assert 403 == answer.status
    assert not service.engine.status()["kill_switch"]["engaged"]


def test_stop_everything_and_resume(page, service):
    """A reason is needed; a banner on every page says who and why; the audit log keeps both."""
    page.get_by_role("link", name="Stop everything").click()
    page.get_by_role("button", name="Stop everything").click()  # The browser asks for the reason first.
    assert not service.engine.status()["kill_switch"]["engaged"]
    give_reason(page, "Stop everything", "the provider is on fire")

    expect(page.get_by_role("status")).to_contain_text("Everything is stopped. By ada (console)")
    expect(page.get_by_role("status")).to_contain_text("the provider is on fire")
    assert service.engine.status()["kill_switch"]["engaged"]
    page.get_by_role("link", name="Handlers").click()
    page.get_by_role("link", name="Resume…").first.click()
    give_reason(page, "Resume", "the fire is out")

    expect(page.get_by_text("Everything is stopped")).to_have_count(0)
    assert not service.engine.status()["kill_switch"]["engaged"]
    page.get_by_role("link", name="Audit").click()
    expect(page.get_by_role("row").nth(1)).to_contain_text("the fire is out")


def test_approve_from_the_first_page(page, service):
    """Waiting for you → the incident → approve with a reason → it goes on."""
    incident_id = open_incident(service.store, instance="approve:1", waiting=True)
    page.goto("/")
    page.get_by_role("link", name="approve:1").click()
    page.get_by_role("link", name="Approve…").click()
    what = re.compile(r"It does this on shop approve:1: evict_users \(keep: \d+\), through the agent\.")
    expect(page.get_by_text(what)).to_be_visible()
    give_reason(page, "Approve")

    expect(page).to_have_url(re.compile(f"/incidents/{incident_id}$"))
    expect(page.get_by_text("This waits for you")).to_have_count(0)
    expect(page.locator(".steps")).to_contain_text("Approved by ada (console)")
    assert "open" == service.store.incident(incident_id)["state"]


def test_veto_closes_the_incident_and_a_second_decision_is_told_to_be_too_late(page, service):
    """Two people decide at once: the later one learns it."""
    incident_id = open_incident(service.store, instance="veto:1", waiting=True)
    page.goto(f"/incidents/{incident_id}/veto")
    service.engine.veto(incident_id, who="bob", why="mine was faster")
    give_reason(page, "Veto")

    expect(page.get_by_role("heading", level=1)).to_have_text("Conflict")
    assert "vetoed" == service.store.incident(incident_id)["outcome"]
    page.expected_complaints = ["status of 409 (Conflict)"]


def test_pause_and_resume_a_handler(page, service):
    """The mode changes, and the page says so."""
    page.get_by_role("link", name="Handlers").click()
    card = page.locator("#warm_cache")
    expect(card).to_contain_text("acts on its own")
    card.get_by_role("link", name="Pause…").click()
    give_reason(page, "Pause")
    expect(card).to_contain_text("paused")
    assert "off" == {row["name"]: row["mode"] for row in service.engine.handlers()}["warm_cache"]

    card.get_by_role("link", name="Resume…").click()
    give_reason(page, "Resume")
    expect(card).to_contain_text("acts on its own")


def test_strangers_text_is_text(page, service):
    """Markup, quotes and template marks in labels and reasons show as they are, and run nothing."""
    incident_id = open_incident(service.store, instance=EVIL, waiting=True, note=EVIL, long="x" * 3000)
    service.engine.veto(incident_id, who=EVIL, why=EVIL)
    for path in ("/", f"/incidents/{incident_id}", "/audit"):
        page.goto(path)
        expect(page.get_by_text(EVIL).first).to_be_visible()
        assert "owned" not in page.title()
        assert 0 == page.locator("main script, main img").count()


@pytest.mark.parametrize("width", [390, 1200])
def test_no_page_is_wider_than_the_window(page, service, width):
    """On a telephone at night nobody scrolls sideways."""
    incident_id = open_incident(service.store, instance=f"wide-{width}", waiting=True, note="unbroken" * 200)
    page.set_viewport_size({"width": width, "height": 844})
    incident = f"/incidents/{incident_id}"
    for path in ("/", incident, f"{incident}/veto", "/handlers", "/audit", "/stop", "/runbooks/"):
        page.goto(path)
        over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert 0 == over, path


def test_lists_load_themselves_again_and_pages_with_a_form_do_not(page, service):
    """A reason that is half typed must not vanish."""
    incident_id = open_incident(service.store, instance="refresh:1", waiting=True)
    refreshed = {}
    for path in ("/", f"/incidents/{incident_id}", "/handlers", "/stop", f"/incidents/{incident_id}/approve"):
        page.goto(path)
        refreshed[path] = page.locator("meta[http-equiv=refresh]").count() == 1

    assert [True, True, True, False, False] == list(refreshed.values())


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/incidents/gone", "There is no incident of that id."),
        ("/alerts/0123456789abcdef", "No incident has this alert"),
    ],
)
def test_what_is_not_there_is_a_page_that_leads_back(page, path, text):
    """An old link from a mail is no dead end."""
    page.goto(path)

    expect(page.get_by_text(text)).to_be_visible()
    page.get_by_role("link", name="Back to the incidents").click()
    expect(page).to_have_url(re.compile("/$"))
    page.expected_complaints = ["status of 404 (Not Found)"]


def test_the_browser_itself_refuses_any_script(page):
    """Should markup ever slip through, the Content-Security-Policy still runs nothing."""
    page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
        " document.body.append(s); }"
    )

    assert page.evaluate("window.ran") is None
    page.expected_complaints = ["Content Security Policy"]
